// The job of `kvass chat`: a conversation on a stream. What a turn adds is for the history to say (app/chat_history.h);
// this brings it into the caches and streams the answer. Owns the conversation's state (history, sampler), not the
// stream. One caller at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include "app/chat_history.h"
#include "app/generate.h"
#include "kvass/chat.h"

namespace kvass {

// Tokens that stand before the first user's text: what begins a text and the system's turn. Sinks of this many keep the
// system text in sight for ever.
Result<int64_t> opening_tokens(const OpenModel& model, const ChatOptions& options);

class Conversation {
 public:
  // `stream` outlives the chat, and is empty.
  static Result<Conversation> create(const OpenModel& model, OpenStream& stream, const ChatOptions& options);
  // The conversation of a snapshot, whose stream `stream` is: what the template was given is the snapshot's.
  static Result<Conversation> resume(const OpenModel& model, OpenStream& stream, const ChatOptions& options,
                                     const StreamState& state);

  // A user's text as the next turn, which `answer` brings.
  Result<ChatTurn> prompt(std::string_view user) const;
  // Brings a turn and streams the answer to `on_text`, as generate does. However it ends, the next turn closes it as
  // the template has it. The token with which a model ends its answer is in the result, but only the template's is
  // written.
  Result<DecodeResult> answer(ChatTurn turn, OnText on_text, const std::atomic<bool>& cancel);
  Status clear();             // a conversation from its beginning; nothing is freed
  StreamState state() const;  // for a snapshot between two turns

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

  OpenModel model_;  // its tokenizer knows the marks of the conversation's template
  OpenStream* stream_;
  ChatOptions options_;
  ChatHistory history_;
  Sampler sampler_;
};

}  // namespace kvass
