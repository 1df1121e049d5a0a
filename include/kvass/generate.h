// Text from a prompt: with a callback (generate), token by token (Generation), or for many prompts at once
// (generate_batch). All of them give the same bits, whatever runs beside them.
//
//     kvass::GenerateOptions options;
//     options.max_tokens = 100;
//     auto result = kvass::generate(stream, ids, options, [](std::string_view text) { return print(text); });
//
// A generation goes on from where its stream stands, and leaves it after the last token: a later one may go on without
// a prompt. Threads and errors are those of stream.h.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvass/export.h"
#include "kvass/model.h"
#include "kvass/options.h"
#include "kvass/sampling.h"
#include "kvass/status.h"
#include "kvass/stream.h"

namespace kvass {

struct GenerateOptions {
  int64_t max_tokens = std::numeric_limits<int64_t>::max();  // tokens to generate; 0 runs the prompt only
  bool ignore_eos = false;                                   // go on after an end-of-generation token
  std::vector<std::string> stops;                            // texts that end the stream; not shown
  SampleOptions sampling;
  // Text that is incomplete, or may be the beginning of a stop text, stays with the stream at the end, for what goes on
  // with it. Otherwise it is shown.
  bool hold_text = false;
  bool collect = true;                         // keep ids and text in the result; a long stream should not
  int64_t save_every = 0;                      // tokens from one save to the next; 0: none
  std::string save_path;                       // where to; with save_every
  std::function<void(const Status&)> on_save;  // how each save went; a failed one does not end the stream
  std::function<void(int64_t)> on_progress;    // tokens of the prompt that are done, after each chunk
};

enum class StopReason : uint8_t { max_tokens, end_of_generation, stop_text, cancelled, cache_full, failed };
// "max_tokens", …
KVASS_API std::string_view stop_reason_name(StopReason reason);

struct GenerateResult {
  int64_t tokens = 0;        // generated, including an end token
  std::vector<int32_t> ids;  // the same, where they are collected
  std::string text;          // what was shown, where it is collected
  StopReason reason{};
  Status status;  // an error with cache_full and failed
  double prefill_seconds = 0.0;
  double decode_seconds = 0.0;
  int64_t prompt_tokens = 0;  // that have run: fewer than were given where the prompt was cancelled

  double prefill_tps() const {
    return prefill_seconds > 0.0 ? static_cast<double>(prompt_tokens) / prefill_seconds : 0.0;
  }
  double decode_tps() const {  // the first token comes from the prefill
    return decode_seconds > 0.0 && tokens > 1 ? static_cast<double>(tokens - 1) / decode_seconds : 0.0;
  }
};

// Gets each piece of text once it is complete: whole characters, never empty. False ends the generation. It must not
// use the stream, which is busy. An exception from it ends the call with StatusCode::internal.
using OnText = std::function<bool(std::string_view)>;

// Runs the prompt, then generates. `prompt`: ids; none where the stream goes on by itself. `cancel`, where it is given,
// may be set by another thread or a signal handler. A prompt that is cancelled is not dropped: its rest is the stream's
// (Stream::length), is saved with it, and runs before whatever comes next. Stream::rewind drops it. A cache that is
// full in the middle is a reason to stop, with its message, since what came before is good; a prompt that does not fit
// is cache_full and nothing has happened.
KVASS_API Result<GenerateResult> generate(Stream& stream, std::span<const int32_t> prompt,
                                          const GenerateOptions& options = {}, const OnText& on_text = {},
                                          const std::atomic<bool>* cancel = nullptr);
// The same for a text, whose control tokens are parsed, as `kvass run` has it: with the token that begins a text where
// the stream is empty, and continued where it is not.
KVASS_API Result<GenerateResult> generate(Stream& stream, std::string_view prompt, const GenerateOptions& options = {},
                                          const OnText& on_text = {}, const std::atomic<bool>* cancel = nullptr);

// The options with which the saved text of a stream continues: its sampling, stops and ignore_eos. Busy while another
// thread works with the stream.
KVASS_API Result<GenerateOptions> resumed_options(const Stream& stream);

// generate() token by token, for callers that go on when they like. Between two calls others may look at the stream;
// where somebody changes it, the generation has ended and next() says so. The stream may be moved or destroyed while a
// Generation lives.
class KVASS_API Generation {
 public:
  // Runs the prompt. `cancel`, where it is given, outlives the generation; it also ends the prompt between two chunks,
  // and the stream runs the rest of it before anything else.
  static Result<Generation> begin(Stream& stream, std::span<const int32_t> prompt, const GenerateOptions& options = {},
                                  const std::atomic<bool>* cancel = nullptr);
  Generation(Generation&&) noexcept;
  Generation& operator=(Generation&&) noexcept;
  ~Generation();  // ends it; the stream goes on from the last token

  Result<bool> next();              // one more token; false: there is none
  int32_t token() const;            // the latest; -1: none yet
  const std::string& text() const;  // that the latest call made complete; may be empty
  Result<GenerateResult> end();     // once; the rest of the text is in text()

 private:
  struct KVASS_HIDDEN Impl;
  explicit Generation(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

struct BatchSummary {
  int64_t complete = 0;       // prompts
  int64_t prompt_tokens = 0;  // of all that were begun
  int64_t tokens = 0;         // generated
  bool cancelled = false;
  std::string full;  // the message of the first whose cache was full
  double seconds = 0.0;

  double tps() const { return seconds > 0.0 ? static_cast<double>(tokens) / seconds : 0.0; }
};

// Many prompts through streams.sequences sequences that advance together: what prompt i gives is what generate() gives
// for it alone with seed + i. `on_result` gets (index, result) in the order of the prompts; false ends it.
// GenerateOptions.save_every, hold_text and on_progress are unsupported here.
KVASS_API Result<BatchSummary> generate_batch(const Model& model, std::span<const std::vector<int32_t>> prompts,
                                              const StreamOptions& streams, const GenerateOptions& options,
                                              const std::function<bool(size_t, const GenerateResult&)>& on_result,
                                              const std::atomic<bool>* cancel = nullptr);

}  // namespace kvass
