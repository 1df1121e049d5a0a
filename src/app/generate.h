// One text on one stream: the decode loop (decode_loop.h) with a single request, to its end or token by token. The job
// of `kvass run`, and turn by turn that of `kvass chat`.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "app/decode_loop.h"
#include "app/generate_options.h"
#include "app/open.h"
#include "kvass/status.h"

namespace kvass {

// A snapshot's state that a text goes on from; that of a conversation is refused.
Status check_text(const StreamState& state, const std::string& path);

// A sampler for a text of this model; it sees the text's tokens in order.
Result<Sampler> create_sampler(const OpenModel& model, const SampleOptions& options);

// Text token by token, for callers that go on when they like. `model`, `stream`, `sampler` and `cancel` outlive it, and
// nobody else touches the stream in between. `sampler` null: one of its own, of options.sampling. `cancel` null: none.
class TextGeneration {
 public:
  // Runs the prompt. `on_prompt` gets how many tokens of it are done, after each chunk; false cancels.
  static Result<std::unique_ptr<TextGeneration>> begin(const OpenModel& model, OpenStream& stream, Sampler* sampler,
                                                       DecodeOptions options, OnText on_text = {},
                                                       const std::atomic<bool>* cancel = nullptr,
                                                       const std::function<bool(int64_t)>& on_prompt = {});

  // One more token, or the rest of a text; false: there is none, as the text has ended.
  Result<bool> next();
  int32_t token() const { return token_; }           // of the last next(); -1: none
  std::string_view piece() const { return piece_; }  // that it completed, often none; valid until the next call
  Result<DecodeResult> end();                        // once; the text may stop here

 private:
  TextGeneration(DecodeLoop loop, int64_t id) : loop_(std::move(loop)), id_(id) {}

  DecodeLoop loop_;
  int64_t id_;
  int32_t token_ = -1;
  std::string_view piece_;
};

// `on_text` gets each piece of text once it is complete; false from it cancels. `cancel` may be set by a signal
// handler. A full cache in the middle of a text is a reason to stop with its message, since what came before is good.
// The stream goes on from where it is, with `sampler` for its tokens (options.sampling is not read).
Result<DecodeResult> generate(const OpenModel& model, OpenStream& stream, Sampler& sampler, DecodeOptions options,
                              OnText on_text, const std::atomic<bool>& cancel);

// The same with a sampler of its own, for a stream that is done with it. `on_prompt`: as of TextGeneration.
Result<DecodeResult> generate(const OpenModel& model, OpenStream& stream, DecodeOptions options, OnText on_text,
                              const std::atomic<bool>& cancel, const std::function<bool(int64_t)>& on_prompt = {});

}  // namespace kvass
