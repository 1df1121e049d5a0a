#include "app/chat_history.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "app/text.h"
#include "text/stream_decoder.h"
#include "text/utf8.h"

namespace kvass {
namespace {

using Json = nlohmann::ordered_json;

// A text that is in none of the others.
std::string mark_beside(std::string_view user, const ChatState& state) {
  std::string mark = "HERE-IT-IS";
  const auto has_it = [&](std::string_view text) { return text.find(mark) != std::string_view::npos; };
  while (has_it(user) || has_it(state.system) || has_it(state.tools) || has_it(state.chat_template) ||
         std::any_of(state.messages.begin(), state.messages.end(), has_it)) {
    mark += '-';
  }
  return mark;
}

Result<ChatPromptOptions> prompt_options(const ChatState& state) {
  ChatPromptOptions options;
  options.variables = state.variables;
  KVASS_ASSIGN_OR_RETURN(options.render.now, parse_clock(state.now));
  return options;
}

// The answer of a model as text, and where each of its tokens ends in it.
struct AnswerText {
  std::string text;
  std::vector<int64_t> ends;
};
AnswerText text_of(const Tokenizer& tokenizer, std::span<const int32_t> ids) {
  AnswerText answer;
  StreamDecoder decoder(tokenizer, {.show_control = true});
  for (const int32_t id : ids) {
    answer.text += valid_utf8(decoder.push(id));
    answer.ends.push_back(decoder.pending().empty() ? static_cast<int64_t>(answer.text.size()) : -1);
  }
  answer.text += valid_utf8(decoder.finish());
  return answer;
}

size_t common_bytes(std::string_view a, std::string_view b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace

Result<ChatHistory> ChatHistory::create(std::shared_ptr<const Tokenizer> tokenizer, std::string_view chat_template,
                                        const ChatOptions& options, const std::string& place) {
  ChatState state;
  state.chat_template = options.chat_template.empty() ? std::string(chat_template) : options.chat_template;
  if (state.chat_template.empty()) {
    return bad_input(vocabulary_field(place, "tokenizer.chat_template"), "the template of a chat model",
                     "none: this is a base model, which continues texts; or give one with ChatOptions.chat_template");
  }
  KVASS_RETURN_IF_ERROR(check_utf8(options.system, "ChatOptions.system"));
  state.system = options.system;
  state.tools = options.tools;
  state.variables = options.variables;
  state.now = options.now.empty() ? clock_text(std::chrono::system_clock::now()) : options.now;
  return resume(std::move(tokenizer), state);
}

Result<ChatHistory> ChatHistory::resume(std::shared_ptr<const Tokenizer> tokenizer, const ChatState& state) {
  KVASS_ASSIGN_OR_RETURN(jinja::Template style, jinja::Template::parse(state.chat_template));
  KVASS_ASSIGN_OR_RETURN(ChatPromptOptions options, prompt_options(state));
  return ChatHistory(std::move(tokenizer), state, std::move(style), std::move(options));
}

Result<jinja::Rendered> ChatHistory::render(std::string_view user, std::string_view mark) const {
  Json messages = Json::array();
  const auto add = [&](const char* role, std::string content) {
    messages.push_back({{"role", role}, {"content", std::move(content)}});
  };
  if (!state_.system.empty()) add("system", state_.system);
  for (size_t i = 0; i < state_.messages.size(); ++i) {
    const bool last = i + 1 == state_.messages.size();
    add(i % 2 == 0 ? "user" : "assistant", state_.messages[i] + std::string(last ? mark : ""));
  }
  add("user", std::string(user));
  const std::string text = messages.dump(-1, ' ', false, Json::error_handler_t::replace);
  return chat_prompt(style_, text, state_.tools, special_tokens(*tokenizer_), options_);
}

// The ids of the text from a byte on, and where they end. A stream may go back to the end of a control token: what
// follows one is encoded as in the whole text.
void ChatHistory::encode_from(ChatTurn& turn, const jinja::Rendered& rendered, size_t begin) const {
  const Tokenizer& tokenizer = *tokenizer_;
  bool at_start = turn.keep == 0;
  PromptPlace place = PromptPlace::first;
  if (turn.keep > 0) {
    at_start = is_whole() && tokenizer.is_control(state_.ids[static_cast<size_t>(turn.keep) - 1]);
    place = at_start ? PromptPlace::after_control : PromptPlace::within_text;
  }
  turn.ids = encode_prompt(tokenizer, rendered_part(rendered, begin, std::string::npos), place);
  turn.ends.assign(turn.ids.size(), -1);
  size_t at = begin;
  for (size_t i = 0; i < turn.ids.size(); ++i) {
    const std::string_view piece = tokenizer.piece_in_text(turn.ids[i], at_start, /*show_control=*/true);
    const bool added = i == 0 && begin == 0 && turn.ids[i] == tokenizer.bos() && !turn.text.starts_with(piece);
    at += added ? 0 : piece.size();
    if (tokenizer.is_control(turn.ids[i])) turn.ends[i] = static_cast<int64_t>(at);
  }
  // Tokens that do not stand for the very bytes of the text cannot say where it is divided.
  if (at != turn.text.size()) turn.ends.assign(turn.ids.size(), -1);
}

Result<ChatTurn> ChatHistory::next(std::string_view user, const ChatStreamPlace& place) const {
  KVASS_RETURN_IF_ERROR(check_utf8(user, "the user's text"));
  KVASS_ASSIGN_OR_RETURN(const jinja::Rendered rendered, render(user, ""));
  ChatTurn turn;
  turn.user = user;
  turn.text = rendered.text();
  if (place.length > 0 && (!is_whole() || state_.ids.empty())) return after_last_answer(std::move(turn), place);
  const size_t common = common_bytes(turn.text, state_.text);
  size_t begin = common;
  turn.keep = static_cast<int64_t>(state_.ids.size());
  if (common < state_.text.size()) {
    if (place.endless && place.length > place.whole_until) return after_last_answer(std::move(turn), place);
    while (turn.keep > 0) {
      const int64_t end = state_.ends[static_cast<size_t>(turn.keep) - 1];
      if (end >= 0 && static_cast<size_t>(end) <= common) break;
      --turn.keep;
    }
    begin = turn.keep == 0 ? 0 : static_cast<size_t>(state_.ends[static_cast<size_t>(turn.keep) - 1]);
  }
  encode_from(turn, rendered, begin);
  return turn;
}

Result<ChatTurn> ChatHistory::after_last_answer(ChatTurn turn, const ChatStreamPlace& place) const {
  turn.whole = false;
  turn.keep = place.length;
  if (state_.messages.empty()) {  // a text that is no message stands before the first
    KVASS_ASSIGN_OR_RETURN(const jinja::Rendered rendered, render(turn.user, ""));
    const int32_t bos = tokenizer_->bos();
    const std::string_view begins = bos < 0 ? "" : tokenizer_->piece(bos, /*show_control=*/true);
    const size_t begin = !begins.empty() && turn.text.starts_with(begins) ? begins.size() : 0;
    turn.ids = encode_prompt(*tokenizer_, rendered_part(rendered, begin, std::string::npos), PromptPlace::within_text);
    return turn;
  }
  const std::string mark = mark_beside(turn.user, state_);
  KVASS_ASSIGN_OR_RETURN(const jinja::Rendered rendered, render(turn.user, mark));
  const size_t at = rendered.text().rfind(mark);
  if (at == std::string::npos) {
    return bad_input("chat template",
                     "one that shows the last answer, for the stream is without end and cannot go back to change it",
                     "one that leaves it out");
  }
  turn.ids = encode_prompt(*tokenizer_, rendered_part(rendered, at + mark.size(), std::string::npos),
                           PromptPlace::within_text);
  return turn;
}

void ChatHistory::begin_from(ChatTurn& turn, int64_t length) const {
  const auto range = [&](const auto& list) { return std::pair(list.begin() + length, list.begin() + turn.keep); };
  const auto [first_id, last_id] = range(state_.ids);
  const auto [first_end, last_end] = range(state_.ends);
  turn.ids.insert(turn.ids.begin(), first_id, last_id);
  turn.ends.insert(turn.ends.begin(), first_end, last_end);
  turn.keep = length;
}

Result<int64_t> ChatHistory::opening_tokens() const {
  const std::string mark = mark_beside("", state_);
  KVASS_ASSIGN_OR_RETURN(const jinja::Rendered rendered, render(mark, ""));
  const size_t at = rendered.text().find(mark);
  if (at == std::string::npos) {
    return bad_input("chat template", "one that shows the user's text", "one that leaves it out");
  }
  return static_cast<int64_t>(encode_prompt(*tokenizer_, rendered_part(rendered, 0, at)).size());
}

void ChatHistory::rewind(int64_t length) {
  const auto count = static_cast<size_t>(length);
  if (!is_whole() || count >= state_.ids.size()) return;
  state_.text.resize(count == 0 ? 0 : static_cast<size_t>(state_.ends[count - 1]));
  state_.ids.resize(count);
  state_.ends.resize(count);
}

void ChatHistory::forget_text() {
  state_.text = {};
  state_.ids = {};
  state_.ends = {};
}

void ChatHistory::begin(ChatTurn turn) {
  if (turn.whole) {
    rewind(turn.keep);
    state_.text = std::move(turn.text);
    state_.ids.insert(state_.ids.end(), turn.ids.begin(), turn.ids.end());
    state_.ends.insert(state_.ends.end(), turn.ends.begin(), turn.ends.end());
  } else {
    forget_text();
  }
  state_.messages.push_back(std::move(turn.user));
  state_.answer = {};
  ++state_.turns;
}

void ChatHistory::add(std::span<const int32_t> answer) {
  state_.answer.insert(state_.answer.end(), answer.begin(), answer.end());
}

void ChatHistory::end(int64_t written, std::span<const std::string> stops, const ChatStreamPlace& place) {
  if (written < 0) forget_text();
  const std::vector<int32_t> generated = std::exchange(state_.answer, {});
  const auto count = static_cast<size_t>(std::max<int64_t>(written, 0));
  const auto answer = std::span(generated).first(std::min(count, generated.size()));
  AnswerText said = text_of(*tokenizer_, answer);
  if (!state_.ids.empty()) {
    for (int64_t& end : said.ends) end += end < 0 ? 0 : static_cast<int64_t>(state_.text.size());
    state_.text += said.text;
    state_.ids.insert(state_.ids.end(), answer.begin(), answer.end());
    state_.ends.insert(state_.ends.end(), said.ends.begin(), said.ends.end());
  }
  size_t end = said.text.size();  // a stop text is not of the answer
  for (const std::string& stop : stops) {
    if (!stop.empty()) end = std::min(end, said.text.find(stop));
  }
  said.text.resize(end);
  state_.messages.push_back(std::move(said.text));
  state_.turn_ends.push_back(place.length);
  while (place.endless && state_.turn_ends.size() > 1 && state_.turn_ends.front() <= place.length - place.context) {
    state_.messages.erase(state_.messages.begin(), state_.messages.begin() + 2);
    state_.turn_ends.erase(state_.turn_ends.begin());
    forget_text();
  }
}

Result<int64_t> ChatHistory::end_of_turn(int64_t turns) const {
  const int64_t first = state_.turns - turns_known();  // of the turns that are forgotten, the last is the first place
  if (turns == 0) return int64_t{0};
  if (turns <= first || turns > state_.turns) {
    return bad_input(
        "turn to go back to",
        turns_known() == 0 ? "0" : "0, or " + std::to_string(first + 1) + " to " + std::to_string(state_.turns),
        std::to_string(turns));
  }
  return state_.turn_ends[static_cast<size_t>(turns - first - 1)];
}

void ChatHistory::back_to_turn(int64_t turns) {
  if (turns == 0) return clear();
  const int64_t first = state_.turns - turns_known();
  const auto known = static_cast<size_t>(turns - first);
  const int64_t position = state_.turn_ends[known - 1];
  state_.answer = {};
  state_.messages.resize(2 * known);
  state_.turn_ends.resize(known);
  state_.turns = turns;
  cut_text(position);
}

void ChatHistory::back_to_position(int64_t position) {
  if (position == 0) return clear();
  size_t known = 0;
  while (known < state_.turn_ends.size() && state_.turn_ends[known] <= position) ++known;
  state_.turns -= turns_known() - static_cast<int64_t>(known);
  state_.answer = {};
  const bool at_end = known > 0 && state_.turn_ends[known - 1] == position;
  state_.messages.resize(2 * known);
  state_.turn_ends.resize(known);
  at_end ? cut_text(position) : forget_text();  // what follows a turn in part is no message
}

// The text that the stream has up to a position, where its end there is known.
void ChatHistory::cut_text(int64_t position) {
  const auto count = static_cast<size_t>(position);
  if (state_.ids.size() < count || state_.ends[count - 1] < 0) return forget_text();
  state_.text.resize(static_cast<size_t>(state_.ends[count - 1]));
  state_.ids.resize(count);
  state_.ends.resize(count);
}

void ChatHistory::clear() {
  state_.messages = {};
  state_.answer = {};
  state_.turn_ends = {};
  state_.turns = 0;
  forget_text();
}

}  // namespace kvass
