#include "session/sequence.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <utility>

#include "base/busy.h"

namespace kvass {
namespace {

constexpr int64_t kMaxLength = int64_t{1} << 60;  // keeps sums of positions and sizes inside int64

std::atomic<uint64_t> tokens_written{1};  // of all sequences: a name for every position that a step writes

}  // namespace

Result<std::unique_ptr<Sequence>> Sequence::create(std::shared_ptr<const Engine> engine, const CacheOptions& options,
                                                   std::shared_ptr<CrossCache> cross) {
  std::unique_ptr<Sequence> sequence(new Sequence());
  if (cross && cross->dtype() != options.dtype) {
    return bad_input("cross cache", "keys and values stored as " + std::string(dtype_name(options.dtype)),
                     dtype_name(cross->dtype()));
  }
  if (cross && !cross->filled()) {
    return bad_input("cross cache", "one that a step has filled", "one that is not");
  }
  sequence->cross_ = std::move(cross);
  KVASS_ASSIGN_OR_RETURN(sequence->plan_, plan_caches(engine->cache_shapes(), options));
  KVASS_ASSIGN_OR_RETURN(sequence->block_, CacheMemory::map(engine->device(), sequence->plan_.bytes));
  sequence->engine_ = std::move(engine);
  sequence->options_ = options;
  sequence->first_held_.resize(sequence->plan_.layers.size());
  sequence->checkpoints_.resize(static_cast<size_t>(options.checkpoints));
  const std::vector<LayerCache>& layers = sequence->plan_.layers;
  const bool all_full =
      std::none_of(layers.begin(), layers.end(), [](const LayerCache& l) { return l.layout.endless(); });
  if (all_full) sequence->written_by_.resize(static_cast<size_t>(options.context), 0);
  sequence->rewind_all();
  return sequence;
}

bool Sequence::cross_is_mine() const {
  if (cross_.use_count() != 1) return false;
  // The others have let go of it, but nothing says yet that their last reads were before that: letting go of a
  // reference of one's own does, since it waits for what was done before each earlier letting go.
  std::shared_ptr<CrossCache>(cross_).reset();
  return true;
}

Status Sequence::own_cross() {
  if (cross_is_mine()) return {};
  KVASS_ASSIGN_OR_RETURN(cross_, CrossCache::create(engine_->program(), options_.dtype));
  return {};
}

Status Sequence::check_extend(int64_t start, int64_t count) const {
  if (count > plan_.chunk) {
    return bad_input("tokens of a step", "at most the planned " + std::to_string(plan_.chunk) + " (CacheOptions.chunk)",
                     std::to_string(count));
  }
  const int64_t length = this->length();
  for (const LayerCache& layer : plan_.layers) KVASS_RETURN_IF_ERROR(layer.layout.check_extend(length, start, count));
  return {};
}

void Sequence::overwrite(int64_t count) {
  const int64_t start = length(), end = start + count;
  for (Checkpoint& checkpoint : checkpoints_) {
    if (checkpoint.position > start) checkpoint.position = -1;  // another stream from here on
  }
  name_positions(start, end);
  for (size_t i = 0; i < first_held_.size(); ++i) {
    first_held_[i] = plan_.layers[i].layout.first_held_after(first_held_[i], end);
  }
}

void Sequence::commit(int64_t count) {
  overwrite(count);
  set_length(length() + count);
}

void Sequence::abandon(int64_t count) {
  overwrite(count);
  set_length(length());
}

Status Sequence::busy_error() {
  return Status::error(StatusCode::busy, expected_message("sequence", "one caller at a time",
                                                          "a second one while another works with it"));
}

Status Sequence::clear() {
  const Busy busy(busy_);
  if (!busy.mine()) return busy_error();
  rewind_all();
  drop_cross();
  return {};
}

void Sequence::drop_cross() {
  if (cross_is_mine()) {
    cross_->clear();
  } else {
    cross_.reset();
  }
}

void Sequence::rewind_all() {
  for (size_t i = 0; i < first_held_.size(); ++i) first_held_[i] = plan_.layers[i].layout.sink();
  drop_checkpoints();
  set_length(0);
}

void Sequence::drop_checkpoints() {
  for (Checkpoint& checkpoint : checkpoints_) checkpoint.position = -1;
}

// In a ring nothing says which of the older keys are still there: then all of it is forgotten.
void Sequence::forget_from(int64_t position) {
  if (written_by_.empty() || position == 0) {
    std::fill(written_by_.begin(), written_by_.end(), uint64_t{0});
    rewind_all();
    return;
  }
  std::fill(written_by_.begin() + position, written_by_.end(), uint64_t{0});
  for (Checkpoint& checkpoint : checkpoints_) {
    if (checkpoint.position > position) checkpoint.position = -1;
  }
  set_length(std::min(length(), position));
}

void Sequence::set_length(int64_t length) {
  int64_t floor = 0;
  for (size_t i = 0; i < first_held_.size(); ++i) {
    const Layout& layout = plan_.layers[i].layout;
    if (layout.endless()) floor = std::max(floor, layout.rewind_floor(first_held_[i]));
  }
  rewind_floor_.store(std::min(floor, length), std::memory_order_release);
  length_.store(length, std::memory_order_release);
}

Status Sequence::copy_from(const Sequence& other, int64_t length) {
  if (other.engine_ != engine_ || other.options_ != options_) {
    return bad_input("sequence to copy", "one of the same engine and cache options", "another");
  }
  if (&other == this) return rewind(length);
  const Busy busy(busy_), other_busy(other.busy_);
  if (!busy.mine() || !other_busy.mine()) return busy_error();
  // What may be refused, before anything changes.
  KVASS_ASSIGN_OR_RETURN(const Checkpoint* const checkpoint, other.checkpoint_for_rewind(length));
  const bool source = other.cross_ && other.cross_->rows() > 0;
  const bool unfilled = source && !other.cross_->filled();
  std::shared_ptr<CrossCache> own = unfilled && cross_is_mine() ? cross_ : nullptr;
  if (unfilled && !own) {
    KVASS_ASSIGN_OR_RETURN(own, CrossCache::create(engine_->program(), options_.dtype));
  }
  const int64_t common = std::min(common_with(other), length);
  std::vector<int64_t>& held = first_held_;
  Status copied;
  const auto copy = [&](size_t to, size_t from, size_t bytes) {
    if (copied.ok()) copied = block_.copy(to, other.block_, from, bytes);
    return copied;
  };
  for (size_t i = 0; i < plan_.layers.size(); ++i) {
    const LayerCache& layer = plan_.layers[i];
    const bool kept = checkpoint != nullptr && layer.layout.endless();  // its ring comes from the checkpoint
    held[i] = kept ? other.first_seen(i, length) : other.first_held_[i];
    if (length <= layer.layout.sink()) held[i] = layer.layout.sink();
    for_each_tile_range(layer, std::max(common, held[i]), length, [&](size_t offset, size_t bytes) {
      if (!kept || offset < layer.ring_offset) copy(offset, offset, bytes);
    });
  }
  if (checkpoint != nullptr && copied.ok()) other.for_each_kept(*checkpoint, copy);
  if (!copied.ok()) {
    forget_from(common);
    return copied;
  }
  for (int64_t i = common; i < length && !written_by_.empty(); ++i) {
    written_by_[static_cast<size_t>(i)] = other.written_by_[static_cast<size_t>(i)];
  }
  if (unfilled) {
    own->copy_from(*other.cross_);
    cross_ = std::move(own);
  } else if (source) {
    cross_ = other.cross_;
  } else {
    drop_cross();
  }
  drop_checkpoints();
  set_length(length);
  return {};
}

void Sequence::name_positions(int64_t begin, int64_t end) {
  if (written_by_.empty()) return;
  uint64_t name = tokens_written.fetch_add(static_cast<uint64_t>(end - begin), std::memory_order_relaxed);
  for (int64_t i = begin; i < end; ++i) written_by_[static_cast<size_t>(i)] = name++;
}

// A step's name stands at one position, and everything before it was there when it ran: so the names agree up to some
// position and differ from there on.
int64_t Sequence::common_with(const Sequence& other) const {
  if (written_by_.empty()) return 0;
  const auto end = other.written_by_.begin() + other.length();
  return std::mismatch(other.written_by_.begin(), end, written_by_.begin()).first - other.written_by_.begin();
}

Result<std::unique_ptr<Sequence>> Sequence::fork() const {
  KVASS_ASSIGN_OR_RETURN(std::unique_ptr<Sequence> sequence, create(engine_, options_));
  KVASS_RETURN_IF_ERROR(sequence->copy_from(*this));
  return sequence;
}

Status Sequence::restore(int64_t length, std::span<const int64_t> first_held, const CrossFill& cross,
                         std::span<const uint8_t> held) {
  if (length < 0 || length > kMaxLength) return bad_input("length", "0 to 2^60 tokens", std::to_string(length));
  if (first_held.size() != plan_.layers.size()) {
    return bad_input("layers", std::to_string(plan_.layers.size()), std::to_string(first_held.size()));
  }
  size_t bytes = 0;
  for (size_t i = 0; i < plan_.layers.size(); ++i) {
    const Layout& layout = plan_.layers[i].layout;
    if (!layout.endless() && length > layout.ring_slots()) {
      return bad_input("length", "at most the context of " + std::to_string(layout.ring_slots()) + " tokens",
                       std::to_string(length));
    }
    // Where the held positions may begin: they fit into the ring, and nothing that the next row sees is missing.
    const int64_t sink = layout.sink();
    const int64_t least = std::max(sink, length - layout.ring_slots());
    const int64_t most = layout.endless() && length > sink ? std::max(sink, first_seen(i, length)) : sink;
    if (first_held[i] < least || first_held[i] > most) {
      return bad_input("first position of layer " + std::to_string(i),
                       std::to_string(least) + " to " + std::to_string(most), std::to_string(first_held[i]));
    }
    for_each_tile_range(plan_.layers[i], first_held[i], length, [&](size_t, size_t count) { bytes += count; });
  }
  KVASS_ASSIGN_OR_RETURN(const size_t cross_bytes, CrossCache::held_bytes(engine_->program(), options_.dtype, cross));
  if (bytes + cross_bytes != held.size()) {
    return bad_input("keys and values", std::to_string(bytes + cross_bytes) + " bytes", std::to_string(held.size()));
  }
  const Busy busy(busy_);
  if (!busy.mine()) return busy_error();
  std::shared_ptr<CrossCache> own = cross_;
  if (cross.rows > 0 && !cross_is_mine()) {
    KVASS_ASSIGN_OR_RETURN(own, CrossCache::create(engine_->program(), options_.dtype));
  }
  const uint8_t* from = held.data();
  Status written;
  for (size_t i = 0; i < plan_.layers.size(); ++i) {
    for_each_tile_range(plan_.layers[i], first_held[i], length, [&](size_t offset, size_t count) {
      if (written.ok()) written = block_.write(offset, from, count);
      from += count;
    });
  }
  if (!written.ok()) {
    forget_from(0);
    return written;
  }
  if (cross.rows > 0) {
    cross_ = std::move(own);
    cross_->restore(cross, from);
  } else {
    own.reset();  // before somebody counts the references
    drop_cross();
  }
  drop_checkpoints();
  first_held_.assign(first_held.begin(), first_held.end());
  name_positions(0, length);
  set_length(length);
  return {};
}

size_t Sequence::held_bytes() const {
  size_t bytes = 0;
  for (size_t i = 0; i < plan_.layers.size(); ++i) {
    for_each_tile_range(plan_.layers[i], first_held_[i], length(), [&](size_t, size_t count) { bytes += count; });
  }
  if (cross_) cross_->for_each_held([&](std::span<const uint8_t> held) { bytes += held.size(); });
  return bytes;
}

int64_t Sequence::first_seen(size_t layer, int64_t length) const {
  return plan_.layers[layer].layout.row_visibility(length).begin;
}

bool Sequence::holds(size_t layer, int64_t length) const {
  return plan_.layers[layer].layout.holds(first_held_[layer], length);
}

bool Sequence::all_hold(int64_t length) const {
  if (length == 0 || length == this->length()) return true;  // at 0 nothing is held, and nothing is needed
  for (size_t i = 0; i < first_held_.size(); ++i) {
    if (!holds(i, length)) return false;
  }
  return true;
}

const Sequence::Checkpoint* Sequence::find_checkpoint(int64_t length) const {
  const auto at = std::find_if(checkpoints_.begin(), checkpoints_.end(),
                               [&](const Checkpoint& checkpoint) { return checkpoint.position == length; });
  return at == checkpoints_.end() ? nullptr : &*at;
}

Result<const Sequence::Checkpoint*> Sequence::checkpoint_for_rewind(int64_t length) const {
  if (length < 0 || length > this->length()) {
    return bad_input("rewind", "a position from 0 to " + std::to_string(this->length()), std::to_string(length));
  }
  if (all_hold(length)) return static_cast<const Checkpoint*>(nullptr);
  if (const Checkpoint* const checkpoint = find_checkpoint(length)) return checkpoint;
  std::string kept;
  for (const int64_t position : checkpoints()) {
    kept += (kept.empty() ? ", or a checkpoint at " : ", ") + std::to_string(position);
  }
  return bad_input("rewind",
                   "a position that every layer still holds, " + std::to_string(rewind_floor()) + " to " +
                       std::to_string(this->length()) + kept,
                   std::to_string(length));
}

int64_t Sequence::rewind_place(int64_t length) const {
  length = std::min(length, this->length());
  if (length >= rewind_floor() || all_hold(length)) return length;
  int64_t place = 0;
  for (const int64_t position : checkpoints()) {
    if (position <= length) place = position;
  }
  return place;
}

Status Sequence::rewind(int64_t length) {
  const Busy busy(busy_);
  if (!busy.mine()) return busy_error();
  KVASS_ASSIGN_OR_RETURN(const Checkpoint* const checkpoint, checkpoint_for_rewind(length));
  if (checkpoint != nullptr) {
    const Status copied = for_each_kept(
        *checkpoint, [&](size_t cache, size_t kept, size_t bytes) { return block_.copy(cache, block_, kept, bytes); });
    if (!copied.ok()) {  // newer keys stand between older ones
      forget_from(0);
      return copied;
    }
    for (size_t i = 0; i < first_held_.size(); ++i) {
      if (plan_.layers[i].layout.endless()) first_held_[i] = first_seen(i, length);
    }
  }
  for (size_t i = 0; i < first_held_.size(); ++i) {
    if (length <= plan_.layers[i].layout.sink()) first_held_[i] = plan_.layers[i].layout.sink();
  }
  set_length(length);
  return {};
}

Status Sequence::checkpoint() {
  const Busy busy(busy_);
  if (!busy.mine()) return busy_error();
  const int64_t length = this->length();
  if (checkpoints_.empty()) return bad_input("checkpoint", "places for some (CacheOptions.checkpoints)", "none");
  Checkpoint* place = &checkpoints_[0];
  for (Checkpoint& checkpoint : checkpoints_) {
    if (checkpoint.position == length) return {};
    const auto rank = [](const Checkpoint& one) { return one.position < 0 ? -1 : one.age; };
    if (rank(checkpoint) < rank(*place)) place = &checkpoint;
  }
  for (size_t i = 0; i < first_held_.size(); ++i) {
    if (!holds(i, length)) {
      return bad_input("checkpoint", "a position that every layer holds", std::to_string(length));
    }
  }
  *place = {length, checkpoints_made_++};
  const Status kept =
      for_each_kept(*place, [&](size_t from, size_t to, size_t bytes) { return block_.copy(to, block_, from, bytes); });
  if (!kept.ok()) place->position = -1;
  return kept;
}

std::vector<int64_t> Sequence::checkpoints() const {
  std::vector<int64_t> positions;
  for (const Checkpoint& checkpoint : checkpoints_) {
    if (checkpoint.position >= 0) positions.push_back(checkpoint.position);
  }
  std::sort(positions.begin(), positions.end());
  return positions;
}

template <class Body>
Status Sequence::for_each_kept(const Checkpoint& checkpoint, Body&& body) const {
  Status status;
  const size_t kept =
      plan_.checkpoint_base + static_cast<size_t>(&checkpoint - checkpoints_.data()) * plan_.checkpoint_bytes;
  for (size_t i = 0; i < plan_.layers.size(); ++i) {
    const LayerCache& layer = plan_.layers[i];
    if (layer.checkpoint_tiles == 0) continue;
    size_t at = kept + layer.checkpoint_offset;
    const auto copy = [&](size_t offset, size_t bytes) {
      if (offset < layer.ring_offset || !status.ok()) return;  // sink tiles stay where they are
      status = body(offset, at, bytes);
      at += bytes;
    };
    for_each_tile_range(layer, first_seen(i, checkpoint.position), checkpoint.position, copy);
  }
  return status;
}

}  // namespace kvass
