// What a reader is shown of a text that ends in its middle.
#include "app/text_output.h"

#include <gtest/gtest.h>

#include "text/test_vocabulary.h"

namespace kvass {
namespace {

// Of the byte tokens of a text: what is shown, and what the result has.
std::pair<std::string, std::string> shown_and_collected(std::string_view bytes, std::vector<std::string> stops = {}) {
  const Tokenizer tokenizer = VocabularyBuilder().build();
  DecodeOptions options;
  options.stops = std::move(stops);
  DecodeResult result;
  std::string shown;
  const OnText on_text = [&](std::string_view text) {
    shown += text;
    return true;
  };
  TextOutput output(tokenizer, options, result, on_text);
  for (const char byte : bytes) (void)output.take(static_cast<uint8_t>(byte));
  output.finish();
  return {shown, result.text};
}

TEST(TextOutput, AHalfCharacterIsInTheResultAlone) {
  using Pair = std::pair<std::string, std::string>;
  EXPECT_EQ(shown_and_collected("a\xe2\x82\xac"), Pair("a\u20ac", "a\u20ac"));
  EXPECT_EQ(shown_and_collected("a\xe2\x82"), Pair("a", "a\xe2\x82"));
  EXPECT_EQ(shown_and_collected("\xf0\x9f\x98"), Pair("", "\xf0\x9f\x98"));
  EXPECT_EQ(shown_and_collected("EN\xe2", {"END"}), Pair("EN", "EN\xe2")) << "after text that was held back";
  EXPECT_EQ(shown_and_collected("\xff"
                                "a"),
            Pair("\xff"
                 "a",
                 "\xff"
                 "a"))
      << "no character ever, and no half one";
}

}  // namespace
}  // namespace kvass
