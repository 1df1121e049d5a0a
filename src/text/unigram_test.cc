// Unigram vocabularies: the rules on hand-made vocabularies, and SentencePiece's ids as goldens
// (tests/data/make_unigram_goldens.py). The tables of normalization.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "text/normalizer.h"
#include "text/stream_decoder.h"
#include "text/test_vocabulary.h"
#include "text/tokenizer.h"

namespace kvass {
namespace {

using Ids = std::vector<int32_t>;

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

Vocabulary golden_vocabulary(const nlohmann::json& entry) {
  Vocabulary vocabulary;
  vocabulary.kind = VocabularyKind::unigram;
  vocabulary.pieces = entry.at("tokens").get<std::vector<std::string>>();
  vocabulary.scores = entry.at("scores").get<std::vector<float>>();
  for (const int type : entry.at("types")) vocabulary.types.push_back(static_cast<TokenType>(type));
  vocabulary.charsmap = from_hex(entry.at("charsmap").get<std::string>());
  vocabulary.remove_extra_whitespaces = entry.at("remove_extra_whitespaces").get<bool>();
  vocabulary.space_prefix = SpacePrefix::segments;
  vocabulary.unknown = 0;
  return vocabulary;
}

TEST(Unigram, GivesTheIdsOfSentencePiece) {
  const nlohmann::json goldens = nlohmann::json::parse(std::ifstream(KVASS_TEST_DATA_DIR "/unigram.json"));
  const auto texts = goldens.at("texts").get<std::vector<std::string>>();
  ASSERT_GE(texts.size(), 200u);
  for (const nlohmann::json& entry : goldens.at("vocabularies")) {
    const std::string name = entry.at("name");
    const Result<Tokenizer> tokenizer = Tokenizer::create(golden_vocabulary(entry));
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
    for (size_t i = 0; i < texts.size(); ++i) {
      EXPECT_EQ(tokenizer->encode(texts[i]), goldens.at("ids").at(name)[i].get<Ids>()) << name << ": " << texts[i];
    }
  }
}

Vocabulary small_vocabulary(bool bytes) {
  VocabularyBuilder builder(bytes ? VocabularyBuilder::Bytes::all : VocabularyBuilder::Bytes::none);
  builder.vocabulary.kind = VocabularyKind::unigram;
  builder.vocabulary.unknown = builder.add("<unk>", 0, TokenType::unknown);
  builder.add("a", -2);
  builder.add("b", -2);
  builder.add("ab", -5);
  builder.add("bb", -1);
  return builder.vocabulary;
}

TEST(Unigram, TakesTheLargestSumAndTheFirstOfEqualOnes) {
  const Vocabulary vocabulary = small_vocabulary(true);
  const int32_t a = vocabulary.unknown + 1, b = a + 1, ab = a + 2, bb = a + 3;
  const Tokenizer tokenizer = Tokenizer::create(vocabulary).value();
  EXPECT_EQ(tokenizer.encode("ab"), (Ids{a, b})) << "-4 is more than -5";
  EXPECT_EQ(tokenizer.encode("abb"), (Ids{a, bb}));
  EXPECT_EQ(tokenizer.encode("bbb"), (Ids{b, bb})) << "the way that ends in the first piece found";
  EXPECT_EQ(tokenizer.encode(""), Ids());
  EXPECT_NE(tokenizer.encode("ab"), Ids{ab});
}

TEST(Unigram, NeighboursThatAreNoPiecesAreBytesOrOneUnknown) {
  const Vocabulary with_bytes = small_vocabulary(true), without = small_vocabulary(false);
  EXPECT_EQ(Tokenizer::create(with_bytes)->encode("a\u00e9x"), (Ids{with_bytes.unknown + 1, 0xc3, 0xa9, 'x'}));
  EXPECT_EQ(Tokenizer::create(without)->encode("a\u00e9xb"),
            (Ids{without.unknown + 1, without.unknown, without.unknown + 2}));
  EXPECT_EQ(Tokenizer::create(without)->encode("\xff\xfe"), Ids{without.unknown});
}

TEST(Unigram, TextAfterALiteralTokenBeginsAnew) {
  Vocabulary vocabulary = small_vocabulary(true);
  const int32_t mark = static_cast<int32_t>(vocabulary.pieces.size());
  vocabulary.pieces.push_back("<mark>");
  vocabulary.scores.push_back(0);
  vocabulary.types.push_back(TokenType::user_defined);
  vocabulary.add_space_prefix = vocabulary.remove_extra_whitespaces = true;
  vocabulary.space_prefix = SpacePrefix::segments;
  const Tokenizer tokenizer = Tokenizer::create(vocabulary).value();
  const int32_t a = vocabulary.unknown + 1;
  EXPECT_EQ(tokenizer.encode("  a <mark>a  a"), (Ids{' ', a, mark, ' ', a, ' ', a}));
  EXPECT_EQ(tokenizer.encode("<mark>"), Ids{mark});
}

TEST(Charsmap, AnyBytesAreReadOrRefused) {
  const auto size = [](uint32_t bytes) {
    std::string text(4, '\0');
    std::memcpy(text.data(), &bytes, 4);
    return text;
  };
  EXPECT_EQ(Charsmap().apply("text"), "text");
  EXPECT_EQ(Charsmap::parse("", "f")->apply("text"), "text");
  for (const std::string& bytes :
       {std::string("abc"), size(4), size(0), size(3) + "abc", size(8) + "abcdefg", size(4) + "abcd" + "no zero"}) {
    const Result<Charsmap> map = Charsmap::parse(bytes, "the field");
    ASSERT_FALSE(map.ok());
    EXPECT_EQ(map.status().message().find("the field: expected "), 0u);
  }
  std::mt19937 random(test_seed());
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = size(64);
    for (int i = 0; i < 80; ++i) bytes += static_cast<char>(random() % 3 == 0 ? random() % 256 : random() % 8);
    bytes += '\0';
    std::string text;
    for (int i = 0; i < 40; ++i) text += static_cast<char>(random() % 256);
    (void)Charsmap::parse(bytes, "f")->apply(text);
  }
}

TEST(Nfc, ComposesWhatIsUtf8AndLeavesTheRest) {
  std::string scratch;
  EXPECT_EQ(to_nfc("plain", scratch), "plain");
  EXPECT_EQ(to_nfc("e\u0301", scratch), "\u00e9");
  EXPECT_EQ(to_nfc("\u1100\u1161\u11a8", scratch), "\uac01");
  EXPECT_EQ(to_nfc("\u212b \u2126", scratch), "\u00c5 \u03a9");
  EXPECT_EQ(to_nfc("\u0915\u093c \u0958", scratch), "\u0915\u093c \u0915\u093c") << "excluded from composition";
  EXPECT_EQ(to_nfc("a\u0301\xff\u0301", scratch), "\u00e1\xff\u0301");
  EXPECT_EQ(to_nfc(std::string_view("e\u0301\0e\u0301", 7), scratch), std::string_view("\u00e9\0\u00e9", 5));
  EXPECT_EQ(to_nfc("\U0001f636\u200d\U0001f32b\ufe0f", scratch), "\U0001f636\u200d\U0001f32b\ufe0f");
}

TEST(Nfc, AVocabularyMayAskForIt) {
  ByteVocabularyBuilder builder;
  builder.vocabulary.nfc = true;
  EXPECT_EQ(builder.build().encode("e\u0301"), (Ids{0xc3, 0xa9}));
  builder.vocabulary.nfc = false;
  EXPECT_EQ(builder.build().encode("e\u0301"), (Ids{'e', 0xcc, 0x81}));
}

// As Gemma 4's: SentencePiece's pieces, with merges in a list.
TEST(CharacterMerges, TheFirstInTheListComesFirst) {
  VocabularyBuilder builder;
  const int32_t a = builder.add("a", 0), b = builder.add("b", 0), space = builder.add("\u2581", 0);
  const int32_t ab = builder.add("ab", 0), ba = builder.add("ba", 0), word = builder.add("\u2581ab", 0);
  const int32_t lines = builder.add("\n\n", 0), line = builder.add("\n", 0);
  builder.vocabulary.scores.clear();
  builder.vocabulary.merges = {"b a", "a b", "\u2581 ab", "\n \n"};
  const Tokenizer tokenizer = builder.build();
  EXPECT_EQ(tokenizer.encode("aba"), (Ids{a, ba}));
  EXPECT_EQ(tokenizer.encode(" ab"), Ids{word});
  EXPECT_EQ(tokenizer.encode("ab ab\n\n\n"), (Ids{ab, word, lines, line}));
  EXPECT_EQ(tokenizer.encode("b x\u00e9"), (Ids{b, space, 'x', 0xc3, 0xa9}));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(" ab b")), " ab b");
  builder.vocabulary.merges = {"a c"};
  EXPECT_FALSE(Tokenizer::create(builder.vocabulary).ok());
}

}  // namespace
}  // namespace kvass
