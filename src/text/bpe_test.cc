// Byte-level vocabularies: the rules on hand-made vocabularies, and ids and pieces of Hugging Face's tokenizers as
// goldens (tests/data/make_bpe_goldens.py).
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "text/byte_alphabet.h"
#include "text/stream_decoder.h"
#include "text/test_vocabulary.h"
#include "text/tokenizer.h"

namespace kvass {
namespace {

using Ids = std::vector<int32_t>;

const nlohmann::json& goldens() {
  static const nlohmann::json json = nlohmann::json::parse(std::ifstream(KVASS_TEST_DATA_DIR "/bpe.json"));
  return json;
}

Vocabulary golden_vocabulary(const nlohmann::json& entry) {
  Vocabulary vocabulary;
  vocabulary.kind = VocabularyKind::bpe;
  vocabulary.add_space_prefix = false;
  vocabulary.pre = entry.at("pre");
  vocabulary.pieces = entry.at("tokens").get<std::vector<std::string>>();
  vocabulary.types.assign(vocabulary.pieces.size(), TokenType::normal);
  vocabulary.merges = entry.at("merges").get<std::vector<std::string>>();
  return vocabulary;
}

std::string message(const Vocabulary& vocabulary) {
  const auto tokenizer = Tokenizer::create(vocabulary);
  return tokenizer.ok() ? "no error" : tokenizer.status().message();
}

TEST(ByteAlphabet, HasOnePrintableCharacterPerByte) {
  std::set<uint16_t> codes;
  for (int byte = 0; byte < 256; ++byte) {
    const uint16_t code = byte_alphabet()[byte];
    codes.insert(code);
    EXPECT_EQ(bytes_of_piece(utf8(code)), std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(codes.size(), 256u);
  EXPECT_EQ(bytes_of_piece("\u0120the"), " the");
  EXPECT_EQ(bytes_of_piece(""), "");
  for (const char* text : {" ", "\n", "\u0144", "中", "\xff", "a\u00a0"}) EXPECT_EQ(bytes_of_piece(text), std::nullopt);
}

TEST(Bpe, TheFirstListedMergeComesFirstWhateverItsToken) {
  ByteVocabularyBuilder builder;
  const int32_t ab = builder.add("ab"), bc = builder.add("bc");
  builder.vocabulary.merges = {"b c", "a b"};
  EXPECT_EQ(builder.build().encode("abc"), (Ids{'a', bc}));
  builder.vocabulary.merges = {"a b", "b c"};
  EXPECT_EQ(builder.build().encode("abc"), (Ids{ab, 'c'}));
  builder.vocabulary.merges = {"a b", "b c", "b c", "a b"};
  EXPECT_EQ(builder.build().encode("abc"), (Ids{ab, 'c'})) << "of equal merges the first counts";
}

TEST(Bpe, LeftmostOfEqualMergesIsFirst) {
  ByteVocabularyBuilder builder;
  const int32_t aa = builder.add("aa");
  builder.vocabulary.merges = {"a a"};
  EXPECT_EQ(builder.build().encode("aaaaa"), (Ids{aa, aa, 'a'}));
}

TEST(Bpe, OnlyListedPairsMergeHoweverTheySpell) {
  ByteVocabularyBuilder builder;
  builder.add("ab");
  const int32_t bc = builder.add("bc"), abc = builder.add("abc");
  builder.vocabulary.merges = {"b c", "ab c"};
  EXPECT_EQ(builder.build().encode("abc"), (Ids{'a', bc}));
  builder.vocabulary.merges.push_back("a bc");
  EXPECT_EQ(builder.build().encode("abc"), Ids{abc});
}

TEST(Bpe, WhereMergesAreIgnoredAWholePieceIsItsToken) {
  ByteVocabularyBuilder builder;
  const int32_t word = builder.add("\u0120abc");
  builder.vocabulary.pre = "llama-bpe";
  EXPECT_EQ(builder.build().encode(" abc abc1"), (Ids{word, word, '1'}));
  builder.vocabulary.pre = "qwen2";
  EXPECT_EQ(builder.build().encode(" abc"), (Ids{' ', 'a', 'b', 'c'}));
}

TEST(Bpe, NothingMergesAcrossPieces) {
  ByteVocabularyBuilder builder;
  builder.add("a1");
  builder.vocabulary.merges = {"a 1"};
  EXPECT_EQ(builder.build().encode("a1"), (Ids{'a', '1'}));
}

TEST(Bpe, SpecialTokensAreFoundFirstAndControlOnlyWhenAskedFor) {
  ByteVocabularyBuilder builder;
  const int32_t turn = builder.add("<|im_end|>", TokenType::control);
  const int32_t tag = builder.add("<tag>", TokenType::user_defined);
  const Tokenizer tokenizer = builder.build();
  EXPECT_EQ(tokenizer.encode("a<tag>b"), (Ids{'a', tag, 'b'}));
  EXPECT_EQ(tokenizer.encode("a<|im_end|>").size(), 11u);
  EXPECT_EQ(tokenizer.encode("a<|im_end|>", {.parse_special = true}), (Ids{'a', turn}));
  EXPECT_EQ(tokenizer.decode(Ids{'a', turn, tag}), "a<tag>");
  EXPECT_EQ(tokenizer.piece(turn, true), "<|im_end|>");
}

TEST(Bpe, APieceOutsideTheAlphabetIsWhatItSays) {
  ByteVocabularyBuilder builder;
  const int32_t literal = builder.add("中 文");
  const Tokenizer tokenizer = builder.build();
  EXPECT_EQ(tokenizer.piece(literal), "中 文");
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("中 文")), "中 文");
}

TEST(Bpe, AByteWithoutATokenIsTheUnknownTokenOrNothing) {
  ByteVocabularyBuilder builder;
  const int32_t unknown = builder.add("<unk>", TokenType::unknown);
  builder.vocabulary.types[0xe9] = TokenType::unused;
  EXPECT_EQ(builder.build().encode("a\xe9z"), (Ids{'a', 'z'}));
  builder.vocabulary.unknown = unknown;
  EXPECT_EQ(builder.build().encode("a\xe9z"), (Ids{'a', unknown, 'z'}));
}

TEST(Bpe, GenerationEndsAtEveryEndThatTheFileOrItsNamesTell) {
  ByteVocabularyBuilder builder;
  const int32_t text = builder.add("<|endoftext|>", TokenType::control);
  const int32_t turn = builder.add("<|im_end|>", TokenType::control);
  const int32_t message = builder.add("<mark>", TokenType::control);
  const int32_t start = builder.add("<|im_start|>", TokenType::control);
  builder.vocabulary.eom = message;
  const Tokenizer tokenizer = builder.build();
  EXPECT_EQ(tokenizer.eot(), turn);
  for (const int32_t id : {text, turn, message}) EXPECT_TRUE(tokenizer.is_end_of_generation(id)) << id;
  for (const int32_t id : {start, int32_t{'a'}, -1, tokenizer.size()})
    EXPECT_FALSE(tokenizer.is_end_of_generation(id)) << id;
}

TEST(Bpe, BrokenVocabulariesAreErrorsThatNameTheKey) {
  ByteVocabularyBuilder builder;
  builder.add("ab");
  Vocabulary vocabulary = builder.vocabulary;
  vocabulary.source = "model.gguf";
  vocabulary.pre = "esperanto\n";
  EXPECT_TRUE(message(vocabulary).starts_with("model.gguf: tokenizer.ggml.pre: expected one of default, llama-bpe, "))
      << message(vocabulary);
  EXPECT_TRUE(message(vocabulary).ends_with(", got \"esperanto?\"")) << message(vocabulary);
  const auto with_merge = [&](const char* merge) {
    vocabulary = builder.vocabulary;
    vocabulary.merges = {"a b", merge};
    return message(vocabulary);
  };
  EXPECT_EQ(with_merge("ab"),
            "tokenizer.ggml.merges[1]: expected two tokens with a space between, got 2 bytes that are not");
  EXPECT_EQ(with_merge(""),
            "tokenizer.ggml.merges[1]: expected two tokens with a space between, got 0 bytes that are not");
  EXPECT_EQ(with_merge("a 中"),
            "tokenizer.ggml.merges[1]: expected two tokens in the alphabet of bytes, got 5 bytes that are not");
  for (const char* merge : {"a c", "a ", "ab b", "xy z"}) {
    EXPECT_TRUE(with_merge(merge).starts_with("tokenizer.ggml.merges[1]: expected two tokens that make a third, got "))
        << with_merge(merge);
  }
}

TEST(BpeGoldens, EveryTextHasTheIdsOfHfTokenizers) {
  const auto texts = goldens().at("texts").get<std::vector<std::string>>();
  ASSERT_GE(texts.size(), 200u);
  ASSERT_EQ(goldens().at("vocabularies").size(), 3u);
  for (const auto& entry : goldens().at("vocabularies")) {
    const Tokenizer tokenizer = Tokenizer::create(golden_vocabulary(entry)).value();
    const auto& ids = goldens().at("ids").at(entry.at("pre").get<std::string>());
    ASSERT_EQ(ids.size(), texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      EXPECT_EQ(tokenizer.encode(texts[i]), ids[i].get<Ids>()) << entry.at("pre") << ": " << texts[i];
      EXPECT_EQ(tokenizer.decode(ids[i].get<Ids>()), texts[i]);
    }
  }
}

TEST(BpeGoldens, EveryPatternCutsAsItsEngineDoes) {
  const auto texts = goldens().at("texts").get<std::vector<std::string>>();
  ASSERT_GE(goldens().at("pieces").size(), 10u);
  for (const auto& [name, pieces] : goldens().at("pieces").items()) {
    const PreTokenizer splitter(*find_pre_tokenizer("pre", name).value());
    for (size_t i = 0; i < texts.size(); ++i) {
      std::vector<size_t> lengths;
      std::string together;
      splitter.split(texts[i], [&](std::string_view piece) {
        lengths.push_back(piece.size());
        together += piece;
      });
      EXPECT_EQ(lengths, pieces[i].get<std::vector<size_t>>()) << name << ": " << texts[i];
      EXPECT_EQ(together, texts[i]);
    }
  }
}

TEST(BpeGoldens, MissingPreIsDefault) {
  EXPECT_EQ(find_pre_tokenizer("pre", "").value(), find_pre_tokenizer("pre", "default").value());
  EXPECT_FALSE(find_pre_tokenizer("pre", "Default").ok());
}

TEST(BpeGoldens, AnyBytesComeBackAndStreamWhole) {
  const uint32_t seed = test_seed();
  SCOPED_TRACE(testing::Message() << "KVASS_SEED=" << seed);
  std::mt19937 random(seed);
  const auto texts = goldens().at("texts").get<std::vector<std::string>>();
  for (const auto& entry : goldens().at("vocabularies")) {
    const Tokenizer tokenizer = Tokenizer::create(golden_vocabulary(entry)).value();
    for (int round = 0; round < 1000; ++round) {
      std::string text = round % 3 ? texts[random() % texts.size()] : "";
      for (size_t i = 0, n = random() % 40; i < n; ++i) {
        text.insert(random() % (text.size() + 1), 1, static_cast<char>(random()));
      }
      const Ids ids = tokenizer.encode(text);
      ASSERT_EQ(tokenizer.decode(ids), text) << "round " << round;
      StreamDecoder decoder(tokenizer, {.at_start = true});
      std::string streamed;
      for (const int32_t id : ids) streamed += decoder.push(id);
      ASSERT_EQ(streamed + decoder.finish(), text) << "round " << round;
    }
  }
}

// The definition: each merge looks at all pairs.
Ids merge_by_definition(const Vocabulary& vocabulary, std::string_view piece) {
  std::vector<std::string> symbols;
  for (const char c : piece) symbols.push_back(utf8(byte_alphabet()[static_cast<uint8_t>(c)]));
  for (const std::string& merge : vocabulary.merges) {
    const size_t space = merge.find(' ', 1);
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      if (symbols[i] != merge.substr(0, space) || symbols[i + 1] != merge.substr(space + 1)) continue;
      symbols[i] += symbols[i + 1];
      symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(i) + 1);
    }
  }
  Ids ids;
  for (const std::string& symbol : symbols) {
    const auto found = std::find(vocabulary.pieces.begin(), vocabulary.pieces.end(), symbol);
    ids.push_back(static_cast<int32_t>(found - vocabulary.pieces.begin()));
  }
  return ids;
}

TEST(Bpe, EqualsTheDefinitionOfMerging) {
  const uint32_t seed = test_seed();
  SCOPED_TRACE(testing::Message() << "KVASS_SEED=" << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 60; ++round) {
    // As training makes a vocabulary: each merge joins two existing tokens, so no merge makes an earlier one possible.
    ByteVocabularyBuilder builder;
    std::vector<std::string> known = {"a", "b", "c"};
    for (int i = 0; i < 25; ++i) {
      const std::string left = known[random() % known.size()], right = known[random() % known.size()];
      if (std::find(known.begin(), known.end(), left + right) != known.end()) continue;
      builder.add(left + right);
      builder.vocabulary.merges.push_back(left + ' ' + right);
      known.push_back(left + right);
    }
    const Tokenizer tokenizer = builder.build();
    for (int i = 0; i < 10; ++i) {
      std::string text;
      for (size_t k = 0, n = random() % 60; k < n; ++k) text += static_cast<char>('a' + random() % 3);
      ASSERT_EQ(tokenizer.encode(text), merge_by_definition(builder.vocabulary, text)) << "round " << round << text;
    }
  }
}

TEST(Bpe, AMegabyteOfAnythingIsOnePieceAtMost) {
  ByteVocabularyBuilder builder;
  std::string piece = "a";
  for (int i = 0; i < 12; ++i, piece += piece) {
    builder.add(piece + piece);
    builder.vocabulary.merges.push_back(piece + ' ' + piece);
  }
  const Tokenizer tokenizer = builder.build();
  EXPECT_EQ(tokenizer.encode(std::string(1 << 20, 'a')), Ids(256, 256 + 11));
  for (const char* part : {" ", "\n", "A", "1", ".", "\xff", " \n", "a ", "中", "a\xcc\x81"}) {
    std::string text;
    while (text.size() < 1 << 20) text += part;
    EXPECT_TRUE(tokenizer.decode(tokenizer.encode(text)) == text) << part;
  }
}

}  // namespace
}  // namespace kvass
