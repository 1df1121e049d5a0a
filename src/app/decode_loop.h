// The decode loop: texts that are generated side by side over one session. `kvass run` and a turn of a chat are one
// text, `--prompts` is many, and a server adds and removes texts between steps as it likes.
//
// A step brings one token of each text that decodes, and as much of the prompts of the others as there is room for.
// Room goes round: a text whose prompt is longer than what it got comes last in the next step, so that a long prompt
// delays a short one by a step at most. What a text gives is what it gives alone, bit for bit, whatever runs beside it.
//
// The loop owns what belongs to a text (its options, prompt, decoder, and its sampler unless the caller brings one),
// not the session and the sequences. A decode step allocates nothing. One caller at a time.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "app/generate_options.h"
#include "app/token_logprobs.h"
#include "kvass/status.h"
#include "session/session.h"
#include "text/tokenizer.h"

namespace kvass {

struct DecodeRequest {
  DecodeOptions options;
  // Where the text goes on. From add() to remove() it is the loop's: nobody else steps or changes it.
  Sequence* sequence = nullptr;
  Sampler* sampler = nullptr;  // sees the tokens in order, and outlives the text; null: one made of options.sampling
  OnText on_text;              // called inside of step(), where a program likes that better than events; may be empty
  // Ends the text as cancel() does, from a signal handler or another thread; null: none. Outlives the text.
  const std::atomic<bool>* cancel = nullptr;
  // Each token as it is chosen, and the row of logits [vocabulary] before penalties and temperature that it is chosen
  // from; on a thread of the session's pool. May be empty.
  std::function<void(std::span<const float> logits, int32_t token)> on_logits;
  int64_t logprobs = -1;      // with each token its log-probability, and those of so many others; -1: without
  bool score_prompt = false;  // the same of each token of the prompt after its first (DecodeLoop::prompt_logprobs)
};

// What a step did for one text.
struct DecodeEvent {
  int64_t id = 0;
  int32_t token = -1;                       // generated in this step; -1: none
  std::string_view text;                    // that became complete, often none; valid until the loop is called again
  bool ended = false;                       // for whatever reason; it waits for remove(), which has the result
  const TokenLogprobs* logprobs = nullptr;  // of the token, where they are wanted; valid as the text
};

class DecodeLoop {
 public:
  // Both outlive the loop. The session may do other things between two steps.
  DecodeLoop(Session& session, const Tokenizer& tokenizer);
  ~DecodeLoop();
  DecodeLoop(DecodeLoop&&) noexcept;
  DecodeLoop& operator=(DecodeLoop&&) = delete;

  // Begins a text; nothing of it is run yet. Its id is not given again. Everything that can be wrong with a request is
  // found here (no room for the prompt, ids that the vocabulary has not, a sequence of another engine or one that is in
  // use), so that it cannot fail the steps of the others. On an error nothing has changed.
  Result<int64_t> add(DecodeRequest request);

  // One step of all texts that have not ended, and a token for each whose prompt is read. An event for each text that
  // has something new, in the order in which they were added. On an error every text is as it was before. A text that
  // fails alone (logits without a number) ends with StopReason::failed, and the others go on.
  Result<std::span<const DecodeEvent>> step();

  // The halves of step(), for a caller that runs a prompt now and wants its first token later. advance() runs the
  // tokens; sample() chooses what follows, and gives the events. Nothing else uses the session in between. While there
  // are tokens to sample, advance() does nothing.
  Status advance();
  std::span<const DecodeEvent> sample();

  // The text ends as soon as it may: at once, or with `continues` after its last token is written.
  void cancel(int64_t id);
  // Forgets a text; one that has not ended is cancelled where it is. Its sequence is the caller's again.
  Result<DecodeResult> remove(int64_t id);

  // Tokens of prompts that a step brings at most, beside the tokens of the texts that decode; at least 1. A step then
  // takes as long as its caller likes; no bit depends on it.
  void set_prompt_rows(int64_t rows) { prompt_rows_ = std::max<int64_t>(rows, 1); }
  int64_t prompt_rows() const { return prompt_rows_run_; }  // of the last step
  // Of a text with score_prompt: a value for each token of its prompt that has run, but the first.
  std::span<const TokenLogprobs> prompt_logprobs(int64_t id) const;

  int64_t capacity() const { return capacity_; }                        // texts at a time
  int64_t size() const { return static_cast<int64_t>(slots_.size()); }  // added and not removed
  bool running() const;                                                 // some text has not ended
  bool ended(int64_t id) const;
  bool reading(int64_t id) const;         // some of its prompt is not in the caches yet
  int64_t prompt_done(int64_t id) const;  // tokens of its prompt that are; of a resumed text without what was pending

 private:
  struct Slot;

  Slot* find(int64_t id) const;
  Status check(const DecodeRequest& request) const;
  void plan();
  void give_room(int64_t room);
  const std::atomic<bool>* step_cancel() const;
  Status run();
  void score_prompts();
  void commit();
  void choose_tokens();
  void take_token(Slot& slot);
  void end(Slot& slot, StopReason reason, Status status = {});

  Session* session_;
  const Tokenizer* tokenizer_;
  int64_t vocabulary_;
  int64_t capacity_;
  std::vector<std::unique_ptr<Slot>> slots_;  // in the order of their ids
  int64_t next_id_ = 0;
  int64_t first_served_ = -1;  // the text that was given room for its prompt first in the last step
  // Of the step: one entry for each text that it runs, or that is sampled. Memory is reserved for `capacity` of them.
  std::vector<Run> runs_;
  std::vector<int32_t> rows_;      // whose logits are wanted
  std::vector<Slot*> sampled_;     // [rows_], until sample(); null: it was removed
  std::vector<int32_t> largest_;   // [rows_] ids of the largest logits, where nobody wants more than that
  std::span<const float> logits_;  // [rows_][vocabulary], where somebody does
  std::vector<DecodeEvent> events_;
  int64_t prompt_rows_ = INT64_MAX;
  int64_t prompt_rows_run_ = 0;
};

// Whether so many tokens fit into a sequence of `length` tokens, those that wait to be run included; `what` stands in
// the message.
Status check_room(const Sequence& sequence, int64_t length, size_t tokens, const std::string& what);

// Every stop text has a byte; `field` stands in the message.
Status check_stops(std::string_view field, std::span<const std::string> stops);

}  // namespace kvass
