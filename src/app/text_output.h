// The text side of one text that is generated: ids in, complete pieces out, until a stop text. Owns the decoder, the
// stop texts and the piece, not the result that it fills. Neither samples nor steps.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "app/generate_options.h"
#include "text/stream_decoder.h"

namespace kvass {

class TextOutput {
 public:
  // All of them must outlive it. `on_text` may be empty.
  TextOutput(const Tokenizer& tokenizer, const DecodeOptions& options, DecodeResult& result, const OnText& on_text)
      : tokenizer_(tokenizer),
        decoder_(tokenizer),
        stops_(options.stops),
        options_(options),
        result_(result),
        on_text_(on_text) {}

  // The next token into the result, its text to the piece and to on_text. Why the text ends with it, if it does.
  std::optional<StopReason> take(int32_t token);
  bool matched() const { return stops_.matched(); }
  bool refused() const { return refused_; }  // the reader wanted no more
  bool owes() const { return !undelivered_.empty(); }
  // The rest of the text. Bytes of a character that was never completed are in the result alone: readers get whole
  // ones.
  void finish();

  // What became complete since the piece was cleared.
  std::string_view piece() const { return piece_; }
  void clear_piece() { piece_.clear(); }

  // A saved text goes on; `ended`: something else follows it, so that what was held back is shown.
  void resume(const StreamState& state, bool ended);
  void save(StreamState& state) const;

 private:
  bool show(const std::string& text);  // false: the reader wants no more

  const Tokenizer& tokenizer_;
  StreamDecoder decoder_;
  StopMatcher stops_;
  const DecodeOptions& options_;
  DecodeResult& result_;
  const OnText& on_text_;
  std::string piece_;
  std::string undelivered_;  // what the reader did not take
  bool refused_ = false;
};

}  // namespace kvass
