#include "text/utf8.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "text/test_vocabulary.h"

namespace kvass {
namespace {

TEST(Utf8, EveryCharacterIsOneStepAndItsBeginningsAreIncomplete) {
  for (uint32_t code = 0; code < 0x110000; ++code) {
    if (code >= 0xd800 && code < 0xe000) continue;
    const std::string text = utf8(code);
    const Utf8Step step = utf8_step(text);
    ASSERT_EQ(step.state, Utf8Step::valid) << code;
    ASSERT_EQ(step.length, text.size()) << code;
    ASSERT_EQ(step.code, code);
    for (size_t part = 1; part < text.size(); ++part) {
      const Utf8Step incomplete = utf8_step(std::string_view(text).substr(0, part));
      ASSERT_EQ(incomplete.state, Utf8Step::incomplete) << code;
      ASSERT_EQ(incomplete.length, part);
    }
  }
}

TEST(Utf8, OverlongFormsSurrogatesAndTooLargeValuesAreInvalid) {
  for (const std::string_view text :
       {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80", "\xff", "\xc3\x41", "\xe2\x96\x41"}) {
    EXPECT_EQ(utf8_step(text).state, Utf8Step::invalid);
    EXPECT_EQ(utf8_step(text).length, 1);
  }
}

}  // namespace
}  // namespace kvass
