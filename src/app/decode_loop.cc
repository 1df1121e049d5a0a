#include "app/decode_loop.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <numeric>
#include <optional>
#include <utility>

#include "app/text_output.h"

namespace kvass {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

}  // namespace

struct DecodeLoop::Slot {
  Slot(int64_t id, DecodeRequest from, const Tokenizer& tokenizer)
      : id(id), request(std::move(from)), output(tokenizer, request.options, result, request.on_text) {}

  const int64_t id;
  DecodeRequest request;
  DecodeResult result;
  TextOutput output;
  std::optional<Sampler> own_sampler;

  std::vector<int32_t> prompt;  // what is pending of a resumed text, then its prompt
  size_t resumed = 0;           // tokens of it that were pending
  size_t read = 0;              // tokens of it that are in the caches
  int32_t token = 0;            // the latest: the last of the prompt, then the generated ones
  int32_t before = 0;           // the one before the generated one
  bool pending = false;         // the sampler has seen `token`, the caches have not

  // Of the step.
  int64_t count = 0;   // tokens that it brings
  int32_t row = -1;    // of the step, whose logits it wants; -1: none
  bool fresh = false;  // `token` was chosen in it

  TokenLogprobs logprobs;                      // of `token`
  std::vector<TokenLogprobs> prompt_logprobs;  // with score_prompt
  std::vector<RankedToken> ranked;             // [logprobs]

  bool begun = false;
  bool ended = false;
  bool cancelled = false;    // by cancel()
  bool piece_given = false;  // the piece was in an event
  bool end_given = false;
  bool keeps = false;  // the result has a state
  Clock::time_point begin_time, decode_time;

  Sequence& sequence() const { return *request.sequence; }
  Sampler& sampler() { return request.sampler ? *request.sampler : *own_sampler; }
  const DecodeOptions& options() const { return request.options; }
  bool reading() const { return read < prompt.size(); }
  bool complete() const { return result.tokens >= options().max_tokens; }
  static bool is_set(const std::atomic<bool>* flag) { return flag && flag->load(std::memory_order_relaxed); }
  bool is_cancelled() const { return cancelled || is_set(request.cancel) || is_set(request.options.suspend); }
  std::span<const int32_t> tokens() const {  // of the step
    return reading() ? std::span(prompt).subspan(read, static_cast<size_t>(count)) : std::span(&token, 1);
  }

  // What a snapshot has beside the caches when `next` are the next tokens.
  StreamState state(std::span<const int32_t> next) {
    StreamState state;
    state.sampling = sampler().options();
    state.ignore_eos = options().ignore_eos;
    state.stops = options().stops;
    state.recent = sampler().recent();
    state.pending.assign(next.begin(), next.end());
    output.save(state);
    return state;
  }
};

DecodeLoop::DecodeLoop(Session& session, const Tokenizer& tokenizer)
    : session_(&session),
      tokenizer_(&tokenizer),
      vocabulary_(session.engine().program().vocabulary()),
      capacity_(std::min({session.options().sequences, session.options().rows, session.options().head_rows})) {
  const auto most = static_cast<size_t>(capacity_);
  slots_.reserve(most);
  runs_.reserve(most);
  rows_.reserve(most);
  sampled_.reserve(most);
  largest_.reserve(most);
  events_.reserve(most);
}
DecodeLoop::DecodeLoop(DecodeLoop&&) noexcept = default;
DecodeLoop::~DecodeLoop() = default;

// Checked before any work, so that a prompt never fails in its middle.
Status check_room(const Sequence& sequence, int64_t length, size_t tokens, const std::string& what) {
  const int64_t room = std::max<int64_t>(sequence.options().context - length, 0);
  if (sequence.endless() || tokens <= static_cast<size_t>(room)) return {};
  return Status::error(StatusCode::cache_full,
                       what + ": expected at most " + std::to_string(room) + " tokens (CacheOptions.context), got " +
                           std::to_string(tokens) +
                           "; raise CacheOptions.context, or stream without end with CacheOptions.sinks");
}

Status check_stops(std::string_view field, std::span<const std::string> stops) {
  const bool empty = std::any_of(stops.begin(), stops.end(), [](const std::string& stop) { return stop.empty(); });
  return empty ? bad_input(field, "texts that are not empty", "an empty one") : Status();
}

Status DecodeLoop::check(const DecodeRequest& request) const {
  const DecodeOptions& options = request.options;
  if (size() == capacity_) {
    return bad_input("texts of the loop", "at most " + std::to_string(capacity_) + " at a time", "one more");
  }
  if (request.sequence == nullptr || &request.sequence->engine() != &session_->engine()) {
    return bad_input("sequence of a text", "one of the session's engine", "another");
  }
  const Sequence& sequence = *request.sequence;
  for (const auto& slot : slots_) {
    if (&slot->sequence() == &sequence) return bad_input("sequence of a text", "one of its own", "one that is in use");
    if (slot->sequence().options().dtype != sequence.options().dtype) {
      return bad_input("sequence of a text", "the storage type of the others", dtype_name(sequence.options().dtype));
    }
  }
  KVASS_RETURN_IF_ERROR(check_stops("GenerateOptions.stops", options.stops));
  const std::vector<int32_t> none;
  const std::vector<int32_t>& pending = options.resume ? options.resume->pending : none;
  const size_t tokens = pending.size() + options.prompt.size();
  if (tokens == 0) return bad_input("prompt", "at least one token", "none");
  for (const std::vector<int32_t>* ids : {&pending, &options.prompt}) {
    for (const int32_t id : *ids) {
      if (id >= 0 && id < vocabulary_) continue;
      return bad_input("token id", "0 to " + std::to_string(vocabulary_ - 1), std::to_string(id));
    }
  }
  if (options.resume && !sequence.endless()) {
    const int64_t context = sequence.options().context, room = context - sequence.length();
    if (static_cast<int64_t>(tokens) > room) {
      return Status::error(
          StatusCode::cache_full,
          expected_message("cache full", "room for " + std::to_string(tokens) + (tokens == 1 ? " token" : " tokens"),
                           std::to_string(room) + " left of CacheOptions.context " + std::to_string(context)));
    }
  }
  return check_room(sequence, sequence.length(), tokens, "prompt");
}

Result<int64_t> DecodeLoop::add(DecodeRequest request) {
  KVASS_RETURN_IF_ERROR(check(request));
  auto slot = std::make_unique<Slot>(next_id_, std::move(request), *tokenizer_);
  DecodeOptions& options = slot->request.options;
  const StreamState* resume = std::exchange(options.resume, nullptr);
  if (slot->request.sampler == nullptr) {
    KVASS_ASSIGN_OR_RETURN(Sampler sampler, Sampler::create(options.sampling, vocabulary_, session_->engine().isa()));
    slot->own_sampler.emplace(std::move(sampler));
    if (resume) slot->own_sampler->accept(resume->recent);
  }
  slot->sampler().accept(options.prompt);
  if (resume) {
    slot->prompt = resume->pending;
    slot->resumed = slot->prompt.size();
    slot->output.resume(*resume, /*ended=*/!options.prompt.empty());
  }
  slot->prompt.insert(slot->prompt.end(), options.prompt.begin(), options.prompt.end());
  if (slot->request.logprobs >= 0) {
    slot->ranked.resize(static_cast<size_t>(std::min(slot->request.logprobs, vocabulary_)));
  }
  options.prompt = {};
  slot->token = slot->prompt.back();
  slot->result.prompt_tokens = static_cast<int64_t>(slot->prompt.size());
  slots_.push_back(std::move(slot));
  return next_id_++;
}

// What every text brings to the step, and the rows whose logits are wanted of it.
void DecodeLoop::plan() {
  int64_t room = session_->options().rows;
  for (const auto& owned : slots_) {
    Slot& slot = *owned;
    slot.count = 0;
    slot.row = -1;
    if (std::exchange(slot.piece_given, false)) slot.output.clear_piece();
    if (slot.ended) continue;
    if (!std::exchange(slot.begun, true)) slot.begin_time = Clock::now();
    const bool may_end = !slot.options().continues || slot.reading();
    if (slot.output.refused() || (may_end && slot.is_cancelled())) {
      end(slot, StopReason::cancelled);
    } else if (!slot.reading()) {
      const int64_t every = slot.options().save_every;
      if (every > 0 && slot.result.tokens % every == 0) slot.options().on_state(slot.state(std::span(&slot.token, 1)));
      slot.count = 1;
      --room;
    }
  }
  give_room(std::min(room, prompt_rows_));
  runs_.clear();
  rows_.clear();
  sampled_.clear();
  int32_t row = 0;
  for (const auto& owned : slots_) {
    Slot& slot = *owned;
    if (slot.count == 0) continue;
    runs_.push_back({&slot.sequence(), slot.sequence().length(), slot.tokens()});
    row += static_cast<int32_t>(slot.count);
    const bool read = slot.read + static_cast<size_t>(slot.count) >= slot.prompt.size();
    if (!read || slot.complete() || slot.output.matched()) continue;
    slot.row = row - 1;
    rows_.push_back(slot.row);
    sampled_.push_back(&slot);
  }
}

// Rows for those that read their prompt, beginning after the one that was the first in the last step.
void DecodeLoop::give_room(int64_t room) {
  const auto next =
      std::find_if(slots_.begin(), slots_.end(), [&](const auto& slot) { return slot->id > first_served_; });
  const size_t first = static_cast<size_t>(next - slots_.begin());
  bool served = false;
  for (size_t i = 0; i < slots_.size() && room > 0; ++i) {
    Slot& slot = *slots_[(first + i) % slots_.size()];
    if (slot.ended || !slot.reading()) continue;
    const auto unread = static_cast<int64_t>(slot.prompt.size() - slot.read);
    slot.count = std::min({room, slot.sequence().plan().chunk, unread});
    room -= slot.count;
    if (!std::exchange(served, true)) first_served_ = slot.id;
  }
}

// What may cut the step short: it reads prompts alone, and one flag ends all of them.
const std::atomic<bool>* DecodeLoop::step_cancel() const {
  const std::atomic<bool>* flag = nullptr;
  for (const auto& slot : slots_) {
    if (slot->count == 0) continue;
    const std::atomic<bool>* own = slot->request.cancel;
    if (!slot->reading() || own == nullptr || (flag != nullptr && flag != own)) return nullptr;
    flag = own;
  }
  return flag;
}

// The planned step on the session, with what is wanted of it: the largest logit of each row where that is all that any
// sampler asks for, otherwise all logits. The one place that knows the session's calls.
Status DecodeLoop::run() {
  logits_ = {};
  largest_.clear();
  const bool largest = std::all_of(sampled_.begin(), sampled_.end(), [](Slot* slot) {
    return slot->sampler().takes_argmax() && slot->request.logprobs < 0 && !slot->request.on_logits;
  });
  const bool scores = std::any_of(slots_.begin(), slots_.end(), [](const auto& slot) {
    return slot->count > 0 && slot->reading() && slot->request.score_prompt;
  });
  StepRequest request{.runs = runs_, .cancel = step_cancel()};
  if (scores) {  // the rows of the prompts first: the last answer is the one that stays
    KVASS_RETURN_IF_ERROR(session_->step(request).status());
    score_prompts();
    if (rows_.empty()) return {};
    request = {};
  }
  (largest ? request.argmax : request.logits) = rows_;
  KVASS_ASSIGN_OR_RETURN(const StepResult result, session_->step(request));
  for (const Argmax& answer : result.argmax) largest_.push_back(static_cast<int32_t>(answer.index));
  logits_ = result.logits;
  return {};
}

// What the last step says of the prompts that are scored, in blocks of rows. A text for which that fails (a device has)
// ends: the step has run.
void DecodeLoop::score_prompts() {
  const auto most = static_cast<size_t>(session_->options().head_rows);
  int32_t first = 0;  // row of the step
  for (const auto& owned : slots_) {
    Slot& slot = *owned;
    const auto begin = first;
    first += static_cast<int32_t>(slot.count);
    if (slot.count == 0 || !slot.reading() || !slot.request.score_prompt) continue;
    const auto next = std::span(slot.prompt).subspan(slot.read + 1);  // that the rows are followed by
    const size_t targets = std::min(static_cast<size_t>(slot.count), next.size());
    slot.prompt_logprobs.resize(slot.read);  // a step that has failed may be repeated
    for (size_t at = 0; at < targets; at += most) {
      const size_t count = std::min(most, targets - at);
      std::vector<int32_t> rows(count);
      std::iota(rows.begin(), rows.end(), begin + static_cast<int32_t>(at));
      const Result<StepResult> result = session_->step({.logits = rows});
      if (!result.ok()) {
        end(slot, StopReason::failed, result.status());
        break;
      }
      std::vector<TokenLogprobs> values(count);
      session_->pool().run(static_cast<int64_t>(count), [&](int64_t i, int) {
        std::vector<RankedToken> ranked(slot.ranked.size());
        token_logprobs(result->logits.subspan(static_cast<size_t>(i * vocabulary_), static_cast<size_t>(vocabulary_)),
                       next[at + static_cast<size_t>(i)], session_->engine().isa(), ranked,
                       values[static_cast<size_t>(i)]);
      });
      std::move(values.begin(), values.end(), std::back_inserter(slot.prompt_logprobs));
    }
  }
}

std::span<const TokenLogprobs> DecodeLoop::prompt_logprobs(int64_t id) const {
  const Slot* slot = find(id);
  return slot == nullptr ? std::span<const TokenLogprobs>() : std::span(slot->prompt_logprobs);
}

void DecodeLoop::commit() {
  for (const auto& owned : slots_) {
    Slot& slot = *owned;
    if (slot.count == 0) continue;
    if (!slot.reading()) {
      slot.pending = false;
      continue;
    }
    slot.read += static_cast<size_t>(slot.count);
    if (slot.reading()) continue;
    slot.decode_time = Clock::now();
    slot.result.prefill_seconds = seconds_between(slot.begin_time, slot.decode_time);
  }
  for (const auto& slot : slots_) {  // all is written, and nothing is to follow
    if (slot->count == 0 || slot->reading() || slot->row >= 0) continue;
    end(*slot, slot->output.matched() ? StopReason::stop_text : StopReason::max_tokens);
  }
}

Status DecodeLoop::advance() {
  if (!sampled_.empty()) return {};
  plan();
  prompt_rows_run_ = 0;
  for (const auto& slot : slots_) prompt_rows_run_ += slot->reading() ? slot->count : 0;
  if (runs_.empty()) return {};
  if (Status failed = run(); !failed.ok()) {
    sampled_.clear();
    return failed.code() == StatusCode::cancelled ? Status() : failed;  // the next step ends the texts
  }
  commit();
  return {};
}

// A token depends on its own sequence alone, so threads may share them.
void DecodeLoop::choose_tokens() {
  const auto choose = [&](int64_t i, int) {
    Slot* slot = sampled_[static_cast<size_t>(i)];
    if (slot == nullptr || slot->ended) return;
    slot->before = slot->token;
    if (logits_.empty()) {
      slot->token = largest_[static_cast<size_t>(i)];
      return;
    }
    const float* const logits = logits_.data() + i * vocabulary_;
    slot->token = slot->sampler().sample(logits, slot->sequence().length());
    const std::span<const float> row(logits, static_cast<size_t>(vocabulary_));
    if (slot->request.on_logits && slot->token >= 0) slot->request.on_logits(row, slot->token);
    if (slot->request.logprobs >= 0 && slot->token >= 0) {
      token_logprobs(row, slot->token, session_->engine().isa(), slot->ranked, slot->logprobs);
    }
  };
  const auto count = static_cast<int64_t>(sampled_.size());
  if (count > 1 && !logits_.empty()) {
    session_->pool().run(count, choose);
  } else {
    for (int64_t i = 0; i < count; ++i) choose(i, 0);
  }
}

void DecodeLoop::take_token(Slot& slot) {
  if (slot.token < 0) {
    return end(slot, StopReason::failed, bad_input("logits", "a number among them", "NaN alone"));
  }
  const std::optional<StopReason> reason = slot.output.take(slot.token);
  if (reason == StopReason::end_of_generation) {
    slot.output.finish();
    if (slot.output.owes() && slot.options().keep_state) {  // whoever goes on from the state draws the end again
      slot.token = slot.before;
      --slot.result.tokens;
      if (slot.options().collect) slot.result.ids.pop_back();
      return end(slot, StopReason::cancelled);
    }
  }
  slot.fresh = slot.pending = true;
  slot.sampler().accept_generated(slot.token);
  if (reason) return end(slot, *reason);
  if (slot.complete() && !slot.options().continues) return end(slot, StopReason::max_tokens);
  Status full = slot.sequence().check_extend(slot.sequence().length(), 1);
  if (!full.ok()) end(slot, StopReason::cache_full, std::move(full));
}

std::span<const DecodeEvent> DecodeLoop::sample() {
  for (Slot* slot : sampled_) {
    if (slot != nullptr && slot->is_cancelled()) end(*slot, StopReason::cancelled);
  }
  choose_tokens();
  for (Slot* slot : sampled_) {
    if (slot != nullptr && !slot->ended) take_token(*slot);
  }
  sampled_.clear();
  events_.clear();
  for (const auto& owned : slots_) {
    Slot& slot = *owned;
    const bool piece = !slot.piece_given && !slot.output.piece().empty();
    const bool ended = slot.ended && !std::exchange(slot.end_given, slot.ended);
    if (!slot.fresh && !piece && !ended) continue;
    slot.piece_given = true;
    const bool described = slot.fresh && slot.request.logprobs >= 0;
    events_.push_back({slot.id, slot.fresh ? slot.token : -1, piece ? slot.output.piece() : "", ended,
                       described ? &slot.logprobs : nullptr});
    slot.fresh = false;
  }
  return events_;
}

Result<std::span<const DecodeEvent>> DecodeLoop::step() {
  KVASS_RETURN_IF_ERROR(advance());
  return sample();
}

void DecodeLoop::end(Slot& slot, StopReason reason, Status status) {
  const Clock::time_point now = Clock::now();
  if (!slot.begun) slot.begin_time = now;
  if (slot.reading()) {
    slot.result.prefill_seconds = seconds_between(slot.begin_time, now);
  } else {
    slot.result.decode_seconds = seconds_between(slot.decode_time, now);
  }
  slot.result.reason = reason;
  slot.result.status = std::move(status);
  slot.ended = true;
  slot.result.unread = static_cast<int64_t>(slot.prompt.size() - slot.read);
  slot.result.prompt_tokens -= slot.result.unread;
  slot.result.suspended = slot.options().keep_state && reason == StopReason::cancelled &&
                          (slot.output.refused() || Slot::is_set(slot.options().suspend));
  slot.keeps = slot.options().keep_state && (!slot.options().continues || slot.result.suspended);
  const bool text_ended = reason == StopReason::end_of_generation || reason == StopReason::stop_text;
  if (text_ended || !slot.keeps) slot.output.finish();
}

DecodeLoop::Slot* DecodeLoop::find(int64_t id) const {
  const auto found = std::find_if(slots_.begin(), slots_.end(), [&](const auto& slot) { return slot->id == id; });
  return found == slots_.end() ? nullptr : found->get();
}

bool DecodeLoop::running() const {
  return std::any_of(slots_.begin(), slots_.end(), [](const auto& slot) { return !slot->ended; });
}

bool DecodeLoop::ended(int64_t id) const {
  const Slot* slot = find(id);
  return slot == nullptr || slot->ended;
}

bool DecodeLoop::reading(int64_t id) const {
  const Slot* slot = find(id);
  return slot != nullptr && !slot->ended && slot->reading();
}

int64_t DecodeLoop::prompt_done(int64_t id) const {
  const Slot* slot = find(id);
  if (slot == nullptr) return 0;
  return static_cast<int64_t>(slot->read - std::min(slot->read, slot->resumed));
}

void DecodeLoop::cancel(int64_t id) {
  if (Slot* slot = find(id)) slot->cancelled = true;
}

Result<DecodeResult> DecodeLoop::remove(int64_t id) {
  const auto found = std::find_if(slots_.begin(), slots_.end(), [&](const auto& slot) { return slot->id == id; });
  if (found == slots_.end()) return bad_input("id of a text", "one that was added", std::to_string(id));
  const std::unique_ptr<Slot> slot = std::move(*found);
  slots_.erase(found);
  std::replace(sampled_.begin(), sampled_.end(), slot.get(), static_cast<Slot*>(nullptr));
  if (!slot->ended) end(*slot, StopReason::cancelled);
  if (!slot->keeps) return std::move(slot->result);
  std::span<const int32_t> next(&slot->token, 1);
  if (slot->reading()) {
    next = std::span(slot->prompt).subspan(slot->read);
  } else if (!slot->pending) {  // logits are not saved: the last token runs again
    KVASS_RETURN_IF_ERROR(slot->sequence().rewind(slot->sequence().length() - 1));
  }
  slot->result.state = slot->state(next);
  return std::move(slot->result);
}

}  // namespace kvass
