// The history of a conversation: its messages, and which tokens a stream has of them. For each turn the template
// renders the whole conversation (text/chat_prompt.h); here that text is compared with the stream's, so that a turn
// brings only what differs:
//
//   it begins with the stream's text     the rest is added
//   it differs earlier (thoughts that    the stream goes back to the last token before the difference, and the rest is
//   the template drops from history)     added from there
//   … in an endless stream that has      it keeps what it has, and is given what follows the last answer
//   forgotten a token
//
// What a turn brings depends on the conversation and the stream's windows alone, not on how it was cut into steps. In
// an endless stream messages are forgotten once their tokens are, all but the system text and the last turn; from then
// on every turn is of that last kind. What is between messages comes from the template alone. Owns the state, not the
// stream; a copy of state() is the same history.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvass/chat.h"
#include "kvass/status.h"
#include "session/snapshot.h"
#include "text/chat_prompt.h"
#include "text/tokenizer.h"

namespace kvass {

// A turn that is to come.
struct ChatTurn {
  std::string user;
  int64_t keep = 0;           // tokens of the stream that stay; those after them are dropped
  std::vector<int32_t> ids;   // that follow them, up to where the model speaks
  bool whole = true;          // the stream then is `text`, token by token
  std::string text;           // of the whole conversation
  std::vector<int64_t> ends;  // [ids] as in ChatState
};

// What a turn finds in the stream.
struct ChatStreamPlace {
  int64_t length = 0;  // tokens
  bool endless = false;
  int64_t whole_until = 0;  // of an endless stream: the length up to which no layer forgets a token
  int64_t context = 0;      // of an endless stream: tokens that some layer still has
};

class ChatHistory {
 public:
  // `chat_template`: the model's own, which that of the options replaces. `place` stands in messages: the model's file.
  static Result<ChatHistory> create(std::shared_ptr<const Tokenizer> tokenizer, std::string_view chat_template,
                                    const ChatOptions& options, const std::string& place);
  // The history of a snapshot.
  static Result<ChatHistory> resume(std::shared_ptr<const Tokenizer> tokenizer, const ChatState& state);

  // The turn of a user's text. Bad input: text that is not UTF-8, and what the template raises.
  Result<ChatTurn> next(std::string_view user, const ChatStreamPlace& place) const;
  // The same turn on a stream that goes back to `length`, further than it would have to.
  void begin_from(ChatTurn& turn, int64_t length) const;
  // Tokens before the first user's text: what begins a text and the system's turn.
  Result<int64_t> opening_tokens() const;

  // The stream has gone back to this length, at most the turn's `keep`.
  void rewind(int64_t length);
  // The turn is in the stream, or will be when its answer ends. Until then nothing else may be said: a state of this
  // time is that of a suspended answer.
  void begin(ChatTurn turn);
  // Tokens of the answer, as they are generated.
  void add(std::span<const int32_t> answer);
  // The answer has ended, and the stream has its first `written` tokens; negative: so many of the turn itself are
  // missing. `stops`: what of the options ended the answer.
  void end(int64_t written, std::span<const std::string> stops, const ChatStreamPlace& place);
  // The stream has tokens at its end that are no message: from now on turns follow what it has.
  void add_ids() { forget_text(); }
  void clear();  // from the beginning

  // Where the first `turns` of all turns end in the stream. bad_input where that is forgotten, or in the future.
  Result<int64_t> end_of_turn(int64_t turns) const;
  // The stream stands there again: later turns have not been.
  void back_to_turn(int64_t turns);
  // The stream stands at a position again: only turns that end up to there have been.
  void back_to_position(int64_t position);

  const ChatState& state() const { return state_; }

 private:
  ChatHistory(std::shared_ptr<const Tokenizer> tokenizer, ChatState state, jinja::Template style,
              ChatPromptOptions options)
      : tokenizer_(std::move(tokenizer)),
        state_(std::move(state)),
        style_(std::move(style)),
        options_(std::move(options)) {}

  // The conversation with one more user's text; `mark` stands after the last answer.
  Result<jinja::Rendered> render(std::string_view user, std::string_view mark) const;
  Result<ChatTurn> after_last_answer(ChatTurn turn, const ChatStreamPlace& place) const;
  void encode_from(ChatTurn& turn, const jinja::Rendered& rendered, size_t begin) const;
  bool is_whole() const { return state_.messages.empty() ? state_.turns == 0 : !state_.ids.empty(); }
  int64_t turns_known() const { return static_cast<int64_t>(state_.turn_ends.size()); }  // the latest
  void forget_text();
  void cut_text(int64_t position);

  std::shared_ptr<const Tokenizer> tokenizer_;
  ChatState state_;
  jinja::Template style_;
  ChatPromptOptions options_;
};

}  // namespace kvass
