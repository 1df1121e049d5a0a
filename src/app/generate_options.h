// What a text to generate is asked for with, and what is known of it in the end. The decode loop (decode_loop.h) takes
// the one and gives the other.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "kvass/status.h"
#include "ops/sample/sample.h"
#include "session/snapshot.h"

namespace kvass {

struct GenerateOptions {
  std::vector<int32_t> prompt;  // ids, at least one; may be empty where `resume` has pending ones
  // The state in which the sequence was saved: its pending tokens come before the prompt, and without a prompt its text
  // goes on. Read once, when the text begins. A sampler of the caller's has accepted the recent tokens already.
  const StreamState* resume = nullptr;
  int64_t max_tokens = std::numeric_limits<int64_t>::max();  // tokens to generate
  bool ignore_eos = false;                                   // go on after an end-of-generation token
  // The sequence goes on after this text: the prompt is never left half written, and the last token is written too,
  // unless it ended the text.
  bool continues = false;
  std::vector<std::string> stops;  // texts that end this one; not shown
  SampleOptions sampling;          // not read where the caller brings a sampler
  // The result has the state for a snapshot. Text that is held back or incomplete stays there instead of being shown,
  // unless the text ends by itself.
  bool keep_state = false;
  int64_t save_every = 0;  // tokens from one call of on_state to the next; 0: none
  std::function<void(const StreamState&)> on_state;
  bool collect = true;  // keep ids and text in the result; a long text should not
};

enum class StopReason : uint8_t { max_tokens, end_of_generation, stop_text, cancelled, cache_full, failed };
std::string_view stop_reason_name(StopReason reason);

struct GenerateResult {
  int64_t tokens = 0;        // generated, the last one included even where it ended the text
  std::vector<int32_t> ids;  // the same, where they are collected
  std::string text;          // what was shown, where it is collected
  StopReason reason{};
  Status status;      // an error with cache_full and with failed
  StreamState state;  // with keep_state
  double prefill_seconds = 0.0;
  double decode_seconds = 0.0;
  int64_t prompt_tokens = 0;  // pending ones of a resumed text included

  double prefill_tps() const {
    return prefill_seconds > 0.0 ? static_cast<double>(prompt_tokens) / prefill_seconds : 0.0;
  }
  double decode_tps() const {  // the first token comes from the prefill
    return decode_seconds > 0.0 && tokens > 1 ? static_cast<double>(tokens - 1) / decode_seconds : 0.0;
  }
};

// Gets each piece of text once it is complete; false from it ends the text.
using OnText = std::function<bool(std::string_view)>;

}  // namespace kvass
