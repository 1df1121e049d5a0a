// Streamed output: StreamDecoder turns ids into text that is complete, StopMatcher ends it at a stop text. Each is the
// state of one stream, owned by the stream; the Tokenizer must outlive its decoders. What they give, put together, does
// not depend on how the input was cut up. Neither samples, prints or decides about end-of-generation tokens.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/tokenizer.h"

namespace kvass {

struct StreamDecoderOptions {
  bool at_start = false;      // the stream is a text of its own (as Tokenizer::decode has it), not the end of a prompt
  bool show_control = false;  // control tokens appear as their names
};

class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, StreamDecoderOptions options = {})
      : tokenizer_(&tokenizer), at_start_(options.at_start), show_control_(options.show_control) {}

  // The text that `id` completes. No UTF-8 character is ever divided between two results. Bytes that cannot become a
  // character are given as they are, as soon as that is known, so that the whole stream equals Tokenizer::decode; a
  // reader that needs valid UTF-8 replaces them.
  std::string push(int32_t id);
  // The rest: the bytes of a character that was never completed, at most three. The decoder is then as at the start of
  // a continued text.
  std::string finish();

  const std::string& pending() const { return pending_; }
  // A stream goes on whose decoder had this pending.
  void restore(std::string pending) { pending_ = std::move(pending); }

 private:
  const Tokenizer* tokenizer_;
  bool at_start_, show_control_;
  std::string pending_;  // the beginning of a character, at most 3 bytes
};

class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops);  // an empty stop text never matches

  // The text that may be shown now: all but what may be the beginning of a stop text, which is held back. The stop text
  // that is complete first ends the stream, the longest of those that end together; neither it nor what follows is
  // given.
  std::string push(std::string_view text);
  // What was held back, when the stream has ended by itself.
  std::string finish();
  // What is held back; pushed to a new matcher of the same stop texts, it makes it this one.
  const std::string& held() const { return held_; }
  bool matched() const { return matched_ >= 0; }
  int matched_stop() const { return matched_; }  // index into the stop texts; -1: none

 private:
  struct Stop {
    std::string text;
    std::vector<uint32_t>
        borders;       // [text bytes]; longest proper prefix of text[0..i] that is its suffix (Knuth, Morris, Pratt)
    size_t state = 0;  // how many bytes of the stop text the stream ends with
  };
  std::vector<Stop> stops_;
  std::string held_;
  int matched_ = -1;
};

}  // namespace kvass
