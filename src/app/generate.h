// The decode loop: a prompt goes in, text streams out. The job of `kvass run`, and turn by turn that of `kvass chat`.
// Drives one stream; owns the text state and the sampler, not the stream.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "app/open.h"
#include "kvass/status.h"
#include "ops/sample/sample.h"
#include "session/snapshot.h"

namespace kvass {

struct GenerateOptions {
  std::vector<int32_t> prompt;  // ids, at least one; none where `resume` has pending ones
  // The state in which the sequence was saved: its pending tokens come before the prompt, and without a prompt its text
  // goes on. The sampler has accepted its recent tokens.
  const StreamState* resume = nullptr;
  int64_t max_tokens = std::numeric_limits<int64_t>::max();  // tokens to generate
  bool ignore_eos = false;                                   // go on after an end-of-generation token
  // The stream goes on after this: the prompt is never left half written, and the last token is written too, unless it
  // ended the generation.
  bool continues = false;
  std::vector<std::string> stops;  // texts that end the stream; not shown
  SampleOptions sampling;
  // The result has the stream's state, for a snapshot. Text that is held back or incomplete stays there instead of
  // being shown, unless the text ends by itself.
  bool keep_state = false;
  int64_t save_every = 0;  // tokens from one call of on_state to the next; 0: none
  std::function<void(const StreamState&)> on_state;
  bool collect = true;  // keep ids and text in the result; a long stream should not
};

enum class StopReason { max_tokens, end_of_generation, stop_text, cancelled, cache_full };
std::string_view stop_reason_name(StopReason reason);

struct GenerateResult {
  int64_t tokens = 0;        // generated, the last one included even where it ended the stream
  std::vector<int32_t> ids;  // the same, where they are collected
  std::string text;          // what was shown, where it is collected
  StopReason reason{};
  std::string error;  // the message of cache_full
  StreamState state;  // with keep_state
  double prefill_seconds = 0.0;
  double decode_seconds = 0.0;
  int64_t prompt_tokens = 0;

  double prefill_tps() const {
    return prefill_seconds > 0.0 ? static_cast<double>(prompt_tokens) / prefill_seconds : 0.0;
  }
  double decode_tps() const {  // the first token comes from the prefill
    return decode_seconds > 0.0 && tokens > 1 ? static_cast<double>(tokens - 1) / decode_seconds : 0.0;
  }
};

// A sampler for a stream of this model; it belongs to the stream and sees its tokens in order.
Result<Sampler> create_sampler(const OpenModel& model, const SampleOptions& options);

// Runs the prompt in planned chunks; the last row's logits are then ready. How many tokens it has run: fewer than all
// when cancelled in between, which `whole` rules out.
Result<size_t> prefill(Stream& stream, std::span<const int32_t> prompt, bool whole, const std::atomic<bool>& cancel);

// generate() token by token, for callers that go on when they like. What begin() is given must outlive it. The stream
// is not touched by anybody else in between.
class Generation {
 public:
  using OnText = std::function<bool(std::string_view)>;
  // Runs the prompt.
  static Result<std::unique_ptr<Generation>> begin(const OpenModel& model, Stream& stream, Sampler& sampler,
                                                   const GenerateOptions& options, const OnText& on_text,
                                                   const std::atomic<bool>& cancel);
  ~Generation();
  Result<bool> next();           // one more token; false: there is none, as the stream has ended
  Result<GenerateResult> end();  // once; the stream may stop here

 private:
  struct State;
  explicit Generation(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// `on_text` gets each piece of text once it is complete; false from it cancels. `cancel` may be set by a signal
// handler. A full cache in the middle of a stream is a reason to stop with its message, since what came before is good.
// The stream goes on from where it is, with `sampler` for its tokens (options.sampling is not read).
Result<GenerateResult> generate(const OpenModel& model, Stream& stream, Sampler& sampler,
                                const GenerateOptions& options, const std::function<bool(std::string_view)>& on_text,
                                const std::atomic<bool>& cancel);

// The same with a sampler of its own, for a stream that is done with it.
Result<GenerateResult> generate(const OpenModel& model, Stream& stream, const GenerateOptions& options,
                                const std::function<bool(std::string_view)>& on_text, const std::atomic<bool>& cancel);

}  // namespace kvass
