#include "app/chat.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace kvass {

Result<ChatTemplate> chat_template(const OpenModel& model, std::string_view name) {
  return name.empty() ? ChatTemplate::recognize(model.path, model.chat_template) : ChatTemplate::named(name);
}

namespace {

std::vector<int32_t> encode(const Tokenizer& tokenizer, std::span<const ChatPart> parts, bool first) {
  std::vector<TextPart> views;
  for (const ChatPart& part : parts) views.push_back({part.text, part.control});
  return tokenizer.encode_parts(views, /*bos=*/first && tokenizer.add_bos(), /*continued=*/!first);
}

}  // namespace

Result<int64_t> opening_tokens(const OpenModel& model, const ChatOptions& options) {
  KVASS_ASSIGN_OR_RETURN(const ChatTemplate style, chat_template(model, options.template_name));
  const std::vector<ChatPart> parts = style.first_turn(*model.tokenizer, options.system, "");
  const std::span<const ChatPart> opening(parts.data(), parts.size() - 2);  // after it: the user's text, and its end
  return static_cast<int64_t>(encode(*model.tokenizer, opening, /*first=*/true).size());
}

Result<Conversation> Conversation::create(const OpenModel& model, OpenStream& stream, const ChatOptions& options) {
  if (options.max_tokens < 1)
    return bad_input("ChatOptions.max_tokens", "1 or more tokens", std::to_string(options.max_tokens));
  KVASS_ASSIGN_OR_RETURN(const ChatTemplate style, chat_template(model, options.template_name));
  KVASS_ASSIGN_OR_RETURN(Sampler sampler, create_sampler(model, options.sampling));
  return Conversation(model, stream, options, style, std::move(sampler));
}

Result<Conversation> Conversation::resume(const OpenModel& model, OpenStream& stream, const ChatOptions& options,
                                          const StreamState& state) {
  if (state.chat_template.empty()) {
    return bad_input("snapshot", "a conversation, as a chat saves it", "a text, which `kvass run` goes on with");
  }
  ChatOptions resumed = options;
  resumed.template_name = state.chat_template;
  resumed.system = state.system;
  KVASS_ASSIGN_OR_RETURN(Conversation chat, create(model, stream, resumed));
  chat.sampler_.accept(state.recent);
  chat.turns_ = state.turns;
  chat.rest_ = state;
  return chat;
}

StreamState Conversation::state() const {
  StreamState state;
  state.sampling = sampler_.options();
  state.recent = sampler_.recent();
  state.chat_template = style_.name();
  state.system = options_.system;
  state.turns = turns_;
  state.pending = rest_.pending;
  state.undecoded = rest_.undecoded;
  state.held = rest_.held;
  state.answer_tokens = rest_.answer_tokens;
  return state;
}

std::vector<int32_t> Conversation::prompt(std::string_view user) const {
  const Tokenizer& tokenizer = *model_->tokenizer;
  const bool first = turns_ == 0;
  return encode(tokenizer,
                first ? style_.first_turn(tokenizer, options_.system, user) : style_.next_turn(tokenizer, user), first);
}

std::string Conversation::last_piece() const {
  if (answered() == 0) return {};
  bool at_start = false;
  return std::string(model_->tokenizer->piece_in_text(rest_.pending.back(), at_start));
}

std::string Conversation::take_owed() { return suspended() ? std::string() : std::exchange(rest_.held, {}); }

Result<DecodeResult> Conversation::run(DecodeOptions options, OnText on_text, const std::atomic<bool>& cancel,
                                       const AnswerOptions& how) {
  options.continues = true;
  options.collect = options_.collect;
  options.keep_state = how.suspend != nullptr;
  options.suspend = how.suspend;
  options.undelivered = how.undelivered;
  const uint32_t before = rest_.answer_tokens;
  KVASS_ASSIGN_OR_RETURN(DecodeResult result,
                         generate(*model_, *stream_, sampler_, std::move(options), std::move(on_text), cancel));
  rest_ = {};
  if (!result.suspended) return result;
  rest_ = result.state;
  rest_.answer_tokens = before + static_cast<uint32_t>(result.tokens);
  return result;
}

Result<DecodeResult> Conversation::answer(std::vector<int32_t> prompt, OnText on_text, const std::atomic<bool>& cancel,
                                          const AnswerOptions& how) {
  const int64_t length = stream_->sequence->length();
  const std::vector<int32_t> recent = sampler_.recent();
  DecodeOptions options;
  options.prompt = std::move(prompt);
  options.max_tokens = options_.max_tokens;
  KVASS_ASSIGN_OR_RETURN(DecodeResult result, run(std::move(options), std::move(on_text), cancel, how));
  if (!result.suspended && result.unread > 0) {
    KVASS_RETURN_IF_ERROR(take_back(length, recent));
  } else {
    ++turns_;
  }
  return result;
}

Result<DecodeResult> Conversation::go_on(OnText on_text, const std::atomic<bool>& cancel, const AnswerOptions& how) {
  const StreamState rest = rest_;
  DecodeOptions options;
  options.resume = &rest;
  options.max_tokens = std::max<int64_t>(options_.max_tokens - rest.answer_tokens, 0);
  return run(std::move(options), std::move(on_text), cancel, how);
}

Status Conversation::take_back(int64_t length, std::span<const int32_t> recent) {
  if (turns_ == 0) return clear();
  if (!stream_->sequence->rewind(length).ok()) {  // the next turn closes what was read
    ++turns_;
    return {};
  }
  sampler_.reset();
  sampler_.accept(recent);
  return {};
}

Status Conversation::clear() {
  KVASS_RETURN_IF_ERROR(stream_->sequence->clear());
  sampler_.reset();
  turns_ = 0;
  rest_ = {};
  return {};
}

}  // namespace kvass
