// The job of `kvass chat`: a conversation whose history is the caches. A turn brings only what it adds: what closes the
// model's last answer, the user's text, and where the model begins to speak. Owns the conversation's state (template,
// sampler, turns), not the stream. One caller at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>

#include "app/generate.h"
#include "kvass/chat.h"
#include "text/chat_template.h"

namespace kvass {

// The template that `name` chooses, or the model's own where it is empty.
Result<ChatTemplate> chat_template(const OpenModel& model, std::string_view name);

// Tokens that stand before the first user's text: what begins a text and the system's turn. Sinks of this many keep the
// system text in sight for ever.
Result<int64_t> opening_tokens(const OpenModel& model, const ChatOptions& options);

// How an answer may be left in its middle.
struct AnswerOptions {
  const std::atomic<bool>* suspend = nullptr;          // ends it where it is; it goes on with `go_on`
  std::function<std::string_view()> undelivered = {};  // as in DecodeOptions
};

class Conversation {
 public:
  // `model` and `stream` outlive the chat; the stream is empty.
  static Result<Conversation> create(const OpenModel& model, OpenStream& stream, const ChatOptions& options);
  // The conversation of a snapshot, whose stream `stream` is: template and system text are the snapshot's.
  static Result<Conversation> resume(const OpenModel& model, OpenStream& stream, const ChatOptions& options,
                                     const StreamState& state);

  // The ids that a user's text adds to the caches in its turn: the next one, as `answer` will bring it.
  std::vector<int32_t> prompt(std::string_view user) const;
  // Brings a turn and streams the answer to `on_text`, as generate does. However it ends, the next turn closes it as
  // the template has it. The token with which a model ends its answer is in the result, but only the template's is
  // written. Cancelled while the prompt is read, the turn is taken back; where the rings no longer hold what was before
  // it, what was read of it stays.
  //
  // Suspended (by its flag, or as `on_text` took no more), the answer waits in the state of a snapshot: nothing but
  // state() and go_on() may follow.
  Result<DecodeResult> answer(std::vector<int32_t> prompt, OnText on_text, const std::atomic<bool>& cancel,
                              const AnswerOptions& how = {});
  bool suspended() const { return !rest_.pending.empty(); }
  int64_t answered() const { return rest_.answer_tokens; }  // tokens of the suspended answer so far
  std::string last_piece() const;                           // the text of the last of them
  // The rest of a suspended answer.
  Result<DecodeResult> go_on(OnText on_text, const std::atomic<bool>& cancel, const AnswerOptions& how = {});
  // Text after an answer that was not delivered: part of the state.
  void owe(std::string_view text) { rest_.held = text; }
  std::string take_owed();    // before anything else is shown
  Status clear();             // a conversation from its beginning; nothing is freed
  StreamState state() const;  // for a snapshot

  int64_t turns() const { return turns_; }  // since the beginning
  const ChatTemplate& style() const { return style_; }

 private:
  Result<DecodeResult> run(DecodeOptions options, OnText on_text, const std::atomic<bool>& cancel,
                           const AnswerOptions& how);
  Status take_back(int64_t length, std::span<const int32_t> recent);
  Conversation(const OpenModel& model, OpenStream& stream, const ChatOptions& options, ChatTemplate style,
               Sampler sampler)
      : model_(&model), stream_(&stream), options_(options), style_(style), sampler_(std::move(sampler)) {}

  const OpenModel* model_;
  OpenStream* stream_;
  ChatOptions options_;
  ChatTemplate style_;
  Sampler sampler_;
  int64_t turns_ = 0;
  StreamState rest_;  // pending, undecoded, held and answer_tokens of the last answer, which was not delivered whole
};

}  // namespace kvass
