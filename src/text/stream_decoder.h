// Streamed output: StreamDecoder turns ids into complete characters, StopMatcher ends the text at a stop text. Each is
// the state of one stream, which owns it; the Tokenizer must outlive its decoders. The concatenated output does not
// depend on how the input was divided. They do not sample, print, or handle end-of-generation tokens.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/tokenizer.h"

namespace kvass {

struct StreamDecoderOptions {
  bool at_start = false;      // the stream is a text of its own (as in Tokenizer::decode), not the end of a prompt
  bool show_control = false;  // control tokens appear as their names
};

class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, StreamDecoderOptions options = {})
      : tokenizer_(&tokenizer), at_start_(options.at_start), show_control_(options.show_control) {}

  // The text that `id` completes. A UTF-8 character is never divided between two results. Bytes that cannot become a
  // character are returned unchanged as soon as that is certain, so that the whole output equals Tokenizer::decode. A
  // caller that needs valid UTF-8 must replace them.
  std::string push(int32_t id);
  // The remaining bytes, at most three, of a character that was never completed. Resets the decoder to the start of a
  // continued text.
  std::string finish();

  const std::string& pending() const { return pending_; }
  // Continues a stream whose decoder held these pending bytes.
  void restore(std::string pending) { pending_ = std::move(pending); }

 private:
  const Tokenizer* tokenizer_;
  bool at_start_, show_control_;
  std::string pending_;  // an incomplete character, at most 3 bytes
};

class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops);  // an empty stop text never matches

  // The text that may be shown now. Text that may be the beginning of a stop text is held back. The first complete stop
  // text ends the stream (the longest, if several end together); the stop text and everything after it are dropped.
  std::string push(std::string_view text);
  // The held text, after the stream has ended without a stop text.
  std::string finish();
  // The held text. Pushing it into a new matcher with the same stop texts restores this state.
  const std::string& held() const { return held_; }
  bool matched() const { return matched_ >= 0; }
  int matched_stop() const { return matched_; }  // index into the stop texts; -1: none

 private:
  struct Stop {
    std::string text;
    std::vector<uint32_t>
        borders;       // [text bytes]; longest proper prefix of text[0..i] that is its suffix (Knuth, Morris, Pratt)
    size_t state = 0;  // the stream ends with this many bytes of the stop text
  };
  std::vector<Stop> stops_;
  std::string held_;
  int matched_ = -1;
};

}  // namespace kvass
