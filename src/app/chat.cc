#include "app/chat.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace kvass {
namespace {

// The model for conversations by this template: empty, its own.
OpenModel for_template(const OpenModel& model, const std::string& chat_template) {
  OpenModel other = model;
  if (!chat_template.empty() && chat_template != model.chat_template) {
    other.tokenizer = std::make_shared<const Tokenizer>(model.tokenizer->with_template(chat_template));
  }
  return other;
}

Result<ChatHistory> begin_history(const OpenModel& model, const ChatOptions& options) {
  return ChatHistory::create(model.tokenizer, model.chat_template, options, model.path);
}

}  // namespace

Result<StreamOptions> conversation_stream(const OpenModel& model, const ChatOptions& options,
                                          const StreamOptions& stream) {
  StreamOptions own = stream;
  own.endless = options.endless;
  if (!own.endless || stream.attention_sink) return own;
  KVASS_ASSIGN_OR_RETURN(const ChatHistory history, begin_history(for_template(model, options.chat_template), options));
  KVASS_ASSIGN_OR_RETURN(const int64_t opening, history.opening_tokens());
  KVASS_ASSIGN_OR_RETURN(const CacheOptions caches, resolve_caches(own.over(model.defaults), model.trained_context));
  if (opening <= caches.sink_tokens) return own;
  const bool chosen = own.over(model.defaults).attention_sink.has_value();  // by the file
  const int64_t most = chosen ? caches.sink_tokens : caches.context / 2;
  if (opening > most) {
    const char* field = !options.system.empty()  ? "ChatOptions.system"
                        : !options.tools.empty() ? "ChatOptions.tools"
                                                 : "ChatOptions.chat_template";
    return bad_input(field,
                     "at most " + std::to_string(most) + " tokens before the first user's text, " +
                         (chosen ? "the sinks of the model's file" : "half of StreamOptions.context") +
                         ", so that they stay in sight for ever",
                     std::to_string(opening) + "; shorten the text, " +
                         (chosen ? "" : "raise StreamOptions.context to " + std::to_string(2 * opening) + ", ") +
                         "or say with StreamOptions.attention_sink what stays");
  }
  own.endless_sink_tokens = opening;
  return own;
}

Result<Conversation> Conversation::make(OpenModel model, OpenStream& stream, const ChatOptions& options,
                                        ChatHistory history) {
  if (options.max_tokens < 1)
    return bad_input("ChatOptions.max_tokens", "1 or more tokens", std::to_string(options.max_tokens));
  KVASS_RETURN_IF_ERROR(check_stops("ChatOptions.stops", options.stops));
  KVASS_ASSIGN_OR_RETURN(Sampler sampler, create_sampler(model, options.sampling));
  return Conversation(std::move(model), stream, options, std::move(history), std::move(sampler));
}

Result<Conversation> Conversation::create(const OpenModel& model, OpenStream& stream, const ChatOptions& options) {
  OpenModel own = for_template(model, options.chat_template);
  KVASS_ASSIGN_OR_RETURN(ChatHistory history, begin_history(own, options));
  return make(std::move(own), stream, options, std::move(history));
}

Result<Conversation> Conversation::resume(const OpenModel& model, OpenStream& stream, const ChatOptions& options,
                                          const StreamState& state, const std::string& path) {
  if (!state.is_chat()) {
    return bad_input(path, "a conversation, as a chat saves it", "a text of a stream");
  }
  OpenModel own = for_template(model, state.chat.chat_template);
  KVASS_ASSIGN_OR_RETURN(ChatHistory history, ChatHistory::resume(own.tokenizer, state.chat));
  KVASS_ASSIGN_OR_RETURN(Conversation chat, make(std::move(own), stream, options, std::move(history)));
  chat.sampler_.accept(state.recent);
  chat.rest_ = state;
  chat.rest_.chat = {};  // the history has it
  return chat;
}

StreamState Conversation::state() const {
  StreamState state;
  state.sampling = sampler_.options();
  state.stops = options_.stops;
  state.recent = sampler_.recent();
  state.chat = history_.state();
  state.pending = rest_.pending;
  state.undecoded = rest_.undecoded;
  state.held = rest_.held;
  return state;
}

ChatStreamPlace Conversation::place() const {
  const Sequence& sequence = *stream_->sequence;
  ChatStreamPlace place{sequence.length(), sequence.endless(), INT64_MAX, sequence.options().context};
  for (const LayerCache& layer : sequence.plan().layers) {
    const Layout& layout = layer.layout;
    if (layout.endless()) place.whole_until = std::min(place.whole_until, layout.sink() + layout.window());
  }
  return place;
}

Result<ChatTurn> Conversation::prompt(std::string_view user) const { return history_.next(user, place()); }

std::string Conversation::last_piece() const {
  if (answered() == 0) return {};
  bool at_start = false;
  return std::string(model_.tokenizer->piece_in_text(history_.state().answer.back(), at_start));
}

std::string Conversation::take_owed() { return suspended() ? std::string() : std::exchange(rest_.held, {}); }

// To where the turn begins: the stream, its tokens, and what the sampler has seen of them. Where a layer has
// overwritten what the stream needs there, it begins again, with the very tokens that it had.
Status Conversation::go_back(ChatTurn& turn) {
  Sequence& sequence = *stream_->sequence;
  if (turn.keep == sequence.length()) return {};
  const int64_t length = turn.keep >= sequence.rewind_floor() ? turn.keep : 0;
  KVASS_RETURN_IF_ERROR(sequence.rewind(length));
  history_.begin_from(turn, length);
  history_.rewind(length);
  sampler_.reset();
  sampler_.accept(history_.state().ids);
  return {};
}

// As if the turn had never been. What its prompt has overwritten cannot come back: then the next turn closes what was
// read of it.
Status Conversation::take_back() {
  if (turns() == 0 && turn_.keep == 0) return clear();
  Sequence& sequence = *stream_->sequence;
  if (!sequence.rewind(turn_.keep).ok()) {
    const int64_t missing = turn_.keep + static_cast<int64_t>(turn_.ids.size()) - sequence.length();
    history_.begin(std::move(turn_));
    history_.end(-missing, {}, place());
    return {};
  }
  sampler_.reset();
  sampler_.accept(recent_);
  return {};
}

DecodeRequest Conversation::request(DecodeOptions options) {
  options.stops = options_.stops;
  options.continues = true;
  options.collect = true;
  DecodeRequest made;
  made.options = std::move(options);
  made.sequence = stream_->sequence.get();
  made.sampler = &sampler_;
  return made;
}

Result<DecodeRequest> Conversation::begin(ChatTurn turn) {
  KVASS_RETURN_IF_ERROR(check_room(*stream_->sequence, turn.keep, turn.ids.size(), "prompt"));
  KVASS_RETURN_IF_ERROR(go_back(turn));
  recent_ = sampler_.recent();
  DecodeOptions options;
  options.prompt = turn.ids;
  options.max_tokens = options_.max_tokens;
  turn_ = std::move(turn);
  return request(std::move(options));
}

Status Conversation::end(DecodeResult& result) {
  rest_ = {};
  if (result.suspended) rest_ = result.state;
  if (!result.suspended && result.unread > 0) return take_back();
  const int64_t begin = turn_.keep + static_cast<int64_t>(turn_.ids.size());
  history_.begin(std::move(turn_));
  end_turn(result, begin);
  return {};
}

Result<DecodeRequest> Conversation::begin_ids(std::vector<int32_t> ids) {
  KVASS_RETURN_IF_ERROR(check_room(*stream_->sequence, stream_->sequence->length(), ids.size(), "text"));
  DecodeOptions options;
  options.prompt = std::move(ids);
  options.max_tokens = 0;
  return request(std::move(options));
}

void Conversation::end_ids() { history_.add_ids(); }

void Conversation::sampler_sees_history() {
  sampler_.reset();
  sampler_.accept(history_.state().ids);
}

Status Conversation::rewind_turns(int64_t turns) {
  KVASS_ASSIGN_OR_RETURN(const int64_t position, history_.end_of_turn(turns));
  KVASS_RETURN_IF_ERROR(stream_->sequence->rewind(position));
  history_.back_to_turn(turns);
  rest_ = {};
  sampler_sees_history();
  return {};
}

Status Conversation::rewind(int64_t position) {
  KVASS_RETURN_IF_ERROR(stream_->sequence->rewind(position));
  history_.back_to_position(position);
  rest_ = {};
  sampler_sees_history();
  return {};
}

Result<DecodeResult> Conversation::run(DecodeOptions options, OnText on_text, const std::atomic<bool>& cancel,
                                       const AnswerOptions& how) {
  options.keep_state = how.suspend != nullptr;
  options.suspend = how.suspend;
  options.undelivered = how.undelivered;
  return generate(model_, *stream_, sampler_, request(std::move(options)).options, std::move(on_text), cancel);
}

// What a run has added to the answer that begins at this position; unless it is suspended, the answer has ended.
void Conversation::end_turn(DecodeResult& result, int64_t begin) {
  history_.add(result.ids);
  if (!result.suspended) {
    const std::span<const std::string> stops = result.reason == StopReason::stop_text
                                                   ? std::span<const std::string>(options_.stops)
                                                   : std::span<const std::string>();
    history_.end(stream_->sequence->length() - begin, stops, place());
  }
  if (!options_.collect) {
    result.ids = {};
    result.text = {};
  }
}

Result<DecodeResult> Conversation::answer(ChatTurn turn, OnText on_text, const std::atomic<bool>& cancel,
                                          const AnswerOptions& how) {
  KVASS_ASSIGN_OR_RETURN(DecodeRequest request, begin(std::move(turn)));
  KVASS_ASSIGN_OR_RETURN(DecodeResult result, run(std::move(request.options), std::move(on_text), cancel, how));
  KVASS_RETURN_IF_ERROR(end(result));
  return result;
}

Result<DecodeResult> Conversation::go_on(OnText on_text, const std::atomic<bool>& cancel, const AnswerOptions& how) {
  const StreamState rest = rest_;
  const int64_t begin = stream_->sequence->length() + static_cast<int64_t>(rest.pending.size()) - answered();
  DecodeOptions options;
  options.resume = &rest;
  options.max_tokens = std::max<int64_t>(options_.max_tokens - answered(), 0);
  KVASS_ASSIGN_OR_RETURN(DecodeResult result, run(std::move(options), std::move(on_text), cancel, how));
  rest_ = {};
  if (result.suspended) rest_ = result.state;
  end_turn(result, begin);
  return result;
}

Status Conversation::clear() {
  KVASS_RETURN_IF_ERROR(stream_->sequence->clear());
  sampler_.reset();
  history_.clear();
  rest_ = {};
  return {};
}

}  // namespace kvass
