// What a text to generate is asked for with, and what is known of it in the end. The decode loop (decode_loop.h) takes
// the one and gives the other.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "kvass/generate.h"
#include "session/snapshot.h"

namespace kvass {

struct DecodeOptions : GenerateOptions {
  std::vector<int32_t> prompt;  // ids, at least one; may be empty where `resume` has pending ones
  // The state in which the sequence was saved: its pending tokens come before the prompt, and without a prompt its text
  // goes on. Read once, when the text begins. A sampler of the caller's has accepted the recent tokens already.
  const StreamState* resume = nullptr;
  // The sequence goes on after this text: the prompt is never left half written, and the last token is written too,
  // unless it ended the text.
  bool continues = false;
  // The result has the state for a snapshot. Text that is held back or incomplete stays there instead of being shown,
  // unless the text ends by itself.
  bool keep_state = false;
  std::function<void(const StreamState&)> on_state;  // every save_every tokens
};

struct DecodeResult : GenerateResult {
  StreamState state;  // with keep_state
};

}  // namespace kvass
