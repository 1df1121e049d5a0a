// The tokenizer on vocabularies from files: a small GGUF file written here, and the real model with its goldens
// (KVASS_MODEL names the file).
#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "file/gguf.h"
#include "text/stream_decoder.h"
#include "text/test_vocabulary.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace kvass {
namespace {

// Writes a GGUF file (version 3) that has metadata only.
class MetadataFile {
 public:
  template <class T>
  void add(std::string_view key, uint32_t type, const T& value) {
    text(body_, key);
    put(body_, type);
    put(body_, value);
    ++count_;
  }
  void add_string(std::string_view key, std::string_view value) {
    text(body_, key);
    put(body_, uint32_t{8});
    text(body_, value);
    ++count_;
  }
  template <class T>
  void add_array(std::string_view key, uint32_t type, const std::vector<T>& values) {
    text(body_, key);
    put(body_, uint32_t{9});
    put(body_, type);
    put(body_, uint64_t{values.size()});
    for (const T& value : values) {
      if constexpr (std::is_same_v<T, std::string>) {
        text(body_, value);
      } else {
        put(body_, value);
      }
    }
    ++count_;
  }

  Result<Vocabulary> read() const {
    std::string file = "GGUF";
    put(file, uint32_t{3});
    put(file, uint64_t{0});
    put(file, count_);
    file += body_;
    auto gguf = Gguf::parse({reinterpret_cast<const uint8_t*>(file.data()), file.size()}, "small.gguf");
    return gguf.ok() ? read_vocabulary(gguf.value()) : Result<Vocabulary>(gguf.status());
  }

 private:
  template <class T>
  static void put(std::string& out, const T& value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  static void text(std::string& out, std::string_view value) {
    put(out, uint64_t{value.size()});
    out.append(value);
  }
  std::string body_;
  uint64_t count_ = 0;
};

constexpr uint32_t kUint32 = 4, kInt32 = 5, kFloat32 = 6, kBool = 7, kString = 8;

MetadataFile small_file(std::string_view kind = "llama") {
  MetadataFile file;
  file.add_string("tokenizer.ggml.model", kind);
  file.add_array<std::string>("tokenizer.ggml.tokens", kString, {"<unk>", "<s>", "</s>", "a"});
  file.add_array<float>("tokenizer.ggml.scores", kFloat32, {0, 0, 0, -1});
  return file;
}

TEST(ReadVocabulary, TakesTheDefaultsOfTheFormatWhereKeysAreMissing) {
  MetadataFile file = small_file();
  file.add_array<int32_t>("tokenizer.ggml.token_type", kInt32, {2, 3, 3, 1});
  const auto vocabulary = file.read();
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status().message();
  EXPECT_EQ(vocabulary->pieces, (std::vector<std::string>{"<unk>", "<s>", "</s>", "a"}));
  EXPECT_EQ(vocabulary->scores, (std::vector<float>{0, 0, 0, -1}));
  EXPECT_EQ(vocabulary->types[0], TokenType::unknown);
  EXPECT_EQ(vocabulary->unknown, 0);
  EXPECT_EQ(vocabulary->bos, 1);
  EXPECT_EQ(vocabulary->eos, 2);
  EXPECT_EQ(vocabulary->eot, -1);
  EXPECT_TRUE(vocabulary->add_bos);
  EXPECT_FALSE(vocabulary->add_eos);
  EXPECT_TRUE(vocabulary->add_space_prefix);
  EXPECT_TRUE(Tokenizer::create(vocabulary.value()).ok());
}

TEST(ReadVocabulary, TakesWhatTheFileSays) {
  MetadataFile file = small_file();
  file.add_array<int32_t>("tokenizer.ggml.token_type", kInt32, {3, 3, 3, 1});
  file.add("tokenizer.ggml.bos_token_id", kUint32, uint32_t{2});
  file.add("tokenizer.ggml.eot_token_id", kUint32, uint32_t{3});
  file.add("tokenizer.ggml.add_bos_token", kBool, uint8_t{0});
  file.add("tokenizer.ggml.add_eos_token", kBool, uint8_t{1});
  file.add("tokenizer.ggml.add_space_prefix", kBool, uint8_t{0});
  const auto vocabulary = file.read();
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status().message();
  EXPECT_EQ(vocabulary->unknown, -1) << "token 0 is not of type unknown";
  EXPECT_EQ(vocabulary->bos, 2);
  EXPECT_EQ(vocabulary->eot, 3);
  EXPECT_FALSE(vocabulary->add_bos);
  EXPECT_TRUE(vocabulary->add_eos);
  EXPECT_FALSE(vocabulary->add_space_prefix);
}

TEST(ReadVocabulary, RefusesOtherKindsOfTokenizers) {
  const auto vocabulary = small_file("bert").read();
  ASSERT_FALSE(vocabulary.ok());
  EXPECT_NE(vocabulary.status().message().find("small.gguf: tokenizer.ggml.model: expected \"llama\""),
            std::string::npos);
  EXPECT_NE(vocabulary.status().message().find("got \"bert\" (WordPiece)"), std::string::npos);
  EXPECT_NE(small_file("rwkv").read().status().message().find("got \"rwkv\""), std::string::npos);
}

MetadataFile byte_level_file(const char* pre) {
  MetadataFile file;
  file.add_string("tokenizer.ggml.model", "gpt2");
  if (pre != nullptr) file.add_string("tokenizer.ggml.pre", pre);
  file.add_array<std::string>("tokenizer.ggml.tokens", kString, {"a", "b", "ab", "<|eot_id|>"});
  file.add_array<int32_t>("tokenizer.ggml.token_type", kInt32, {1, 1, 1, 3});
  return file;
}

TEST(ReadVocabulary, TakesByteLevelMergesAndWhatTheirKindExpects) {
  MetadataFile file = byte_level_file("llama-bpe");
  file.add_array<std::string>("tokenizer.ggml.merges", kString, {"a b"});
  file.add("tokenizer.ggml.eom_token_id", kUint32, uint32_t{3});
  const auto vocabulary = file.read();
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status().message();
  EXPECT_EQ(vocabulary->kind, VocabularyKind::bpe);
  EXPECT_EQ(vocabulary->merges, std::vector<std::string>{"a b"});
  EXPECT_EQ(vocabulary->pre, "llama-bpe");
  EXPECT_EQ(vocabulary->bos, -1) << "a byte-level file names its tokens";
  EXPECT_EQ(vocabulary->eom, 3);
  EXPECT_TRUE(vocabulary->add_bos) << "as the kind has it";
  EXPECT_FALSE(vocabulary->add_space_prefix);
  EXPECT_EQ(Tokenizer::create(vocabulary.value())->encode("abab"), (std::vector<int32_t>{2, 2}));

  MetadataFile plain = byte_level_file(nullptr);
  plain.add_array<std::string>("tokenizer.ggml.merges", kString, {});
  const auto without = plain.read();
  ASSERT_TRUE(without.ok()) << without.status().message();
  EXPECT_EQ(without->pre, "");
  EXPECT_FALSE(without->add_bos);
}

TEST(ReadVocabulary, RefusesByteLevelFilesWithoutMergesOrOfAnUnknownKind) {
  const auto without = byte_level_file("gpt-2").read();
  ASSERT_FALSE(without.ok());
  EXPECT_NE(without.status().message().find("tokenizer.ggml.merges"), std::string::npos);
  MetadataFile unknown = byte_level_file("volapuk");
  unknown.add_array<std::string>("tokenizer.ggml.merges", kString, {"a b"});
  const auto refused = unknown.read();
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.status().message().find("small.gguf: tokenizer.ggml.pre: expected one of default, "),
            std::string::npos);
}

TEST(ReadVocabulary, TypesThatAreMissingFollowFromTheNames) {
  MetadataFile file;
  file.add_string("tokenizer.ggml.model", "llama");
  file.add_array<std::string>("tokenizer.ggml.tokens", kString, {"<unk>", "<s>", "</s>", "<0x0A>", "a", "<0xZZ>"});
  file.add_array<float>("tokenizer.ggml.scores", kFloat32, {0, 0, 0, 0, -1, -2});
  const auto vocabulary = file.read();
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status().message();
  EXPECT_EQ(vocabulary->types, (std::vector<TokenType>{TokenType::unknown, TokenType::control, TokenType::control,
                                                       TokenType::byte, TokenType::normal, TokenType::normal}));
  EXPECT_EQ(vocabulary->bos, 1);
  EXPECT_EQ(Tokenizer::create(vocabulary.value())->encode("a\n"), (std::vector<int32_t>{0, 4, 3}))
      << "the space before a text has no token";
  MetadataFile not_said = small_file();
  not_said.add_array<int32_t>("tokenizer.ggml.token_type", kInt32, {2, 3, 3, 0});
  EXPECT_EQ(not_said.read()->types[3], TokenType::normal);
}

TEST(ReadVocabulary, ReadsMergesOfCharacters) {
  for (const bool own_model : {true, false}) {
    MetadataFile file;
    file.add_string("tokenizer.ggml.model", own_model ? "gemma4" : "gpt2");
    if (!own_model) file.add_string("tokenizer.ggml.pre", "sarvam-moe");
    file.add_array<std::string>("tokenizer.ggml.tokens", kString, {"<unk>", "a", "\u2581", "\u2581a"});
    file.add_array<int32_t>("tokenizer.ggml.token_type", kInt32, {2, 1, 1, 1});
    file.add_array<std::string>("tokenizer.ggml.merges", kString, {"\u2581 a"});
    file.add("tokenizer.ggml.unknown_token_id", kUint32, uint32_t{0});
    const auto vocabulary = file.read();
    ASSERT_TRUE(vocabulary.ok()) << vocabulary.status().message();
    EXPECT_EQ(vocabulary->kind, VocabularyKind::spm);
    EXPECT_FALSE(vocabulary->add_bos);
    EXPECT_FALSE(vocabulary->add_space_prefix);
    EXPECT_EQ(Tokenizer::create(vocabulary.value())->encode("a a?"), (std::vector<int32_t>{1, 3, 0}));
  }
}

TEST(ReadVocabulary, ReadsUnigrams) {
  MetadataFile file;
  file.add_string("tokenizer.ggml.model", "t5");
  file.add_array<std::string>("tokenizer.ggml.tokens", kString, {"<pad>", "</s>", "<unk>", "\u2581a", "b"});
  file.add_array<float>("tokenizer.ggml.scores", kFloat32, {0, 0, 0, -1, -2});
  file.add_array<int32_t>("tokenizer.ggml.token_type", kInt32, {3, 3, 2, 1, 1});
  file.add("tokenizer.ggml.remove_extra_whitespaces", kBool, uint8_t{1});
  const auto vocabulary = file.read();
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status().message();
  EXPECT_EQ(vocabulary->kind, VocabularyKind::unigram);
  EXPECT_EQ(vocabulary->eos, 1);
  EXPECT_EQ(vocabulary->unknown, 2);
  EXPECT_EQ(vocabulary->bos, -1);
  EXPECT_FALSE(vocabulary->add_bos);
  EXPECT_TRUE(vocabulary->add_eos);
  EXPECT_TRUE(vocabulary->remove_extra_whitespaces);
  EXPECT_EQ(Tokenizer::create(vocabulary.value())->encode("  ab   a "), (std::vector<int32_t>{3, 4, 3}));
  file.add_array<uint8_t>("tokenizer.ggml.precompiled_charsmap", 0, {9, 0, 0, 0, 1});
  EXPECT_EQ(Tokenizer::create(file.read().value())
                .status()
                .message()
                .find("small.gguf: tokenizer.ggml.precompiled_charsmap: expected a trie"),
            0u);
}

TEST(ReadVocabulary, NormalizationThatMergesDoNotHaveIsRefused) {
  MetadataFile spaces = small_file();
  spaces.add("tokenizer.ggml.remove_extra_whitespaces", kBool, uint8_t{1});
  EXPECT_NE(spaces.read().status().message().find("remove_extra_whitespaces: expected false"), std::string::npos);
  MetadataFile table = small_file();
  table.add_array<uint8_t>("tokenizer.ggml.precompiled_charsmap", 0, {4, 0, 0, 0, 1, 1, 1, 1});
  EXPECT_NE(table.read().status().message().find("precompiled_charsmap: expected none"), std::string::npos);
}

TEST(ReadVocabulary, TokensWithoutARowAreDropped) {
  Vocabulary vocabulary;
  vocabulary.kind = VocabularyKind::bpe;
  vocabulary.pieces = {"a", "b", "ab", "abb", "<|end|>"};
  vocabulary.types = {TokenType::normal, TokenType::normal, TokenType::normal, TokenType::normal, TokenType::control};
  vocabulary.merges = {"a b", "ab b"};
  vocabulary.add_bos = false;
  vocabulary.eos = 4;
  Vocabulary whole = vocabulary;
  ASSERT_TRUE(drop_tokens_from(5, whole).ok());
  EXPECT_EQ(whole.pieces.size(), 5u);
  ASSERT_TRUE(drop_tokens_from(3, vocabulary).ok());
  EXPECT_EQ(vocabulary.pieces, (std::vector<std::string>{"a", "b", "ab"}));
  EXPECT_EQ(vocabulary.types.size(), 3u);
  EXPECT_EQ(vocabulary.merges, std::vector<std::string>{"a b"});
  EXPECT_EQ(vocabulary.eos, -1);
  EXPECT_EQ(Tokenizer::create(vocabulary)->encode("abb"), (std::vector<int32_t>{2, 1}));
  whole.add_bos = true;
  whole.bos = 4;
  EXPECT_NE(drop_tokens_from(4, whole).message().find("bos_token_id: expected an id below 4"), std::string::npos);
}

TEST(ReadVocabulary, RefusesUnknownTypesAndIdsOutOfRange) {
  MetadataFile bad_type = small_file();
  bad_type.add_array<int32_t>("tokenizer.ggml.token_type", kInt32, {2, 3, 3, 7});
  const auto with_bad_type = bad_type.read();
  ASSERT_FALSE(with_bad_type.ok());
  EXPECT_NE(with_bad_type.status().message().find("token_type[3]: expected 0 to 6, got 7"), std::string::npos);
  MetadataFile bad_id = small_file();
  bad_id.add_array<int32_t>("tokenizer.ggml.token_type", kInt32, {2, 3, 3, 1});
  bad_id.add("tokenizer.ggml.eos_token_id", kUint32, UINT32_MAX);
  const auto with_bad_id = bad_id.read();
  ASSERT_FALSE(with_bad_id.ok());
  EXPECT_NE(with_bad_id.status().message().find("eos_token_id: expected an id below 4, got 4294967295"),
            std::string::npos);
}

class RealVocabulary : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const char* path = std::getenv("KVASS_MODEL");
    if (path == nullptr || !std::filesystem::exists(path)) return;
    auto file = Gguf::open(path);
    ASSERT_TRUE(file.ok()) << file.status().message();
    auto vocabulary = read_vocabulary(file.value());
    ASSERT_TRUE(vocabulary.ok()) << vocabulary.status().message();
    auto tokenizer = Tokenizer::create(vocabulary.value());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
    tokenizer_.emplace(std::move(tokenizer).value());
  }
  static void TearDownTestSuite() { tokenizer_.reset(); }
  void SetUp() override {
    if (!tokenizer_) GTEST_SKIP() << "KVASS_MODEL names no file: the tokenizer of the real model is not tested";
  }
  static std::optional<nlohmann::json> goldens() {
    std::ifstream file(KVASS_GOLDENS_DIR "/tokenizer.json");
    if (!file) return std::nullopt;
    return nlohmann::json::parse(file).at("cases");
  }
  static std::optional<Tokenizer> tokenizer_;
};
std::optional<Tokenizer> RealVocabulary::tokenizer_;

TEST_F(RealVocabulary, GivesTheIdsOfEveryGolden) {
  const auto cases = goldens();
  if (!cases) GTEST_SKIP() << "no tokenizer.json in " KVASS_GOLDENS_DIR;
  EXPECT_EQ(cases->size(), 238u);
  for (const auto& item : *cases) {
    const auto text = item.at("text").get<std::string>();
    const std::vector<int32_t> plain = tokenizer_->encode(text);
    EXPECT_EQ(tokenizer_->encode(text, {.bos = true, .parse_special = true}),
              item.at("ids").get<std::vector<int32_t>>())
        << text;
    if (!item.contains("ids_sentencepiece") || plain != item.at("ids_sentencepiece").get<std::vector<int32_t>>()) {
      EXPECT_EQ(plain, item.at("ids_plain").get<std::vector<int32_t>>()) << text;
    }
    if (item.at("roundtrip").get<bool>()) {
      EXPECT_EQ(tokenizer_->decode(plain), text);
    }
  }
}

TEST_F(RealVocabulary, StreamsEveryGoldenWithoutDividingACharacter) {
  const auto cases = goldens();
  if (!cases) GTEST_SKIP() << "no tokenizer.json in " KVASS_GOLDENS_DIR;
  for (const auto& item : *cases) {
    for (const char* list : {"ids", "ids_plain"}) {
      const auto ids = item.at(list).get<std::vector<int32_t>>();
      StreamDecoder decoder(*tokenizer_, {.at_start = true});
      std::string streamed;
      for (const int32_t id : ids) {
        const std::string text = decoder.push(id);
        streamed += text;
        for (size_t at = 0; at < text.size();) {
          const Utf8Step step = utf8_step(std::string_view(text).substr(at));
          ASSERT_EQ(step.state, Utf8Step::valid) << item.at("text");
          at += step.length;
        }
      }
      EXPECT_EQ(decoder.finish(), "");
      EXPECT_EQ(streamed, tokenizer_->decode(ids));
    }
  }
}

TEST_F(RealVocabulary, TextToIdsToTextIsTheIdentity) {
  const uint32_t seed = test_seed();
  SCOPED_TRACE(testing::Message() << "KVASS_SEED=" << seed);
  std::mt19937 random(seed);
  const std::vector<std::string> snippets{" ",     "  ",     "\n",  "\t",  "<h1>", "</s>",
                                          "<eos>", "<0x41>", "the", " of", "ing",  std::string(1, '\0')};
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    const int kind = static_cast<int>(random() % 3);
    for (size_t i = 0, n = random() % 60; i < n; ++i) {
      const uint32_t code = random() % 2 ? random() % 0x3000 : random() % 0x110000;
      const bool character = kind == 1 && code != 0x2581 && (code < 0xd800 || code >= 0xe000);
      if (kind == 0) text += static_cast<char>(random());
      if (character) text += utf8(code);
      if (kind == 2) text += snippets[random() % snippets.size()];
    }
    if (text.find("\u2581") != std::string::npos) continue;
    ASSERT_EQ(tokenizer_->decode(tokenizer_->encode(text, {.bos = true})), text) << "round " << round;
  }
}

TEST_F(RealVocabulary, EveryPieceButTheMarksStreamsAsItself) {
  for (int32_t id = 0; id < tokenizer_->size(); ++id) {
    StreamDecoder decoder(*tokenizer_);
    std::string streamed = decoder.push(id);
    streamed += decoder.finish();
    ASSERT_EQ(streamed, tokenizer_->piece(id)) << id;
    ASSERT_EQ(streamed.empty(), tokenizer_->is_control(id)) << id;
  }
}

TEST_F(RealVocabulary, AMegabyteOfAnythingIsNotQuadratic) {
  const uint32_t seed = test_seed();
  SCOPED_TRACE(testing::Message() << "KVASS_SEED=" << seed);
  std::mt19937 random(seed);
  constexpr size_t kBytes = 1 << 20;
  std::vector<std::string> texts{std::string(kBytes, 'a'), std::string(kBytes, ' '), std::string(kBytes, '\n'), "", ""};
  while (texts[3].size() < kBytes) texts[3] += static_cast<char>(random());
  while (texts[4].size() < kBytes) texts[4] += "<unused12";
  for (const std::string& text : texts) {
    const std::clock_t begin = std::clock();  // processor time: on a busy machine it is the same
    const std::vector<int32_t> ids = tokenizer_->encode(text, {.parse_special = true});
    // Generous, for sanitizers; the slowest takes less than half a second.
    EXPECT_LT(std::clock() - begin, 20 * CLOCKS_PER_SEC);
    EXPECT_TRUE(tokenizer_->decode(ids) == text);
  }
}

TEST_F(RealVocabulary, GenerationEndsAtEosAndEndOfTurnOnly) {
  for (int32_t id = 0; id < tokenizer_->size(); ++id) {
    const std::string_view name = tokenizer_->piece(id, true);
    ASSERT_EQ(tokenizer_->is_end_of_generation(id), name == "<eos>" || name == "<end_of_turn>") << id << ' ' << name;
  }
  EXPECT_EQ(tokenizer_->piece(212), "</s>") << "an HTML tag";
}

}  // namespace
}  // namespace kvass
