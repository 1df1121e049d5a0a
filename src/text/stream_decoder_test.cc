#include "text/stream_decoder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "text/test_vocabulary.h"

namespace kvass {
namespace {

TEST(StreamDecoder, HoldsACharacterUntilItIsComplete) {
  VocabularyBuilder builder;
  const Tokenizer tokenizer = builder.build();
  StreamDecoder decoder(tokenizer);
  const auto push = [&](int byte) { return decoder.push(builder.byte(static_cast<uint8_t>(byte))); };
  EXPECT_EQ(push('a'), "a");
  EXPECT_EQ(push(0xf0), "");
  EXPECT_EQ(push(0x9f), "");
  EXPECT_EQ(push(0x99), "");
  EXPECT_EQ(push(0x82), "🙂");
  EXPECT_EQ(push(0xe2), "");
  EXPECT_EQ(decoder.finish(), "\xe2");
  EXPECT_EQ(decoder.finish(), "");
}

TEST(StreamDecoder, GivesBytesThatCannotBecomeACharacterAtOnce) {
  VocabularyBuilder builder;
  const Tokenizer tokenizer = builder.build();
  StreamDecoder decoder(tokenizer);
  const auto push = [&](int byte) { return decoder.push(builder.byte(static_cast<uint8_t>(byte))); };
  EXPECT_EQ(push(0xff), "\xff");
  EXPECT_EQ(push(0xe0), "");
  EXPECT_EQ(push(0x80), "\xe0\x80") << "an overlong form";
  EXPECT_EQ(push(0xf0), "");
  EXPECT_EQ(push(0x9f), "");
  EXPECT_EQ(push('x'), "\xf0\x9fx");
}

TEST(StreamDecoder, ShowsControlTokensWhenAsked) {
  VocabularyBuilder builder;
  const int32_t control = builder.add("<end>", 0, TokenType::control);
  const Tokenizer tokenizer = builder.build();
  EXPECT_EQ(StreamDecoder(tokenizer).push(control), "");
  EXPECT_EQ(StreamDecoder(tokenizer, {.show_control = true}).push(control), "<end>");
}

TEST(StreamDecoder, KeepsTheFirstSpaceOfAContinuation) {
  VocabularyBuilder builder;
  const int32_t word = builder.add("\u2581a", -1);
  builder.vocabulary.add_space_prefix = true;
  const Tokenizer tokenizer = builder.build();
  EXPECT_EQ(StreamDecoder(tokenizer).push(word), " a");
  EXPECT_EQ(StreamDecoder(tokenizer, {.at_start = true}).push(word), "a");
}

TEST(StopMatcher, HoldsBackOnlyWhatMayBeginAStopText) {
  StopMatcher matcher({"\n\nUser:"});
  EXPECT_EQ(matcher.push("Hi\n"), "Hi");
  EXPECT_EQ(matcher.push("there\n\nUs"), "\nthere");
  EXPECT_EQ(matcher.push("ers"), "\n\nUsers");
  EXPECT_EQ(matcher.push(".\n\n"), ".");
  EXPECT_EQ(matcher.push("\nUser"), "\n");
  EXPECT_FALSE(matcher.matched());
  EXPECT_EQ(matcher.push(": and more"), "");
  EXPECT_TRUE(matcher.matched());
  EXPECT_EQ(matcher.matched_stop(), 0);
  EXPECT_EQ(matcher.push("nothing"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, GivesWhatItHeldWhenTheStreamEnds) {
  StopMatcher matcher({"stop", ""});
  EXPECT_EQ(matcher.push("sto"), "");
  EXPECT_EQ(matcher.finish(), "sto");
  EXPECT_EQ(matcher.push("p"), "p") << "nothing is remembered across the end";
  EXPECT_FALSE(matcher.matched());
}

TEST(StopMatcher, GivesTheSameHoweverTheTextIsCut) {
  const uint32_t seed = test_seed();
  SCOPED_TRACE(testing::Message() << "KVASS_SEED=" << seed);
  std::mt19937 random(seed);
  const auto letters = [&](size_t length) {
    std::string text;
    for (size_t i = 0; i < length; ++i) text += static_cast<char>('a' + random() % 2);
    return text;
  };
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::string> stops;
    for (size_t i = 0, n = random() % 4; i < n; ++i) stops.push_back(letters(1 + random() % 6));
    const std::string text = letters(random() % 40);
    // The definition: the shortest prefix of the text that ends with a stop text, without the longest such stop text.
    std::string expected = text;
    bool matched = false;
    for (size_t end = 1; end <= text.size() && !matched; ++end) {
      size_t longest = 0;
      for (const std::string& stop : stops) {
        if (text.substr(0, end).ends_with(stop)) longest = std::max(longest, stop.size());
      }
      if (longest == 0) continue;
      matched = true;
      expected = text.substr(0, end - longest);
    }
    StopMatcher matcher(stops);
    std::string shown;
    for (size_t at = 0; at < text.size();) {
      const size_t length = random() % 5;
      shown += matcher.push(std::string_view(text).substr(at, length));
      at += length;
    }
    shown += matcher.finish();
    ASSERT_EQ(matcher.matched(), matched) << text;
    ASSERT_EQ(shown, expected) << text;
  }
}

}  // namespace
}  // namespace kvass
