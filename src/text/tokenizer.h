// Tokenizer: text to token ids and back, for the kinds of vocabulary that model files have: SentencePiece's byte-pair
// kind (tokenizer.ggml.model = "llama", "gemma4"), byte-level merges ("gpt2") and SentencePiece's unigram kind ("t5").
// Not a chat template and not a stream: StreamDecoder holds the state that streamed output needs. Immutable and
// self-contained once created: any number of threads may use one.
//
//   encode   literal tokens (SpecialMatcher) are found first; the text between them is merged (SpmMerger, BpeMerger,
//            UnigramMerger), after it was normalized where the vocabulary asks for that (normalizer.h)
//   decode   the pieces of the ids, one after the other; control tokens give no text
//   decode(encode(x)) == x for every byte string x, NUL and invalid UTF-8 included, if the vocabulary has all bytes.
//   Exceptions: U+2581, SentencePiece's mark for a space, is decoded as a space; and normalized text stays so.
//
// With add_space_prefix encode puts a space before the text and after each control token, and decode removes it;
// SpacePrefix (vocabulary.h) has other rules of encode.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "kvass/status.h"
#include "text/bpe_merger.h"
#include "text/piece_table.h"
#include "text/special_matcher.h"
#include "text/spm_merger.h"
#include "text/unigram_merger.h"
#include "text/vocabulary.h"

namespace kvass {

struct ControlTokens;

struct EncodeOptions {
  bool bos = false;            // put the bos token first, if the model has one, whatever the text begins with
  bool parse_special = false;  // the names of control tokens, such as "<eos>", become those tokens
};

// One part of a text. Each part is parsed for control tokens or not.
struct TextPart {
  std::string_view text;
  bool parse_special = false;
};

class Tokenizer {
 public:
  static Result<Tokenizer> create(const VocabularyView& vocabulary);
  static Result<Tokenizer> create(const Vocabulary& vocabulary) {
    return create(vocabulary_as<VocabularyView>(vocabulary));
  }

  std::vector<int32_t> encode(std::string_view text, EncodeOptions options = {}) const;
  // The ids of the concatenated parts. Merges may span parts; only the parsing of control tokens differs. `bos`: the
  // bos token is first, and once. `continued`: the text continues an earlier one, so it gets no space prefix.
  std::vector<int32_t> encode_parts(std::span<const TextPart> parts, bool bos, bool continued) const;
  // The same of parts that follow a control token.
  std::vector<int32_t> encode_after_control(std::span<const TextPart> parts) const;
  std::string decode(std::span<const int32_t> ids) const;

  // The bytes of a token: one byte for a byte token, nothing for a control token unless `show_control`, U+FFFD for the
  // unknown token, nothing for an id that is not a token.
  std::string_view piece(int32_t id, bool show_control = false) const;
  // The same within a text: if `at_start`, the space of add_space_prefix is left out. `at_start` is true at the start
  // of a text and after a control token; the call updates it.
  std::string_view piece_in_text(int32_t id, bool& at_start, bool show_control = false) const;

  // A copy that also treats the marks of `chat_template` as control tokens.
  Tokenizer with_template(std::string_view chat_template) const;

  int32_t size() const { return pieces_.size(); }  // tokens
  bool is_token(int32_t id) const { return id >= 0 && id < size(); }
  // Judged by its meaning, not by the file's type: text/control_tokens.h.
  bool is_control(int32_t id) const { return is_token(id) && types_[id] == TokenType::control; }
  // True for a token that ends a text, a turn or a message.
  bool is_end_of_generation(int32_t id) const { return std::find(ends_.begin(), ends_.end(), id) != ends_.end(); }

  // -1 if the model has none.
  int32_t bos() const { return bos_; }
  int32_t eos() const { return eos_; }
  int32_t eot() const { return eot_; }
  // Whether a text begins with the name of the bos token.
  bool begins_with_bos(std::string_view text) const { return bos_ >= 0 && text.starts_with(pieces_[bos_]); }
  // True if the model expects the token around a text.
  bool add_bos() const { return add_bos_; }
  bool add_eos() const { return add_eos_; }

 private:
  Tokenizer() = default;
  void mark_control(ControlTokens control);
  std::vector<int32_t> encode_joined(std::string_view text, std::span<const TextPart> parts, bool bos,
                                     bool space_prefix) const;
  void encode_plain(std::string_view text, bool space_prefix, std::vector<int32_t>& ids) const;
  bool prefix_after(TokenType type) const;

  PieceTable pieces_;
  std::vector<TokenType> types_;  // [tokens] by their meaning
  SpecialMatcher special_;
  std::variant<SpmMerger, BpeMerger, UnigramMerger> merger_;
  std::vector<int32_t> ends_;  // tokens at which generation ends
  int32_t bos_ = -1, eos_ = -1, eot_ = -1;
  bool add_bos_ = false, add_eos_ = false, add_space_prefix_ = false, nfc_ = false;
  SpacePrefix space_prefix_ = SpacePrefix::controls;
};

}  // namespace kvass
