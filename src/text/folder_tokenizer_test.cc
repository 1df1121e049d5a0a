// tokenizer.json as a Vocabulary: what its steps mean for ids, and what is refused. Ids of the `tokenizers` library are
// compared in python/tests/test_folders.py.
#include "text/folder_tokenizer.h"

#include <gtest/gtest.h>

#include <fstream>

#include "scratch.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"
#include "tiny_folder.h"

namespace kvass {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

// Spaces as U+2581, bytes for the rest: <unk> <s> </s>, 256 bytes, then these from id 259 on.
json marked(std::initializer_list<const char*> pieces, std::initializer_list<std::array<const char*, 2>> merges) {
  json vocab = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(byte));
    vocab[name] = 3 + byte;
  }
  int id = 259;
  for (const char* piece : pieces) vocab[piece] = id++;
  json list = json::array();
  for (const auto& [left, right] : merges) list.push_back({left, right});
  json added = json::array();
  for (const auto& [name, number] : {std::pair("<unk>", 0), {"<s>", 1}, {"</s>", 2}}) {
    added.push_back({{"id", number}, {"content", name}, {"special", true}});
  }
  return {{"added_tokens", added},
          {"normalizer", {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}}},
          {"model",
           {{"type", "BPE"}, {"unk_token", "<unk>"}, {"byte_fallback", true}, {"vocab", vocab}, {"merges", list}}}};
}

struct Read {
  Status status;
  Vocabulary vocabulary;
  std::optional<Tokenizer> tokenizer;
};

Read read(const json& tokenizer, const json& settings = {{"bos_token", "<s>"}, {"eos_token", "</s>"}},
          const json& generation = nullptr, int64_t rows = 300) {
  const json none;
  GgufWriter writer;
  Read out;
  out.status =
      translate_tokenizer({JsonFields(tokenizer, "tokenizer.json"), JsonFields(settings, "tokenizer_config.json"),
                           JsonFields(generation, "generation_config.json"), JsonFields(none, "config.json")},
                          rows, writer);
  if (!out.status.ok()) return out;
  const std::vector<uint8_t> bytes = writer.finish();
  const Gguf file = Gguf::parse(bytes, "tokenizer").value();
  out.vocabulary = read_vocabulary(file).value();
  Result<Tokenizer> made = Tokenizer::create(out.vocabulary);
  EXPECT_TRUE(made.ok()) << made.status().message();
  if (made.ok()) out.tokenizer = std::move(made).value();
  return out;
}

Ids ids(const json& tokenizer, std::string_view text, bool parse = false) {
  const Read found = read(tokenizer);
  EXPECT_TRUE(found.status.ok()) << found.status.message();
  return found.tokenizer ? found.tokenizer->encode(text, {.bos = false, .parse_special = parse}) : Ids();
}

TEST(FolderTokenizer, MergesWhatIsListedAndNothingElse) {
  // "bc" is a token, but only a + b and then ab + c are listed; b + c comes from another place of the list.
  const json listed = marked({"a", "b", "c", "ab", "abc", "bc"}, {{"a", "b"}, {"ab", "c"}});
  EXPECT_EQ(ids(listed, "abc"), Ids{263});
  EXPECT_EQ(ids(listed, "bc"), (Ids{260, 261})) << "a token that no merge makes";
  const json early = marked({"a", "b", "c", "ab", "abc", "bc"}, {{"b", "c"}, {"a", "b"}, {"ab", "c"}});
  EXPECT_EQ(ids(early, "abc"), (Ids{259, 264}));
  EXPECT_EQ(ids(early, "\u00e9 "), (Ids{3 + 0xc3, 3 + 0xa9, 3 + 0xe2, 3 + 0x96, 3 + 0x81})) << "a space is U+2581 here";
}

TEST(FolderTokenizer, PutsTheSpaceWhereTheStepsPutIt) {
  const json base = marked({"\u2581", "a", "\u2581a"}, {{"\u2581", "a"}});
  const auto with = [&](const json& change) {
    json out = base;
    out.update(change);
    return out;
  };
  const auto metaspace = [&](const char* scheme) {
    return with({{"normalizer", nullptr},
                 {"pre_tokenizer",
                  {{"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", scheme}, {"split", false}}}});
  };
  const json prepend = with({{"normalizer",
                              {{"type", "Sequence"},
                               {"normalizers",
                                {{{"type", "Prepend"}, {"prepend", "\u2581"}},
                                 {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}}}}}}});
  constexpr int32_t kSpace = 259, kA = 260, kSpaceA = 261, kEnd = 2;
  EXPECT_EQ(ids(base, "a a"), (Ids{kA, kSpaceA}));
  EXPECT_EQ(ids(prepend, "a"), Ids{kSpaceA});
  EXPECT_EQ(ids(prepend, " a"), (Ids{kSpace, kSpaceA}));
  EXPECT_EQ(ids(prepend, "</s>a</s>", true), (Ids{kEnd, kSpaceA, kEnd}));
  EXPECT_EQ(ids(prepend, ""), Ids());
  EXPECT_EQ(ids(metaspace("first"), "a"), Ids{kSpaceA});
  EXPECT_EQ(ids(metaspace("first"), " a"), Ids{kSpaceA}) << "it is there already";
  EXPECT_EQ(ids(metaspace("first"), "</s>a", true), (Ids{kEnd, kA}));
  EXPECT_EQ(ids(metaspace("always"), "</s>a", true), (Ids{kEnd, kSpaceA}));
  EXPECT_EQ(ids(metaspace("never"), "a"), Ids{kA});
}

TEST(FolderTokenizer, KnowsThePatternsOfByteLevelTokenizers) {
  json file = testing::tiny_byte_tokenizer();
  const json settings = {{"eos_token", "<|im_end|>"}};
  EXPECT_EQ(read(file, settings).vocabulary.pre, "qwen2");
  EXPECT_EQ(read(file, settings).tokenizer->encode("the and").size(), 2u);
  file["model"]["ignore_merges"] = true;
  EXPECT_NE(read(file, settings).status.message().find("ignore_merges"), std::string::npos);
  json& pattern = file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"];
  pattern =
      R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)";
  EXPECT_EQ(read(file, settings).vocabulary.pre, "llama-bpe") << "another way to write the same";
  pattern = R"(\w+)";
  EXPECT_NE(read(file, settings).status.message().find(R"(\w+)"), std::string::npos);
  file["model"]["ignore_merges"] = false;
  file["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  EXPECT_EQ(read(file, settings).vocabulary.pre, "gpt-2");
  file["pre_tokenizer"]["add_prefix_space"] = true;
  EXPECT_NE(read(file, settings).status.message().find("pre_tokenizer.add_prefix_space"), std::string::npos);
}

TEST(FolderTokenizer, KnowsWhereTextsBeginAndEnd) {
  json file = marked({"a"}, {});
  EXPECT_FALSE(read(file).vocabulary.add_bos);
  file["post_processor"] = {{"type", "TemplateProcessing"},
                            {"single", {{{"SpecialToken", {{"id", "<s>"}}}}, {{"Sequence", {{"id", "A"}}}}}}};
  EXPECT_TRUE(read(file).vocabulary.add_bos);
  EXPECT_FALSE(read(file, {{"bos_token", "<s>"}, {"add_bos_token", false}}).vocabulary.add_bos) << "it comes first";
  const Read ends =
      read(file, {{"eos_token", {{"content", "</s>"}}}, {"add_bos_token", false}}, {{"eos_token_id", {2, 259}}});
  ASSERT_TRUE(ends.status.ok()) << ends.status.message();
  EXPECT_EQ(ends.vocabulary.eos, 2);
  EXPECT_EQ(ends.vocabulary.ends, (Ids{2, 259}));
  EXPECT_TRUE(ends.tokenizer->is_end_of_generation(259));
  EXPECT_FALSE(ends.tokenizer->is_control(259)) << "a word stays a word";
  EXPECT_EQ(read(file, {{"bos_token", "<x>"}}).status.message(),
            "tokenizer_config.json: bos_token: expected a token of tokenizer.json, got '<x>'");
}

TEST(FolderTokenizer, TypesTokensByTheirFlagsAndFillsTheRows) {
  json file = marked({"a", "<tool>"}, {});
  file["added_tokens"].push_back({{"id", 260}, {"content", "<tool>"}, {"special", false}, {"normalized", false}});
  file["added_tokens"].push_back({{"id", 265}, {"content", "<|more|>"}, {"special", true}});
  const Vocabulary found = read(file).vocabulary;
  ASSERT_EQ(found.pieces.size(), 300u);
  EXPECT_EQ(found.types[1], TokenType::control);
  EXPECT_EQ(found.types[3], TokenType::byte);
  EXPECT_EQ(found.types[259], TokenType::normal);
  EXPECT_EQ(found.types[260], TokenType::user_defined);
  EXPECT_EQ(found.types[264], TokenType::unused);
  EXPECT_EQ(found.types[265], TokenType::control);
  EXPECT_EQ(found.pieces[299], "[PAD299]");
}

TEST(FolderTokenizer, RefusesWhatItWouldGetWrong) {
  const auto refused = [](const std::function<void(json&)>& edit) {
    json file = marked({"a", "b", "ab"}, {{"a", "b"}});
    edit(file);
    const Status status = read(file).status;
    EXPECT_FALSE(status.ok());
    EXPECT_TRUE(status.message().starts_with("tokenizer.json: ")) << status.message();
    return status.message();
  };
  const auto has = [](const std::string& message, const char* word) {
    EXPECT_NE(message.find(word), std::string::npos) << message;
  };
  has(refused([](json& f) { f.erase("model"); }), "model: expected a tokenizer, got none");
  has(refused([](json& f) { f["model"]["type"] = "WordPiece"; }), "model.type");
  has(refused([](json& f) { f["model"]["byte_fallback"] = false; }), "model.byte_fallback");
  has(refused([](json& f) { f["model"]["dropout"] = 0.1; }), "model.dropout");
  has(refused([](json& f) { f["model"]["vocab"].erase("<0x41>"); }), "<0x41>");
  has(refused([](json& f) { f["model"]["vocab"]["c"] = 1 << 30; }), "model.vocab: expected an id from 0 to");
  has(refused([](json& f) { f["model"]["vocab"]["c"] = 259; }), "259 for 'a' and 'c'");
  has(refused([](json& f) { f["model"]["merges"][0] = "a"; }), "model.merges[0]");
  has(refused([](json& f) { f["normalizer"] = {{"type", "NFKC"}}; }), "normalizer.type");
  has(refused([](json& f) { f["normalizer"] = nullptr; }), "pre_tokenizer");
  has(refused([](json& f) { f["decoder"] = {{"type", "WordPiece"}}; }), "decoder.type");
  has(refused([](json& f) { f["added_tokens"][0]["lstrip"] = true; }), "added_tokens[0]: lstrip");
  has(refused([](json& f) { f["post_processor"] = {{"type", "BertProcessing"}}; }), "post_processor.type");
}

TEST(FolderTokenizer, FindsTheChatTemplateInEachOfItsPlaces) {
  const testing::Scratch scratch;
  const auto found = [&](const json& settings) {
    std::ofstream(scratch.file("tokenizer.json")) << marked({"a"}, {});
    std::ofstream(scratch.file("tokenizer_config.json")) << settings;
    const json none;
    GgufWriter writer;
    const Status status = translate_tokenizer(scratch.file("."), JsonFields(none, "config.json"), 300, writer);
    if (!status.ok()) return status.message();
    const std::vector<uint8_t> bytes = writer.finish();
    return std::string(Gguf::parse(bytes, "f")->get_string_or("tokenizer.chat_template", "none").value());
  };
  EXPECT_EQ(found(json::object()), "none");
  EXPECT_EQ(found({{"chat_template", "one"}}), "one");
  EXPECT_EQ(
      found({{"chat_template", {{{"name", "tool_use"}, {"template", "t"}}, {{"name", "default"}, {"template", "d"}}}}}),
      "d");
  EXPECT_NE(found({{"chat_template", 3}}).find("tokenizer_config.json: chat_template"), std::string::npos);
  std::ofstream(scratch.file("chat_template.json")) << json{{"chat_template", "beside"}};
  EXPECT_EQ(found(json::object()), "beside");
  std::ofstream(scratch.file("chat_template.jinja")) << "jinja";
  EXPECT_EQ(found({{"chat_template", "one"}}), "jinja") << "it comes first";
}

}  // namespace
}  // namespace kvass
