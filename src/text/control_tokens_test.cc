// Control tokens by their meaning: the same tokens as files of every kind have them.
#include "text/control_tokens.h"

#include <gtest/gtest.h>

#include "text/test_vocabulary.h"

namespace kvass {
namespace {

using Ids = std::vector<int32_t>;

constexpr char kChatMl[] =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
constexpr char kOwnMarks[] =  // of no known name
    "{% for m in messages %}{% if m.role == 'user' %}<|human|>{{ m.content }}{% else %}<|robot|>{{ m.content }}<fin>"
    "{% endif %}{% endfor %}<|robot|><think>";

constexpr TokenType kTypes[] = {TokenType::control, TokenType::user_defined, TokenType::normal, TokenType::unused};

struct Marked {
  Vocabulary vocabulary;
  int32_t mark = -1;
  Tokenizer build() const { return Tokenizer::create(vocabulary).value(); }
};

// A byte-level vocabulary with the mark as a token of this type; a normal one can be merged from its halves.
Marked byte_level(const std::string& mark, TokenType type) {
  ByteVocabularyBuilder builder;
  const auto merge = [&](const std::string& left, const std::string& right) {
    builder.vocabulary.merges.push_back(left + " " + right);
    return left + right;
  };
  std::string left(1, mark[0]);
  for (size_t i = 1; i + 1 < mark.size(); ++i) {
    left = merge(left, mark.substr(i, 1));
    builder.add(left);
  }
  const int32_t id = builder.add(mark, type);
  if (type == TokenType::normal) merge(left, mark.substr(mark.size() - 1));
  return {builder.vocabulary, id};
}

// The same as SentencePiece has it.
Marked sentencepiece(const std::string& mark, TokenType type) {
  VocabularyBuilder builder;
  for (size_t i = 1; i < mark.size(); ++i) {
    builder.add(mark.substr(i - 1, 1), -5);
    if (i > 1) builder.add(mark.substr(0, i), -1);
  }
  builder.add(mark.substr(mark.size() - 1), -5);
  const int32_t id = builder.add(mark, 0, type);
  return {builder.vocabulary, id};
}

bool has(const Ids& ids, int32_t id) { return std::count(ids.begin(), ids.end(), id) > 0; }

void expect_control(const Tokenizer& tokenizer, int32_t id, bool ends, const std::string& what) {
  const std::string mark(tokenizer.piece(id, /*show_control=*/true));
  EXPECT_TRUE(tokenizer.is_control(id)) << what;
  EXPECT_EQ(tokenizer.is_end_of_generation(id), ends) << what;
  EXPECT_EQ(tokenizer.decode(Ids{id}), "") << what;
  EXPECT_EQ(tokenizer.encode(mark, {.parse_special = true}), Ids{id}) << what;
  const Ids typed = tokenizer.encode("a" + mark + "b");
  EXPECT_FALSE(has(typed, id)) << what;
  EXPECT_EQ(tokenizer.decode(typed), "a" + mark + "b") << what;
}

TEST(ControlTokens, KnownEndsAreOfEveryTypeThatFilesGiveThem) {
  for (const TokenType type : kTypes) {
    for (const char* mark : {"<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>"}) {
      const std::string what = mark + std::to_string(static_cast<int>(type));
      const Marked bytes = byte_level(mark, type), pieces = sentencepiece(mark, type);
      expect_control(bytes.build(), bytes.mark, true, what);
      expect_control(pieces.build(), pieces.mark, true, what);
    }
  }
}

TEST(ControlTokens, KnownBeginningsAreControlAndEndNothing) {
  for (const TokenType type : kTypes) {
    for (const char* mark : {"<|im_start|>", "<start_of_turn>", "<|start_header_id|>"}) {
      const Marked file = byte_level(mark, type);
      expect_control(file.build(), file.mark, false, mark);
    }
  }
}

TEST(ControlTokens, TheMetadatasTokensEndWhateverTheyAreCalled) {
  for (const TokenType type : kTypes) {
    for (const auto field : {&Vocabulary::eos, &Vocabulary::eot, &Vocabulary::eom}) {
      Marked file = byte_level("<over>", type);
      file.vocabulary.*field = file.mark;
      expect_control(file.build(), file.mark, true, std::to_string(static_cast<int>(type)));
    }
    Marked file = byte_level("<begin>", type);
    file.vocabulary.bos = file.mark;
    expect_control(file.build(), file.mark, false, "bos");
  }
}

TEST(ControlTokens, AnEndThatIsAWordStaysAWord) {
  Marked file = byte_level("over", TokenType::normal);
  file.vocabulary.eos = file.mark;
  const Tokenizer tokenizer = file.build();
  EXPECT_TRUE(tokenizer.is_end_of_generation(file.mark));
  EXPECT_FALSE(tokenizer.is_control(file.mark));
  EXPECT_EQ(tokenizer.encode("over"), Ids{file.mark});
}

TEST(ControlTokens, TheTemplateSaysWhatEndsAnAnswerAndWhatMarksTurns) {
  for (const TokenType type : kTypes) {
    Marked end = byte_level("<fin>", type), turn = byte_level("<|human|>", type);
    EXPECT_FALSE(end.build().is_end_of_generation(end.mark)) << "without the template";
    end.vocabulary.chat_template = turn.vocabulary.chat_template = kOwnMarks;
    expect_control(end.build(), end.mark, true, "end");
    expect_control(turn.build(), turn.mark, false, "turn");
    EXPECT_EQ(end.build().eot(), end.mark);
  }
}

TEST(ControlTokens, AnotherTemplateHasMarksOfItsOwn) {
  const Marked file = byte_level("<fin>", TokenType::user_defined);
  const Tokenizer tokenizer = file.build();
  EXPECT_FALSE(tokenizer.is_control(file.mark));
  expect_control(tokenizer.with_template(kOwnMarks), file.mark, true, "with_template");
}

TEST(ControlTokens, WhatIsNoMarkStaysText) {
  for (const char* word : {"<think>", "<table>", "\n\n", "[x]"}) {
    Marked file = byte_level(word, TokenType::user_defined);
    file.vocabulary.chat_template = std::string(kOwnMarks) + word;
    const Tokenizer tokenizer = file.build();
    EXPECT_FALSE(tokenizer.is_control(file.mark)) << word;
    EXPECT_EQ(tokenizer.decode(Ids{file.mark}), word);
    EXPECT_TRUE(has(tokenizer.encode(std::string("a") + word), file.mark)) << word;
  }
}

TEST(ControlTokens, ATemplateThatFailsMarksNothing) {
  for (const char* chat_template : {"{% if", "{{ raise_exception('no') }}", "{{ messages[0].content }}<fin>",
                                    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"}) {
    Marked file = byte_level("<fin>", TokenType::user_defined);
    file.vocabulary.chat_template = chat_template;
    EXPECT_FALSE(file.build().is_end_of_generation(file.mark)) << chat_template;
  }
}

TEST(ControlTokens, OfTheFilesOwnTypesNothingIsLost) {
  Marked file = byte_level("<odd-name", TokenType::control);
  file.vocabulary.chat_template = kChatMl;
  EXPECT_TRUE(file.build().is_control(file.mark));
}

TEST(ControlTokens, TheBeginTokenStandsOnce) {
  Marked file = byte_level("<begin>", TokenType::control);
  file.vocabulary.bos = file.mark;
  const Tokenizer tokenizer = file.build();
  const auto encode = [&](const char* text) {
    const TextPart part{text, /*parse_special=*/true};
    return tokenizer.encode_parts({&part, 1}, /*bos=*/true, /*continued=*/false);
  };
  EXPECT_EQ(encode("<begin>"), Ids{file.mark});
  EXPECT_EQ(encode(""), Ids{file.mark});
  EXPECT_EQ(encode("<begin><begin>"), (Ids{file.mark, file.mark})) << "as the text has it";
  EXPECT_EQ(encode("a<begin>").front(), file.mark);
  EXPECT_EQ(tokenizer.encode("<begin>", {.bos = true, .parse_special = true}), (Ids{file.mark, file.mark}))
      << "as it is asked for";
  EXPECT_TRUE(tokenizer.begins_with_bos("<begin> a"));
  EXPECT_FALSE(tokenizer.begins_with_bos(" <begin>"));
}

}  // namespace
}  // namespace kvass
