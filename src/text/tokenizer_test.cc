#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <ctime>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "text/test_vocabulary.h"
#include "text/utf8.h"

namespace kvass {
namespace {

using Ids = std::vector<int32_t>;

TEST(Tokenizer, BestScoringPairIsMergedFirst) {
  VocabularyBuilder builder;
  const int32_t a = builder.add("a", -9), b = builder.add("b", -9), c = builder.add("c", -9);
  builder.add("ab", -2);
  const int32_t bc = builder.add("bc", -1);
  const Tokenizer tokenizer = builder.build();
  EXPECT_EQ(tokenizer.encode("abc"), (Ids{a, bc}));
  EXPECT_EQ(tokenizer.encode("acb"), (Ids{a, c, b}));
}

TEST(Tokenizer, LeftmostOfEqualScoresIsMergedFirst) {
  VocabularyBuilder builder;
  const int32_t a = builder.add("a", -9);
  const int32_t aa = builder.add("aa", -1);
  const Tokenizer tokenizer = builder.build();
  EXPECT_EQ(tokenizer.encode("aaaaa"), (Ids{aa, aa, a}));
}

TEST(Tokenizer, LongPieceNeedsAPathOfMerges) {
  VocabularyBuilder builder;
  const int32_t a = builder.add("a", -9), b = builder.add("b", -9), c = builder.add("c", -9);
  builder.add("abc", 0);
  EXPECT_EQ(builder.build().encode("abc"), (Ids{a, b, c}));
}

TEST(Tokenizer, CharactersOutsideTheVocabularyStillMergeIntoItsPieces) {
  VocabularyBuilder builder;
  const int32_t both = builder.add("éü", -1);
  EXPECT_EQ(builder.build().encode("éüé"), (Ids{both, builder.byte(0xc3), builder.byte(0xa9)}));
}

TEST(Tokenizer, SpaceAndItsMarkAreOneSymbol) {
  VocabularyBuilder builder;
  const int32_t word = builder.add("\u2581a", -1);
  builder.add("a", -2);
  const Tokenizer tokenizer = builder.build();
  EXPECT_EQ(tokenizer.encode(" a\u2581a"), (Ids{word, word}));
  EXPECT_EQ(tokenizer.decode(Ids{word, word}), " a a");
}

TEST(Tokenizer, SpaceWithoutATokenIsTheByteOfASpace) {
  VocabularyBuilder builder;
  EXPECT_EQ(builder.build().encode("\u2581 "), (Ids{builder.byte(' '), builder.byte(' ')}));
}

TEST(Tokenizer, SpacePrefixStandsBeforeTheTextAndAfterControlTokens) {
  VocabularyBuilder builder;
  const int32_t a = builder.add("a", -9), space = builder.add("\u2581", -9), word = builder.add("\u2581a", -1);
  const int32_t end = builder.add("<end>", 0, TokenType::control);
  const int32_t tag = builder.add("<tag>", 0, TokenType::user_defined);
  builder.vocabulary.add_space_prefix = true;
  const Tokenizer tokenizer = builder.build();
  EXPECT_EQ(tokenizer.encode(""), Ids{});
  EXPECT_EQ(tokenizer.encode("a"), Ids{word});
  EXPECT_EQ(tokenizer.encode(" a"), (Ids{space, word}));
  EXPECT_EQ(tokenizer.encode("a<tag>a"), (Ids{word, tag, a}));
  EXPECT_EQ(tokenizer.encode("<tag>a"), (Ids{space, tag, a}));
  EXPECT_EQ(tokenizer.encode("a<end>a", {.parse_special = true}), (Ids{word, end, word}));
  EXPECT_EQ(tokenizer.encode("<end><end>", {.parse_special = true}), (Ids{end, end}));
  for (const std::string_view text : {"a", " a", "  a", "a<tag>a", "<tag> a", " "}) {
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, {.bos = true})), text);
  }
  EXPECT_EQ(tokenizer.decode(Ids{word, end, word}), "aa");
}

TEST(Tokenizer, UserDefinedTokensAreFoundBeforeAnythingElse) {
  VocabularyBuilder builder;
  const int32_t a = builder.add("a", -9);
  builder.add("a<", 0);
  const int32_t br = builder.add("<br", -9, TokenType::user_defined);
  const int32_t br_closed = builder.add("<br>", -9, TokenType::user_defined);
  const int32_t tail = builder.add("r>>", -9, TokenType::user_defined);
  const Tokenizer tokenizer = builder.build();
  EXPECT_EQ(tokenizer.encode("a<br"), (Ids{a, br}));
  EXPECT_EQ(tokenizer.encode("<br>a"), (Ids{br_closed, a})) << "the longest match";
  EXPECT_EQ(tokenizer.encode("<br>>"), (Ids{br_closed, builder.byte('>')})) << "the match that begins first";
  EXPECT_EQ(tokenizer.encode("<r>>"), (Ids{builder.byte('<'), tail}));
}

TEST(Tokenizer, ControlTokensComeFromTextOnlyWhenAskedFor) {
  VocabularyBuilder builder;
  const int32_t open = builder.add("<", -9), x = builder.add("x", -9), close = builder.add(">", -9);
  const int32_t half = builder.add("<x", -2);
  const int32_t control = builder.add("<x>", 0, TokenType::control);
  const Tokenizer tokenizer = builder.build();
  EXPECT_EQ(tokenizer.encode("<x>"), (Ids{half, close}));
  EXPECT_EQ(tokenizer.encode("<x>", {.parse_special = true}), (Ids{control}));
  EXPECT_EQ(tokenizer.encode("<<x>x", {.parse_special = true}), (Ids{open, control, x}));
  EXPECT_EQ(tokenizer.decode(Ids{x, control, x}), "xx");
  EXPECT_EQ(tokenizer.piece(control), "");
  EXPECT_EQ(tokenizer.piece(control, true), "<x>");
  EXPECT_TRUE(tokenizer.is_control(control));
  EXPECT_FALSE(tokenizer.is_control(x));
}

TEST(Tokenizer, ByteUnusedAndUnknownTokensAreNeverMadeFromTheirNames) {
  VocabularyBuilder builder;
  const int32_t unused = builder.add("ab", 0, TokenType::unused);
  const int32_t unknown = builder.add("cd", 0, TokenType::unknown);
  const Tokenizer tokenizer = builder.build();
  for (const std::string_view text : {"ab", "cd", "<0x41>"}) {
    const Ids ids = tokenizer.encode(text);
    EXPECT_EQ(ids.size(), text.size());
    EXPECT_EQ(std::count(ids.begin(), ids.end(), unused) + std::count(ids.begin(), ids.end(), unknown), 0);
    EXPECT_EQ(tokenizer.decode(ids), text);
  }
}

TEST(Tokenizer, WithoutByteTokensACharacterBecomesTheUnknownToken) {
  VocabularyBuilder builder(VocabularyBuilder::Bytes::none);
  const int32_t a = builder.add("a", 0);
  const int32_t unknown = builder.vocabulary.unknown = builder.add("<unk>", 0, TokenType::unknown);
  const Tokenizer tokenizer = builder.build();
  EXPECT_EQ(tokenizer.encode("aéa"), (Ids{a, unknown, a}));
  EXPECT_EQ(tokenizer.decode(Ids{a, unknown}), "a\ufffd");
}

TEST(Tokenizer, OfEqualPiecesTheLowestIdCounts) {
  VocabularyBuilder builder;
  const int32_t first = builder.add("a", -5);
  builder.add("a", 0);
  builder.add("", 0);
  EXPECT_EQ(builder.build().encode("a"), Ids{first});
}

TEST(Tokenizer, IdsThatAreNoTokensSayNothing) {
  VocabularyBuilder builder;
  const Tokenizer tokenizer = builder.build();
  EXPECT_EQ(tokenizer.decode(Ids{-1, tokenizer.size(), INT32_MAX, INT32_MIN}), "");
  EXPECT_FALSE(tokenizer.is_control(-1));
  EXPECT_FALSE(tokenizer.is_end_of_generation(-1));
}

TEST(Tokenizer, GenerationEndsAtEosAndEndOfTurnButNotAtAnHtmlTag) {
  VocabularyBuilder builder;
  const int32_t eos = builder.vocabulary.eos = builder.add("<eos>", 0, TokenType::control);
  const int32_t turn = builder.add("<end_of_turn>", 0, TokenType::control);
  const int32_t tag = builder.add("</s>", 0, TokenType::user_defined);
  const Tokenizer by_name = builder.build();
  EXPECT_EQ(by_name.eot(), turn);
  EXPECT_TRUE(by_name.is_end_of_generation(eos));
  EXPECT_TRUE(by_name.is_end_of_generation(turn));
  EXPECT_FALSE(by_name.is_end_of_generation(tag));
  builder.vocabulary.eot = eos;
  EXPECT_EQ(builder.build().eot(), eos) << "what the file says comes before names";
  EXPECT_TRUE(builder.build().is_end_of_generation(turn)) << "but a model may use the other";
}

TEST(Tokenizer, TheFirstTextsMayBeEncodedByAnyThreads) {
  const Tokenizer tokenizer = [] {  // its vocabulary is destroyed before the threads begin
    VocabularyBuilder builder;
    for (const char* piece : {"a", "b", "ab", "abab", "\u2581a"}) builder.add(piece, 0);
    return builder.build();
  }();
  const std::string text = "abab ab aab";
  std::vector<Ids> ids(4);
  std::vector<std::thread> threads;
  for (Ids& mine : ids) threads.emplace_back([&] { mine = tokenizer.encode(text); });
  for (std::thread& thread : threads) thread.join();
  for (const Ids& mine : ids) EXPECT_EQ(mine, ids[0]);
  EXPECT_EQ(tokenizer.decode(ids[0]), text);
}

TEST(Tokenizer, BrokenVocabulariesAreErrorsThatNameTheKey) {
  const auto message = [](auto&& change) {
    VocabularyBuilder builder;
    builder.add("a", 0);
    change(builder.vocabulary);
    const auto tokenizer = Tokenizer::create(builder.vocabulary);
    return tokenizer.ok() ? std::string("no error") : tokenizer.status().message();
  };
  EXPECT_EQ(message([](Vocabulary& v) { v = {}; }),
            "tokenizer.ggml.tokens: expected between 1 and 2^31 - 1 tokens, got 0");
  EXPECT_EQ(message([](Vocabulary& v) {
              v.source = "model.gguf";
              v.scores.pop_back();
            }),
            "model.gguf: tokenizer.ggml.scores: expected one for each of 258 tokens, got 257");
  EXPECT_EQ(message([](Vocabulary& v) { v.types.push_back(TokenType::normal); }),
            "tokenizer.ggml.token_type: expected one for each of 258 tokens, got 259");
  EXPECT_EQ(message([](Vocabulary& v) { v.bos = 258; }),
            "tokenizer.ggml.bos_token_id: expected an id below 258, got 258");
  EXPECT_EQ(message([](Vocabulary& v) { v.eos = -2; }),
            "tokenizer.ggml.eos_token_id: expected an id below 258, got -2");
  EXPECT_EQ(message([](Vocabulary& v) { v.scores[3] = NAN; }), "tokenizer.ggml.scores[3]: expected a number, got NaN");
  EXPECT_EQ(message([](Vocabulary& v) { v.types[7] = TokenType{9}; }),
            "tokenizer.ggml.token_type[7]: expected 1 to 6, got 9");
  EXPECT_EQ(message([](Vocabulary& v) { v.pieces[0] = "<0xG0>"; }),
            "tokenizer.ggml.tokens[0]: expected <0xXX> for a token of type byte, got 6 bytes that are not");
  EXPECT_EQ(message([](Vocabulary& v) { v.types[65] = TokenType::normal; }),
            "tokenizer.ggml.tokens: expected a token for every byte, or an unknown token, got neither <0x41> nor "
            "tokenizer.ggml.unknown_token_id");
  EXPECT_EQ(message([](Vocabulary& v) {
              v.types.back() = TokenType::control;
              v.pieces.back().assign(257, 'x');
            }),
            "tokenizer.ggml.tokens[257]: expected at most 256 bytes in a special token, got 257");
}

// The definition of merging: each merge looks at the whole text.
Ids merge_by_definition(const VocabularyBuilder& builder, std::string_view text) {
  const Vocabulary& vocabulary = builder.vocabulary;
  const auto find = [&](const std::string& piece) {
    for (size_t id = 0; id < vocabulary.pieces.size(); ++id) {
      if (vocabulary.types[id] == TokenType::normal && vocabulary.pieces[id] == piece) return static_cast<int32_t>(id);
    }
    return -1;
  };
  std::vector<std::string> symbols;
  for (size_t at = 0; at < text.size(); at += symbols.back().size()) {
    const Utf8Step step = utf8_step(text.substr(at));
    symbols.emplace_back(text.substr(at, step.state == Utf8Step::valid ? step.length : 1));
  }
  for (;;) {
    size_t best = symbols.size();
    int32_t best_id = -1;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const int32_t id = find(symbols[i] + symbols[i + 1]);
      if (id < 0 || (best_id >= 0 && vocabulary.scores[id] <= vocabulary.scores[best_id])) continue;
      best = i;
      best_id = id;
    }
    if (best_id < 0) break;
    symbols[best] += symbols[best + 1];
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
  Ids ids;
  for (const std::string& symbol : symbols) {
    if (const int32_t id = find(symbol); id >= 0) {
      ids.push_back(id);
    } else {
      for (const char c : symbol) ids.push_back(builder.byte(static_cast<uint8_t>(c)));
    }
  }
  return ids;
}

TEST(Tokenizer, EqualsTheDefinitionOnRandomVocabulariesAndTexts) {
  const uint32_t seed = test_seed();
  SCOPED_TRACE(testing::Message() << "KVASS_SEED=" << seed);
  std::mt19937 random(seed);
  const std::vector<std::string> alphabet{"a", "b", "c", "é", "\xff", "🙂", "\xe2"};
  const auto text_of = [&](size_t symbols, size_t letters) {
    std::string text;
    for (size_t i = 0; i < symbols; ++i) text += alphabet[random() % letters];
    return text;
  };
  for (int round = 0; round < 60; ++round) {
    VocabularyBuilder builder;
    const size_t letters = 2 + random() % (alphabet.size() - 1);
    for (int i = 0; i < 40; ++i) builder.add(text_of(1 + random() % 5, letters), -static_cast<float>(random() % 20));
    const Tokenizer tokenizer = builder.build();
    for (int i = 0; i < 6; ++i) {
      const std::string text = text_of(random() % 80, letters);
      ASSERT_EQ(tokenizer.encode(text), merge_by_definition(builder, text)) << "round " << round;
      ASSERT_EQ(tokenizer.decode(tokenizer.encode(text)), text) << "round " << round;
    }
  }
}

TEST(Tokenizer, AMegabyteOfOneLetterIsNotQuadratic) {
  VocabularyBuilder builder;
  std::string piece = "a";
  for (int i = 0; i < 12; ++i, piece += piece) builder.add(piece, -static_cast<float>(i));
  const Tokenizer tokenizer = builder.build();
  const std::string text(1 << 20, 'a');
  const std::clock_t begin = std::clock();  // processor time: on a busy machine it is the same
  EXPECT_EQ(tokenizer.encode(text).size(), text.size() / 2048);
  EXPECT_LT(std::clock() - begin, 20 * CLOCKS_PER_SEC);  // generous, for sanitizers
}

}  // namespace
}  // namespace kvass
