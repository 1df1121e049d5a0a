// Chat: a conversation whose history is the caches of a stream. The model's own chat template renders it; a turn runs
// only the tokens that the stream does not have yet, so that it may go on for weeks, and the system text stays in sight
// for ever. Where the template changes what it rendered before (it drops thoughts from the history), the stream goes
// back to that place, or begins again. An endless stream that cannot go back keeps what it has, and goes on with what
// follows the last answer.
//
//     KVASS_ASSIGN_OR_RETURN(kvass::Chat chat, kvass::Chat::open(model, {.system = "Answer in one sentence."}));
//     KVASS_ASSIGN_OR_RETURN(auto answer, chat.answer("What is a ring buffer?", print));
//
// Threads and errors are those of stream.h.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kvass/export.h"
#include "kvass/generate.h"
#include "kvass/model.h"
#include "kvass/status.h"
#include "kvass/stream.h"

namespace kvass {

struct ChatOptions {
  std::string system;         // empty: none
  std::string chat_template;  // jinja; empty: the model's own
  std::string tools;          // for the template, a JSON array; empty: none
  std::string variables;      // for the template, a JSON object; empty: none
  std::string now;  // the time of the template's clock, as in 2026-11-30T12:34:56; empty: that of the beginning
  int64_t max_tokens = std::numeric_limits<int64_t>::max();  // of one answer
  std::vector<std::string> stops;                            // texts that end an answer; not shown
  SampleOptions sampling;
  bool endless = true;  // the conversation has no end; otherwise cache_full when the context is full
  bool collect = true;  // keep ids and text of an answer in its result
};

class KVASS_API Chat {
 public:
  // `stream`: its attention_sink, where it is given, is used as it is; otherwise an endless conversation keeps its
  // system text in the sinks, and one that takes more than half the context is bad_input. bad_input also where there is
  // no template, it does not parse, or it raises; with line and column of the template.
  static Result<Chat> open(const Model& model, const ChatOptions& options = {}, const StreamOptions& stream = {});
  // The conversation that was saved: the template, what it was given, and the system text are the file's; the sampling
  // is `options`'.
  static Result<Chat> resume(const Model& model, const std::string& path, const ChatOptions& options = {},
                             const StreamOptions& machine = {});
  Chat(Chat&&) noexcept;
  Chat& operator=(Chat&&) noexcept;
  ~Chat();

  // The user's text, and the model's answer to it as generate() gives it. If an answer is cut off, the next turn first
  // adds the template's end of a turn. After an exception from `on_text` too, what has run stays: the turn counts.
  // Cancelled before the model has read the text, the turn is taken back, as if nothing was said;
  // where the rings no longer hold what was before, what was read of it stays. `user`: UTF-8. Control tokens in it are
  // text.
  Result<GenerateResult> answer(std::string_view user, const OnText& on_text = {},
                                const std::atomic<bool>* cancel = nullptr);
  // The ids that a user's text would add to the stream in the next turn.
  Result<std::vector<int32_t>> prompt(std::string_view user) const;
  Status clear();  // a conversation from its beginning; nothing is freed
  Status save(const std::string& path) const;

  int64_t turns() const;                   // since the beginning
  std::string_view chat_template() const;  // jinja
  int64_t length() const;                  // tokens of its stream
  const MemoryPlan& plan() const;

 private:
  struct KVASS_HIDDEN Impl;
  explicit Chat(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvass
