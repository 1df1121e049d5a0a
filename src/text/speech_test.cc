#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "damage.h"
#include "goldens.h"
#include "scratch.h"
#include "text/byte_alphabet.h"
#include "text/speech_tokenizer.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

// Every byte, and pieces that are merged from bytes.
std::vector<std::string> small_text() {
  std::vector<std::string> pieces;
  for (int byte = 0; byte < 256; ++byte) pieces.push_back(std::string(1, static_cast<char>(byte)));
  for (const char* piece : {" t", "he", " the", "in", "ing", " -", "\xe2\x99", " \xe2\x99", " ("})
    pieces.push_back(piece);
  return pieces;
}

SpeechTokenizer small() {
  const std::vector<std::string> text = small_text();
  Result<SpeechVocabulary> vocabulary =
      complete_speech_vocabulary("f", text, static_cast<int64_t>(text.size()) + 1509 + 3);
  EXPECT_TRUE(vocabulary.ok()) << vocabulary.status().message();
  Result<SpeechTokenizer> tokenizer = SpeechTokenizer::create(std::move(vocabulary).value());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  return std::move(tokenizer).value();
}

std::optional<std::string> model_folder() {
  const char* const folder = std::getenv("KVASS_SPEECH_MODEL");
  return folder == nullptr ? std::nullopt : std::optional<std::string>(folder);
}

TEST(SpeechTokenizer, MarksFollowTheText) {
  const SpeechTokenizer tokenizer = small();
  EXPECT_EQ(tokenizer.end_of_text(), 265);
  EXPECT_EQ(tokenizer.start(), 266);
  ASSERT_EQ(tokenizer.languages().size(), 3u);
  EXPECT_EQ(tokenizer.languages()[2].code, "de");
  EXPECT_EQ(tokenizer.language_id("de"), 269);
  EXPECT_EQ(tokenizer.language_id("fr"), -1);
  EXPECT_EQ(tokenizer.translate(), 270);
  EXPECT_EQ(tokenizer.timestamp_begin(), tokenizer.size() - 1501);
  EXPECT_TRUE(tokenizer.multilingual());
}

TEST(SpeechTokenizer, TextComesBackAndMarksSayNothing) {
  const SpeechTokenizer tokenizer = small();
  Result<Tokenizer> encoder = tokenizer.text_encoder();
  ASSERT_TRUE(encoder.ok()) << encoder.status().message();
  std::vector<int32_t> ids = encoder->encode(" the thing \xe2\x99\xaa");
  EXPECT_EQ(ids[0], 258);  // " the" in one piece
  EXPECT_EQ(tokenizer.decode(ids), " the thing \xe2\x99\xaa");
  ids.push_back(tokenizer.timestamp_begin());
  ids.push_back(tokenizer.end_of_text());
  EXPECT_EQ(tokenizer.decode(ids), " the thing \xe2\x99\xaa");
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{'a', 0xe2, 'b'}), "a\ufffdb");
}

TEST(SpeechTokenizer, WordsKeepTheSpaceBeforeThemAndCharactersWhole) {
  const SpeechTokenizer tokenizer = small();
  const auto texts = [&](const std::vector<int32_t>& ids, const char* language) {
    std::vector<std::string> out;
    for (const SpeechWord& word : tokenizer.words(ids, language)) out.push_back(word.text);
    return out;
  };
  const std::vector<int32_t> ids = {258, ' ', 'a', 'b', ',', ' ', 0xc3, 0xa4, 0xc3, 0xb6, tokenizer.end_of_text()};
  EXPECT_EQ(texts(ids, "de"), (std::vector<std::string>{" the", " ab", ",", " äö", ""}));
  EXPECT_EQ(texts({0xc3, 0xa4, 0xc3, 0xb6}, "zh"), (std::vector<std::string>{"ä", "ö"}));
  EXPECT_EQ(texts({0xff, 'a', 0xe2}, "zh"), (std::vector<std::string>{"\ufffd", "a", "\ufffd"}));
}

TEST(SpeechTokenizer, LanguagesAreFoundByCodeNameAndAlias) {
  EXPECT_EQ(find_language("de"), "de");
  EXPECT_EQ(find_language("German"), "de");
  EXPECT_EQ(find_language("Castilian"), "es");
  EXPECT_EQ(find_language("yue"), "yue");
  EXPECT_EQ(find_language("klingon"), "");
  EXPECT_EQ(language_name("cy"), "welsh");
}

TEST(SpeechTokenizer, RefusesVocabulariesWithoutItsMarks) {
  const auto message = [](SpeechVocabulary vocabulary) {
    return SpeechTokenizer::create(std::move(vocabulary)).status().message();
  };
  expect_words(message({"f", {"a"}}), {"f: tokens", "<|endoftext|>"});
  expect_words(message({"f", {"a", "<|endoftext|>", "<|startoftranscript|>"}}), {"<|translate|>"});
  expect_words(complete_speech_vocabulary("f", small_text(), 300).status().message(), {"f: tokens", "300"});
  const Scratch scratch;
  expect_words(read_speech_vocabulary(scratch.file("")).status().message(), {"vocabulary.json"});
  const auto refused = [&](const char* name, const std::string& text) {
    std::ofstream(scratch.file(name)) << text;
    return read_speech_vocabulary(scratch.file("")).status().message();
  };
  expect_words(refused("tokenizer.json", "{"), {"tokenizer.json", "no valid JSON"});
  expect_words(refused("tokenizer.json", "{}"), {"model.vocab"});
  expect_words(refused("tokenizer.json", R"({"model":{"vocab":{"a":99999999}}})"), {"2^20"});
  expect_words(refused("tokenizer.json", R"({"model":{"vocab":{"a":0}},"added_tokens":[3]})"), {"added_tokens"});
  expect_words(refused("vocabulary.json", "[1]"), {"a JSON array of texts"});
  expect_words(refused("vocabulary.json", "{}"), {"a JSON array of tokens"});
}

TEST(SpeechTokenizer, EveryFormOfAVocabularyIsTheSame) {
  const std::vector<std::string> text = small_text();
  const SpeechVocabulary whole =
      complete_speech_vocabulary("f", text, static_cast<int64_t>(text.size()) + 1512).value();
  nlohmann::json list, vocab, added = nlohmann::json::array();
  std::string lines;
  for (size_t id = 0; id < whole.pieces.size(); ++id) {
    const bool is_text = id < text.size();
    const std::string piece = is_text ? piece_of_bytes(whole.pieces[id]) : whole.pieces[id];
    list.push_back(piece);
    lines += piece + "\n";
    if (is_text) vocab[piece] = id;
    if (!is_text && id < whole.pieces.size() - 1501) added.push_back({{"id", id}, {"content", piece}});
  }
  const Scratch scratch;
  const std::string tokenizer = nlohmann::json{{"model", {{"vocab", vocab}}}, {"added_tokens", added}}.dump();
  for (const auto& [name, content] :
       {std::pair{"tokenizer.json", tokenizer}, {"vocabulary.txt", lines}, {"vocabulary.json", list.dump()}}) {
    std::ofstream(scratch.file(name)) << content;
    const Result<SpeechVocabulary> read = read_speech_vocabulary(scratch.file(""));
    ASSERT_TRUE(read.ok()) << read.status().message();
    EXPECT_NE(read->source.find(name), std::string::npos);
    EXPECT_EQ(read->pieces, whole.pieces) << name;
  }
}

TEST(SpeechTokenizer, TheRealVocabularyIsAsItsFilesSay) {
  const auto folder = model_folder();
  if (!folder) GTEST_SKIP() << "KVASS_SPEECH_MODEL is not set";
  Result<SpeechVocabulary> vocabulary = read_speech_vocabulary(*folder);
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status().message();
  const SpeechTokenizer tokenizer = SpeechTokenizer::create(std::move(vocabulary).value()).value();
  EXPECT_EQ(tokenizer.size(), 51865);
  EXPECT_EQ(tokenizer.end_of_text(), 50257);
  EXPECT_EQ(tokenizer.languages().size(), 99u);
  EXPECT_EQ(tokenizer.timestamp_begin(), 50364);
  std::ifstream config_file(*folder + "/config.json");
  const nlohmann::json config = nlohmann::json::parse(config_file);
  EXPECT_EQ(std::vector<int32_t>(tokenizer.suppressed().begin(), tokenizer.suppressed().end()),
            config["suppress_ids"].get<std::vector<int32_t>>());
  EXPECT_EQ(std::vector<int32_t>(tokenizer.suppressed_first().begin(), tokenizer.suppressed_first().end()),
            config["suppress_ids_begin"].get<std::vector<int32_t>>());
  const Tokenizer encoder = tokenizer.text_encoder().value();
  for (const char* clip : {"jfk", "en_two_minutes", "de"}) {
    const auto golden = load_golden(std::string("whisper/") + clip + ".json");
    if (!golden) continue;
    for (const auto& segment : (*golden)["runs"]["greedy_condition_default"]["segments"]) {
      const auto ids = segment["tokens"].get<std::vector<int32_t>>();
      EXPECT_EQ(tokenizer.decode(ids), segment["text"].get<std::string>());
      // The model's ids are mostly, but not always, the ids that merging gives.
      EXPECT_EQ(tokenizer.decode(encoder.encode(segment["text"].get<std::string>())),
                segment["text"].get<std::string>());
    }
  }
  EXPECT_EQ(encoder.encode(" And so my fellow Americans"), (std::vector<int32_t>{400, 370, 452, 7177, 6280}));
  EXPECT_EQ(encoder.encode(" Zwölf Boxkämpfer, 12345 — “ok”!?"),
            (std::vector<int32_t>{29385, 13072, 69, 15112, 21036, 2455, 612, 11, 34466, 8465, 3466, 1059, 250, 453, 913,
                                  251, 7323}));
  EXPECT_EQ(encoder.encode("hello  world\n"), (std::vector<int32_t>{675, 1913, 220, 1002, 198}));
  EXPECT_EQ(encoder.encode(" the theatre's"), (std::vector<int32_t>{264, 18711, 311}));
}

}  // namespace
}  // namespace kvass
