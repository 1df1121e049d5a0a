// What a text to generate is asked for with, and what is known of it in the end. The decode loop (decode_loop.h) takes
// the one and gives the other.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "kvass/generate.h"
#include "session/snapshot.h"

namespace kvass {

struct DecodeOptions : GenerateOptions {
  std::vector<int32_t> prompt;  // ids, at least one; may be empty where `resume` has pending ones
  // The state in which the sequence was saved: its pending tokens come before the prompt, and without a prompt its text
  // goes on. Read once, when the text begins. A sampler of the caller's has accepted the recent tokens already.
  const StreamState* resume = nullptr;
  // The sequence goes on after this text: the last token is written too, unless it ended the text.
  bool continues = false;
  // Ends the text where it is, which goes on later from the state in the result (with keep_state); null: none.
  const std::atomic<bool>* suspend = nullptr;
  // After on_text has returned false: the end of its text that did not come out. The state of a snapshot begins with
  // it.
  std::function<std::string_view()> undelivered;
  // The result has the state for a snapshot. Text that is held back or incomplete stays there instead of being shown,
  // unless the text ends by itself. With `continues`: only of a text that was suspended.
  bool keep_state = false;
  std::function<void(const StreamState&)> on_state;  // every save_every tokens
};

struct DecodeResult : GenerateResult {
  StreamState state;       // with keep_state
  bool suspended = false;  // the state is that of the middle of a text: it goes on from there
  int64_t unread = 0;      // tokens of the prompt that are not in the caches
};

}  // namespace kvass
