// The text side of one stream that is generated: ids in, complete text out, until a stop text. Owns the decoder and the
// stop texts, not the result that it fills. Neither samples nor steps.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "app/generate.h"
#include "text/stream_decoder.h"

namespace kvass {

class TextOutput {
 public:
  // `tokenizer`, `options`, `result` and `on_text` must outlive it; `on_text` as in generate().
  TextOutput(const Tokenizer& tokenizer, const DecodeOptions& options, DecodeResult& result,
             const std::function<bool(std::string_view)>& on_text)
      : tokenizer_(tokenizer),
        decoder_(tokenizer),
        stops_(options.stops),
        options_(options),
        result_(result),
        on_text_(on_text) {}

  // The stream's next token into the result, its text to the reader. Why the stream ends with it, if it does.
  std::optional<StopReason> take(int32_t token);
  bool matched() const { return stops_.matched(); }
  // The rest of the text.
  void finish();

  // The text of a saved stream goes on; `ended`: something else follows, so that what was held back is shown.
  void resume(const StreamState& state, bool ended);
  void save(StreamState& state) const;

 private:
  bool show(const std::string& text);  // false: the reader wants no more

  const Tokenizer& tokenizer_;
  StreamDecoder decoder_;
  StopMatcher stops_;
  const DecodeOptions& options_;
  DecodeResult& result_;
  const std::function<bool(std::string_view)>& on_text_;
};

}  // namespace kvass
