// The tokens of a speech recogniser: byte-level pieces of text, followed by marks (special tokens: start, languages,
// tasks, …) and timestamps in steps of 0.02 s. Gives the text and the words of ids, the ids of the marks, and the ids
// that are never written. Not the rules of decoding (app/speech_rules.h). text_encoder() turns text into ids; only
// prompts need it, and making it takes a moment. Immutable once created.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvass/status.h"
#include "text/piece_table.h"
#include "text/tokenizer.h"

namespace kvass {

// The vocabulary of a file, as plain data.
struct SpeechVocabulary {
  std::string source;               // the file, for messages
  std::vector<std::string> pieces;  // [tokens] text tokens as bytes, marks as their names, "<|…|>"
};

// Reads the vocabulary of a folder: vocabulary.json, else vocabulary.txt, else tokenizer.json.
Result<SpeechVocabulary> read_speech_vocabulary(const std::string& folder);
// Makes a vocabulary of `tokens` ids from its text tokens alone by adding the marks in their order.
Result<SpeechVocabulary> complete_speech_vocabulary(std::string source, std::vector<std::string> text, int64_t tokens);

struct Language {
  std::string code;  // "de"
  int32_t id = -1;
};

// The code of a language, given its code or English name in upper or lower case; empty: unknown.
std::string find_language(std::string_view name);
std::string_view language_name(std::string_view code);  // empty: unknown

struct SpeechWord {
  std::string text;
  std::vector<int32_t> ids;
};

class SpeechTokenizer {
 public:
  static Result<SpeechTokenizer> create(SpeechVocabulary vocabulary);

  // Ids of marks.
  int32_t end_of_text() const { return end_of_text_; }  // the first id that is not text
  int32_t start() const { return start_; }
  int32_t transcribe() const { return transcribe_; }
  int32_t translate() const { return translate_; }
  int32_t previous() const { return previous_; }
  int32_t no_speech() const { return no_speech_; }
  int32_t no_timestamps() const { return no_timestamps_; }
  int32_t timestamp_begin() const { return no_timestamps_ + 1; }  // 0.00 s; timestamps go up to the last id
  int32_t size() const { return pieces_.size(); }                 // tokens
  bool multilingual() const { return multilingual_; }
  std::span<const Language> languages() const { return languages_; }
  int32_t language_id(std::string_view code) const;  // -1: the model does not have it

  // Ids that are never written: signs that are not speech (brackets, notes, …) and marks. Sorted.
  std::span<const int32_t> suppressed() const { return suppressed_; }
  // Ids with which a text never begins: a single space, the end of the text.
  std::span<const int32_t> suppressed_first() const { return suppressed_first_; }

  // The text of the text tokens among `ids`; invalid UTF-8 becomes U+FFFD.
  std::string decode(std::span<const int32_t> ids) const;
  // The ids split into words, each with the space before it. Languages without spaces are split into characters. A mark
  // is a word of its own.
  std::vector<SpeechWord> words(std::span<const int32_t> ids, std::string_view language) const;

  // A byte-level tokenizer; its merges are recovered from the order of the pieces.
  Result<Tokenizer> text_encoder() const;

 private:
  SpeechTokenizer() = default;
  Status find_marks();
  void find_suppressed();
  int32_t find(std::string_view piece, int32_t begin, int32_t end) const;  // -1: not found
  std::string bytes(std::span<const int32_t> ids) const;
  std::vector<SpeechWord> characters(std::span<const int32_t> ids) const;

  std::string source_;
  PieceTable pieces_;
  int32_t end_of_text_ = -1, start_ = -1, transcribe_ = -1, translate_ = -1, language_model_ = -1, previous_ = -1,
          no_speech_ = -1, no_timestamps_ = -1;
  bool multilingual_ = false;
  std::vector<Language> languages_;
  std::vector<int32_t> suppressed_, suppressed_first_;
};

}  // namespace kvass
