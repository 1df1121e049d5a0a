// The job of `kvass chat`: a conversation on a stream. What a turn adds is for the history to say (app/chat_history.h);
// this brings it into the caches and streams the answer. Owns the conversation's state (history, sampler), not the
// stream. One caller at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "app/chat_history.h"
#include "app/decode_loop.h"
#include "app/generate.h"
#include "kvass/chat.h"

namespace kvass {

// The options of a conversation's stream, `stream` being those that the caller gives. One without end gets sinks for
// all that stands before the first user's text (what begins a text, the system text, tools), so that it stays in sight
// for ever; what is too long for that is refused, unless the caller says which sinks there are.
Result<StreamOptions> conversation_stream(const OpenModel& model, const ChatOptions& options,
                                          const StreamOptions& stream);

// How an answer may be left in its middle.
struct AnswerOptions {
  const std::atomic<bool>* suspend = nullptr;          // ends it where it is; it goes on with `go_on`
  std::function<std::string_view()> undelivered = {};  // as in DecodeOptions
};

class Conversation {
 public:
  // `stream` outlives the chat, and is empty.
  static Result<Conversation> create(const OpenModel& model, OpenStream& stream, const ChatOptions& options);
  // The conversation of the snapshot in `path`, whose stream `stream` is: what the template was given is the file's.
  static Result<Conversation> resume(const OpenModel& model, OpenStream& stream, const ChatOptions& options,
                                     const StreamState& state, const std::string& path);

  // A user's text as the next turn, which `answer` brings.
  Result<ChatTurn> prompt(std::string_view user) const;
  // Brings a turn and streams the answer to `on_text`, as generate does. However it ends, the next turn closes it as
  // the template has it. The token with which a model ends its answer is in the result, but only the template's is
  // written. Cancelled while the prompt is read, the turn is taken back; where the rings no longer hold what was before
  // it, what was read of it stays.
  //
  // Suspended (by its flag, or as `on_text` took no more), the answer waits in the state of a snapshot: nothing but
  // state() and go_on() may follow.
  Result<DecodeResult> answer(ChatTurn turn, OnText on_text, const std::atomic<bool>& cancel,
                              const AnswerOptions& how = {});
  // The halves of answer(), for a caller whose own loop brings the turn: what is to run, and what became of it. Between
  // them nothing else is asked of the conversation. Where begin() fails nothing has changed.
  Result<DecodeRequest> begin(ChatTurn turn);
  Status end(DecodeResult& result);
  // The halves of adding ids that are no message to the stream, as they are: what the next turn follows.
  Result<DecodeRequest> begin_ids(std::vector<int32_t> ids);
  void end_ids();
  // Back to the end of a turn that is still known, or to a position that the stream can go back to (0: the beginning).
  Status rewind_turns(int64_t turns);
  Status rewind(int64_t position);
  bool suspended() const { return !rest_.pending.empty(); }
  // Tokens of the suspended answer so far.
  int64_t answered() const { return static_cast<int64_t>(history_.state().answer.size()); }
  std::string last_piece() const;  // the text of the last of them
  // The rest of a suspended answer.
  Result<DecodeResult> go_on(OnText on_text, const std::atomic<bool>& cancel, const AnswerOptions& how = {});
  // Text after an answer that was not delivered: part of the state.
  void owe(std::string_view text) { rest_.held = text; }
  std::string take_owed();    // before anything else is shown
  Status clear();             // a conversation from its beginning; nothing is freed
  StreamState state() const;  // for a snapshot

  int64_t turns() const { return history_.state().turns; }  // since the beginning
  std::string_view chat_template() const { return history_.state().chat_template; }

 private:
  Conversation(OpenModel model, OpenStream& stream, const ChatOptions& options, ChatHistory history, Sampler sampler)
      : model_(std::move(model)),
        stream_(&stream),
        options_(options),
        history_(std::move(history)),
        sampler_(std::move(sampler)) {}

  static Result<Conversation> make(OpenModel model, OpenStream& stream, const ChatOptions& options,
                                   ChatHistory history);
  ChatStreamPlace place() const;
  Status go_back(ChatTurn& turn);
  Status take_back();
  DecodeRequest request(DecodeOptions options);
  void sampler_sees_history();
  Result<DecodeResult> run(DecodeOptions options, OnText on_text, const std::atomic<bool>& cancel,
                           const AnswerOptions& how);
  void end_turn(DecodeResult& result, int64_t begin);

  OpenModel model_;  // its tokenizer knows the marks of the conversation's template
  OpenStream* stream_;
  ChatOptions options_;
  ChatHistory history_;
  Sampler sampler_;
  ChatTurn turn_;                // between begin() and end()
  std::vector<int32_t> recent_;  // of the sampler, before it
  StreamState rest_;             // pending, undecoded and held of the last answer, which was not delivered whole
};

}  // namespace kvass
