// Vocabulary: the tokens of a model file, as plain data. Not a tokenizer: reading makes only the checks that it needs
// itself (Tokenizer::create makes the others), and nothing is prepared for speed. The caller owns it and may drop it
// once a Tokenizer has been made from it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvass/status.h"

namespace kvass {

class Gguf;

// The numbers are those of tokenizer.ggml.token_type.
enum class TokenType : uint8_t {
  normal = 1,        // made from text by merging; U+2581 in an SPM piece stands for a space
  unknown = 2,       // stands for text that the vocabulary cannot represent
  control = 3,       // a mark such as <bos>: made from text only if the caller asks for it
  user_defined = 4,  // matched literally in the text, before everything else
  unused = 5,        // an id without a meaning: never made from text
  byte = 6,          // <0xXX>: one byte
};

enum class VocabularyKind : uint8_t {
  spm,      // SentencePiece's byte-pair kind ("llama"): pieces are UTF-8, scores order the merges
  bpe,      // byte-level byte-pair merging ("gpt2"): pieces are in the byte alphabet, merges are listed
  unigram,  // SentencePiece's unigram kind ("t5"): pieces as of spm, the likeliest of all ways to write a text is taken
};
// "spm", and so on.
std::string_view vocabulary_kind_name(VocabularyKind kind);
std::optional<VocabularyKind> find_vocabulary_kind(std::string_view name);

// Where text gets a space before it, of a vocabulary that has add_space_prefix.
enum class SpacePrefix : uint8_t {
  controls,  // at the start, and after each control token
  segments,  // the same, and after each token that is matched literally; not an empty text
  first,     // at the start only, and not where a space is there already
  always,    // as `segments`, but not where a space is there already
};
std::string_view space_prefix_name(SpacePrefix prefix);
std::optional<SpacePrefix> find_space_prefix(std::string_view name);

// Metadata of kvass's own, for what the format has no key for.
inline constexpr std::string_view kMergesKey = "kvass.tokenizer.merges";             // of an spm kind
inline constexpr std::string_view kSpacePrefixKey = "kvass.tokenizer.space_prefix";  // a name of SpacePrefix
inline constexpr std::string_view kEndsKey = "kvass.tokenizer.end_token_ids";
inline constexpr std::string_view kNfcKey = "kvass.tokenizer.nfc";  // a bool; else as the pre-tokenizer has it

template <class Text, class Types, class Scores>
struct VocabularyOf {
  std::string source;  // the file, for messages; empty: none

  VocabularyKind kind = VocabularyKind::spm;
  std::vector<Text> pieces;  // [tokens]
  Types types;               // [tokens]
  // [tokens], spm: the pair whose merged piece scores highest is merged first; unigram: log-probabilities.
  Scores scores;
  // "left right"; the pair that is first in the list is merged first. An spm kind may list them instead of using
  // scores.
  std::vector<Text> merges;
  std::string pre;  // bpe: the name of the pre-tokenizer; empty: "default"
  // Token ids; -1 if the model has none.
  int32_t bos = -1;           // begins a text
  int32_t eos = -1;           // ends a text
  int32_t eot = -1;           // ends a turn of a conversation
  int32_t eom = -1;           // ends a message within a turn
  int32_t unknown = -1;       // stands for text without a token
  std::vector<int32_t> ends;  // more tokens at which generation ends
  bool add_bos = true;
  bool add_eos = false;
  bool add_space_prefix = true;  // spm: text is tokenized as if a space stood before it
  SpacePrefix space_prefix = SpacePrefix::controls;
  bool nfc = false;                       // text is brought into Unicode's form C first
  bool remove_extra_whitespaces = false;  // unigram: runs of spaces become one, those at the ends none
  std::string charsmap;                   // unigram: SentencePiece's table of replacements (normalizer.h); empty: none
  std::string chat_template;              // jinja; empty: none. Its marks are control tokens (control_tokens.h)
};

using Vocabulary = VocabularyOf<std::string, std::vector<TokenType>, std::vector<float>>;
// The same as views: the bytes belong to the caller and must outlive it.
using VocabularyView = VocabularyOf<std::string_view, std::span<const TokenType>, std::span<const float>>;

// Converts between the two: copies the fields of `from` into a `To`.
template <class To, class From>
To vocabulary_as(const From& from) {
  To to;
  to.source = from.source;
  to.kind = from.kind;
  to.pieces.assign(from.pieces.begin(), from.pieces.end());
  to.types = {from.types.begin(), from.types.end()};
  to.scores = {from.scores.begin(), from.scores.end()};
  to.merges.assign(from.merges.begin(), from.merges.end());
  to.pre = from.pre;
  to.bos = from.bos;
  to.eos = from.eos;
  to.eot = from.eot;
  to.eom = from.eom;
  to.unknown = from.unknown;
  to.ends = from.ends;
  to.add_bos = from.add_bos;
  to.add_eos = from.add_eos;
  to.add_space_prefix = from.add_space_prefix;
  to.space_prefix = from.space_prefix;
  to.nfc = from.nfc;
  to.remove_extra_whitespaces = from.remove_extra_whitespaces;
  to.charsmap = from.charsmap;
  to.chat_template = from.chat_template;
  return to;
}

// "<source>: <key>", the subject of an error message.
inline std::string vocabulary_field(std::string_view source, std::string_view key) {
  std::string field(source);
  if (!field.empty()) field += ": ";
  return field.append(key);
}

// Reads the tokenizer.ggml.* keys, and kvass's own, of a file whose tokenizer.ggml.model is "llama" (SentencePiece),
// "gpt2" (byte-level merges), "gemma4" (SentencePiece's pieces with listed merges) or "t5" (unigram); other kinds are
// an error. Missing optional keys have the format's defaults.
Result<Vocabulary> read_vocabulary(const Gguf& file);

// Drops the tokens from `rows` on, for which a model has no row, with the merges that need them. An error if the token
// that begins every text is among them.
Status drop_tokens_from(int64_t rows, Vocabulary& vocabulary);

}  // namespace kvass
