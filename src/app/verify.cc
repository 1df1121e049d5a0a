#include "app/verify.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <utility>

namespace kvass {
namespace {

// A hash of bits, not of numbers: +0 and −0 differ, and NaN equals itself. Every step is a bijection of its lane, so
// two rows that differ in one number never collide. 0 is kept for "none".
constexpr uint64_t kOdd = 0x9e3779b97f4a7c15;  // 2^64 / golden ratio

uint64_t mix(uint64_t hash, uint64_t word) { return std::rotl(hash ^ word, 29) * kOdd; }

uint64_t hash_row(const float* data, int64_t width) {
  uint64_t lanes[4] = {1, 2, 3, 4};
  int64_t i = 0;
  for (; i + 8 <= width; i += 8) {
    uint64_t words[4];
    std::memcpy(words, data + i, sizeof words);
    for (int lane = 0; lane < 4; ++lane) lanes[lane] = mix(lanes[lane], words[lane]);
  }
  for (; i < width; ++i) {
    uint32_t word;
    std::memcpy(&word, data + i, sizeof word);
    lanes[0] = mix(lanes[0], word);
  }
  uint64_t hash = static_cast<uint64_t>(width);
  for (uint64_t lane : lanes) hash = mix(hash, lane);
  hash ^= hash >> 32;
  return hash == 0 ? 1 : hash;
}

}  // namespace

VerifyRecorder::VerifyRecorder(const VerifyInput& input, bool every_op, const std::atomic<bool>& cancel)
    : program_(&input.engine->program()), cancel_(&cancel), tokens_(static_cast<int64_t>(input.ids.size())) {
  int64_t recorded = 0;
  for (size_t i = 0; i < program_->values.size(); ++i) {
    const ValueId id = static_cast<ValueId>(i);
    const bool wanted = every_op || id == program_->hidden || id == program_->logits;
    slots_.push_back(wanted ? recorded++ : -1);
  }
  hashes_.resize(static_cast<size_t>(recorded * tokens_));
}

Status VerifyRecorder::step(Session& session, std::span<const Run> runs, size_t subject) {
  if (cancel_->load(std::memory_order_relaxed)) return Status::error(StatusCode::cancelled, "verify: interrupted");
  first_row_ = 0;
  for (size_t i = 0; i < subject; ++i) first_row_ += static_cast<int64_t>(runs[i].tokens.size());
  rows_ = static_cast<int64_t>(runs[subject].tokens.size());
  start_ = runs[subject].start;
  session.set_probe([&](const ProbeView& view) { record(view, session); });
  const int64_t most = session.options().head_rows;
  Status status;
  bool first = true;
  for (int64_t at = 0; status.ok(); first = false) {  // what the step is not asked for is asked for afterwards
    head_rows_.clear();
    for (; at < rows_ && static_cast<int64_t>(head_rows_.size()) < most; ++at) {
      if ((start_ + at) % logits_every_ == 0) head_rows_.push_back(static_cast<int32_t>(first_row_ + at));
    }
    if (head_rows_.empty() && !first) break;
    status =
        session.step({.runs = first ? runs : std::span<const Run>(), .logits = head_rows_, .cancel = cancel_}).status();
  }
  session.set_probe(nullptr);
  return status;
}

void VerifyRecorder::record(const ProbeView& view, Session& session) {
  if (slots_[static_cast<size_t>(view.value)] < 0) return;
  const bool head = program_->values[static_cast<size_t>(view.value)].extent == Extent::head;
  const int64_t count = head ? static_cast<int64_t>(head_rows_.size()) : rows_;
  const float* data = view.data + (head ? 0 : first_row_ * view.width);
  row_hashes_.resize(static_cast<size_t>(count));
  session.pool().run(count, [&](int64_t i, int) {
    row_hashes_[static_cast<size_t>(i)] = hash_row(data + i * view.width, view.width);
  });
  for (int64_t i = 0; i < count; ++i) {
    const int64_t row = head ? head_rows_[static_cast<size_t>(i)] - first_row_ : i;
    store(view.value, start_ + row, row_hashes_[static_cast<size_t>(i)]);
  }
}

void VerifyRecorder::store(ValueId value, int64_t position, uint64_t hash) {
  uint64_t& kept = hashes_[static_cast<size_t>(slots_[static_cast<size_t>(value)] * tokens_ + position)];
  kept = kept == 0 || kept == hash ? hash : mix(kept, hash) | 1;  // two results of one position equal no reference
}

bool VerifyRecorder::complete() const {
  const uint64_t* hidden = row(program_->hidden);
  return std::find(hidden, hidden + tokens_, uint64_t{0}) == hidden + tokens_;
}

uint64_t VerifyRecorder::checksum() const {
  uint64_t sum = 0;
  const uint64_t* logits = row(program_->logits);
  for (int64_t i = 0; i < tokens_; ++i) {
    if (logits[i] != 0) sum = mix(sum, logits[i]);
  }
  return sum;
}

bool VerifyRecorder::identical(const VerifyRecorder& reference) const {
  if (tokens_ != reference.tokens_) return false;
  for (ValueId value : {program_->hidden, program_->logits}) {
    for (int64_t i = 0; i < tokens_; ++i) {
      const uint64_t mine = row(value)[i], other = reference.row(value)[i];
      if (mine != other && mine != 0 && other != 0) return false;
    }
  }
  return true;
}

std::string VerifyRecorder::first_difference(const VerifyRecorder& reference) const {
  for (int64_t position = 0; position < tokens_; ++position) {
    for (const Op& op : program_->ops) {
      for (ValueId value : op.outputs) {
        const uint64_t mine = row(value)[position], other = reference.row(value)[position];
        if (mine != other && mine != 0 && other != 0) return "position " + std::to_string(position) + ", " + op.name;
      }
    }
  }
  return "";
}

Result<std::vector<VerifyRow>> verify(const VerifyInput& input, std::span<const VerifyCase> cases,
                                      const std::function<void(const VerifyRow&)>& on_row,
                                      const std::atomic<bool>& cancel) {
  const auto record = [&](const VerifyCase& one, bool every_op) -> Result<VerifyRecorder> {
    VerifyRecorder recorder(input, every_op, cancel);
    KVASS_RETURN_IF_ERROR(one.run(input, recorder));
    if (!recorder.complete()) return bad_input("case '" + one.name + "'", "every position of the text", "fewer");
    return recorder;
  };
  struct Reference {
    const VerifyCase* made_by;
    VerifyRecorder recorder;
    std::unique_ptr<VerifyRecorder> every_op;  // once a case has differed
  };
  std::map<std::string, Reference> references;
  std::vector<VerifyRow> rows;
  for (const VerifyCase& one : cases) {
    KVASS_ASSIGN_OR_RETURN(VerifyRecorder recorder, record(one, /*every_op=*/false));
    VerifyRow row{one.name, recorder.checksum(), true, ""};
    if (one.reference.empty()) {
      references.emplace(one.name, Reference{&one, std::move(recorder), nullptr});
    } else {
      const auto found = references.find(one.reference);
      if (found == references.end()) return bad_input("reference of '" + one.name + "'", "a case before it", "none");
      Reference& reference = found->second;
      row.identical = recorder.identical(reference.recorder);
      if (!row.identical) {
        if (!reference.every_op) {
          KVASS_ASSIGN_OR_RETURN(VerifyRecorder all, record(*reference.made_by, /*every_op=*/true));
          reference.every_op = std::make_unique<VerifyRecorder>(std::move(all));
        }
        KVASS_ASSIGN_OR_RETURN(const VerifyRecorder again, record(one, /*every_op=*/true));
        row.first_difference = again.first_difference(*reference.every_op);
        if (row.first_difference.empty()) row.first_difference = "not there when run again";
      }
    }
    if (on_row) on_row(row);
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace kvass
