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
#include "kvass/generate.h"
#include "kvass/status.h"
#include "ops/sample/sample.h"
#include "session/snapshot.h"

namespace kvass {

struct DecodeOptions : GenerateOptions {
  std::vector<int32_t> prompt;  // ids, at least one; none where `resume` has pending ones
  // The state in which the sequence was saved: its pending tokens come before the prompt, and without a prompt its text
  // goes on. The sampler has accepted its recent tokens.
  const StreamState* resume = nullptr;
  // The stream goes on after this: the prompt is never left half written, and the last token is written too, unless it
  // ended the generation.
  bool continues = false;
  // The result has the stream's state, for a snapshot. Text that is held back or incomplete stays there instead of
  // being shown, unless the text ends by itself.
  bool keep_state = false;
  std::function<void(const StreamState&)> on_state;  // every save_every tokens
};

struct DecodeResult : GenerateResult {
  StreamState state;  // with keep_state
};

// A sampler for a stream of this model; it belongs to the stream and sees its tokens in order.
Result<Sampler> create_sampler(const OpenModel& model, const SampleOptions& options);

// Runs the prompt in planned chunks; the last row's logits are then ready. How many tokens it has run: fewer than all
// when cancelled in between, which `whole` rules out.
Result<size_t> prefill(OpenStream& stream, std::span<const int32_t> prompt, bool whole,
                       const std::atomic<bool>& cancel);

// generate() token by token, for callers that go on when they like. What begin() is given must outlive it. The stream
// is not touched by anybody else in between.
class TextGeneration {
 public:
  using OnText = std::function<bool(std::string_view)>;
  // Runs the prompt.
  static Result<std::unique_ptr<TextGeneration>> begin(const OpenModel& model, OpenStream& stream, Sampler& sampler,
                                                       const DecodeOptions& options, const OnText& on_text,
                                                       const std::atomic<bool>& cancel);
  ~TextGeneration();
  Result<bool> next();         // one more token; false: there is none, as the stream has ended
  int32_t token() const;       // the latest
  Result<DecodeResult> end();  // once; the stream may stop here

 private:
  struct State;
  explicit TextGeneration(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// `on_text` gets each piece of text once it is complete; false from it cancels. `cancel` may be set by a signal
// handler. A full cache in the middle of a stream is a reason to stop with its message, since what came before is good.
// The stream goes on from where it is, with `sampler` for its tokens (options.sampling is not read).
Result<DecodeResult> generate(const OpenModel& model, OpenStream& stream, Sampler& sampler,
                              const DecodeOptions& options, const std::function<bool(std::string_view)>& on_text,
                              const std::atomic<bool>& cancel);

// The same with a sampler of its own, for a stream that is done with it.
Result<DecodeResult> generate(const OpenModel& model, OpenStream& stream, const DecodeOptions& options,
                              const std::function<bool(std::string_view)>& on_text, const std::atomic<bool>& cancel);

}  // namespace kvass
