#include "text/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string>
#include <unordered_set>

#include "file/gguf.h"
#include "file/one_line.h"
#include "text/pre_tokenizer.h"

namespace kvass {
namespace {

constexpr std::string_view kSpacePrefixes[] = {"controls", "segments", "first", "always"};
constexpr std::string_view kKinds[] = {"spm", "bpe", "unigram"};

// "<0xXX>"
bool is_byte_piece(std::string_view piece) {
  const auto hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f'); };
  return piece.size() == 6 && piece.starts_with("<0x") && hex(piece[3]) && hex(piece[4]) && piece[5] == '>';
}

// The types where the file has none: by what the pieces of SentencePiece are called. Marks are found by their names
// later (control_tokens.h).
std::vector<TokenType> guessed_types(std::span<const std::string> pieces, bool sentencepiece) {
  std::vector<TokenType> types(pieces.size(), TokenType::normal);
  for (size_t id = 0; sentencepiece && id < pieces.size(); ++id) {
    const std::string& piece = pieces[id];
    if (is_byte_piece(piece)) types[id] = TokenType::byte;
    if (piece == "<unk>") types[id] = TokenType::unknown;
    if (piece == "<s>" || piece == "</s>" || piece == "<bos>" || piece == "<eos>" || piece == "<pad>")
      types[id] = TokenType::control;
  }
  return types;
}

Result<std::vector<TokenType>> read_types(const Gguf& file, const Vocabulary& vocabulary) {
  constexpr std::string_view key = "tokenizer.ggml.token_type";
  if (!file.has(key)) return guessed_types(vocabulary.pieces, vocabulary.kind != VocabularyKind::bpe);
  KVASS_ASSIGN_OR_RETURN(const std::vector<int64_t> values, file.get_ints(key));
  std::vector<TokenType> types;
  types.reserve(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] < 0 || values[i] > 6) {
      return bad_input(vocabulary_field(file.name(), fmt::format("{}[{}]", key, i)), "0 to 6",
                       std::to_string(values[i]));
    }
    types.push_back(values[i] == 0 ? TokenType::normal : static_cast<TokenType>(values[i]));  // 0: not said
  }
  return types;
}

// What follows from tokenizer.ggml.model.
struct TokenizerModel {
  std::string_view name, about;
  VocabularyKind kind;
  bool listed_merges, add_bos, add_eos, add_space_prefix;
  size_t bos, eos, unknown;
};
constexpr size_t kNone = SIZE_MAX;
constexpr TokenizerModel kModels[] = {
#define KVASS_VOCABULARY(name, about, kind, ...) {name, about, VocabularyKind::kind, __VA_ARGS__},
#define KVASS_CHARACTER_MERGES(pre)
#include "text/vocabulary_kinds.inc"
#undef KVASS_VOCABULARY
#undef KVASS_CHARACTER_MERGES
};
constexpr std::string_view kCharacterMerges[] = {
#define KVASS_VOCABULARY(...)
#define KVASS_CHARACTER_MERGES(pre) pre,
#include "text/vocabulary_kinds.inc"
#undef KVASS_VOCABULARY
#undef KVASS_CHARACTER_MERGES
};

const TokenizerModel* find_model(std::string_view name, std::string_view pre) {
  const auto where = [](auto fits) {
    const auto found = std::find_if(std::begin(kModels), std::end(kModels), fits);
    return found == std::end(kModels) ? nullptr : found;
  };
  const TokenizerModel* model = where([&](const TokenizerModel& known) { return known.name == name; });
  const bool characters =
      std::find(std::begin(kCharacterMerges), std::end(kCharacterMerges), pre) != std::end(kCharacterMerges);
  if (model == nullptr || model->kind != VocabularyKind::bpe || !characters) return model;
  return where([](const TokenizerModel& known) { return known.kind == VocabularyKind::spm && known.listed_merges; });
}

Result<TokenizerModel> read_model(const Gguf& file) {
  constexpr std::string_view key = "tokenizer.ggml.model";
  KVASS_ASSIGN_OR_RETURN(const std::string_view name, file.get_string(key));
  KVASS_ASSIGN_OR_RETURN(const std::string_view pre, file.get_string_or("tokenizer.ggml.pre", ""));
  if (const TokenizerModel* model = find_model(name, pre)) return *model;
  std::string known;
  for (const TokenizerModel& model : kModels) {
    known += fmt::format("{}\"{}\" ({})", known.empty() ? "" : ", ", model.name, model.about);
  }
  return unsupported(vocabulary_field(file.name(), key), known + ": the kinds of tokenizer that are supported",
                     fmt::format("\"{}\"{}", one_line(name, 64, '?'), name == "bert" ? " (WordPiece)" : ""));
}

Status read_merges(const Gguf& file, Vocabulary& vocabulary) {
  KVASS_ASSIGN_OR_RETURN(const std::vector<std::string_view> merges, file.get_strings("tokenizer.ggml.merges"));
  vocabulary.merges.assign(merges.begin(), merges.end());
  return {};
}

// The pre-tokenizer's name, and what follows from it.
Status read_pre_tokenizer(const Gguf& file, Vocabulary& vocabulary) {
  constexpr std::string_view key = "tokenizer.ggml.pre";
  if (file.has(key)) {
    KVASS_ASSIGN_OR_RETURN(vocabulary.pre, file.get_string(key));
  }
  KVASS_ASSIGN_OR_RETURN(const PreTokenizerKind* const kind,
                         find_pre_tokenizer(vocabulary_field(file.name(), key), vocabulary.pre));
  vocabulary.add_bos = kind->add_bos;
  vocabulary.nfc = kind->nfc;
  return {};
}

// What a unigram kind does to text first. An spm kind that asks for the same is refused: its merges were not trained
// so.
Status read_normalization(const Gguf& file, Vocabulary& vocabulary) {
  constexpr std::string_view kCharsmap = "tokenizer.ggml.precompiled_charsmap";
  constexpr std::string_view kSpaces = "tokenizer.ggml.remove_extra_whitespaces";
  KVASS_ASSIGN_OR_RETURN(vocabulary.remove_extra_whitespaces, file.get_bool_or(kSpaces, false));
  if (const GgufEntry* entry = file.find(kCharsmap); entry != nullptr && entry->count > 0) {
    const bool bytes = entry->type == GgufValueType::array &&
                       (entry->element == GgufValueType::u8 || entry->element == GgufValueType::i8);
    if (!bytes) return bad_input(vocabulary_field(file.name(), kCharsmap), "an array of bytes", "another type");
    vocabulary.charsmap.assign(reinterpret_cast<const char*>(entry->data), entry->bytes);
  }
  if (vocabulary.kind == VocabularyKind::unigram) return {};
  if (!vocabulary.charsmap.empty()) {
    return unsupported(vocabulary_field(file.name(), kCharsmap), "none beside merges", "one");
  }
  if (vocabulary.kind == VocabularyKind::spm && vocabulary.remove_extra_whitespaces) {
    return unsupported(vocabulary_field(file.name(), kSpaces), "false beside merges", "true");
  }
  vocabulary.remove_extra_whitespaces = false;
  return {};
}

// The token id of a key. If the key is missing: `fallback`, if that token exists and has the right type.
Result<int32_t> read_id(const Gguf& file, std::string_view key, const Vocabulary& vocabulary, size_t fallback,
                        TokenType type) {
  if (!file.has(key)) {
    const bool usable = fallback < vocabulary.types.size() && vocabulary.types[fallback] == type;
    return usable ? static_cast<int32_t>(fallback) : -1;
  }
  KVASS_ASSIGN_OR_RETURN(const int64_t id, file.get_int(key));
  const auto tokens = static_cast<int64_t>(vocabulary.pieces.size());
  if (id < 0 || id >= tokens) {
    return bad_input(vocabulary_field(file.name(), key), fmt::format("an id below {}", tokens), std::to_string(id));
  }
  return static_cast<int32_t>(id);
}

// kvass's own keys.
Status read_own(const Gguf& file, Vocabulary& vocabulary) {
  if (file.has(kMergesKey) && vocabulary.kind == VocabularyKind::spm) {
    KVASS_ASSIGN_OR_RETURN(const std::vector<std::string_view> merges, file.get_strings(kMergesKey));
    vocabulary.merges.assign(merges.begin(), merges.end());
  }
  if (file.has(kSpacePrefixKey)) {
    KVASS_ASSIGN_OR_RETURN(const std::string_view name, file.get_string(kSpacePrefixKey));
    const std::optional<SpacePrefix> found = find_space_prefix(name);
    if (!found) {
      return unsupported(vocabulary_field(file.name(), kSpacePrefixKey), "controls, segments, first or always",
                         fmt::format("{} bytes that are not", name.size()));
    }
    vocabulary.space_prefix = *found;
  }
  KVASS_ASSIGN_OR_RETURN(vocabulary.nfc, file.get_bool_or(kNfcKey, vocabulary.nfc));
  if (file.has(kEndsKey)) {
    KVASS_ASSIGN_OR_RETURN(const std::vector<int64_t> ends, file.get_ints(kEndsKey));
    for (const int64_t id : ends) {
      if (id < 0 || id >= static_cast<int64_t>(vocabulary.pieces.size())) {
        return bad_input(vocabulary_field(file.name(), kEndsKey),
                         fmt::format("ids from 0 to {}", vocabulary.pieces.size() - 1), std::to_string(id));
      }
      vocabulary.ends.push_back(static_cast<int32_t>(id));
    }
  }
  return {};
}

}  // namespace

std::string_view vocabulary_kind_name(VocabularyKind kind) { return kKinds[static_cast<size_t>(kind)]; }

std::optional<VocabularyKind> find_vocabulary_kind(std::string_view name) {
  const auto found = std::find(std::begin(kKinds), std::end(kKinds), name);
  if (found == std::end(kKinds)) return std::nullopt;
  return static_cast<VocabularyKind>(found - std::begin(kKinds));
}

std::string_view space_prefix_name(SpacePrefix prefix) { return kSpacePrefixes[static_cast<size_t>(prefix)]; }

std::optional<SpacePrefix> find_space_prefix(std::string_view name) {
  const auto found = std::find(std::begin(kSpacePrefixes), std::end(kSpacePrefixes), name);
  if (found == std::end(kSpacePrefixes)) return std::nullopt;
  return static_cast<SpacePrefix>(found - std::begin(kSpacePrefixes));
}

Result<Vocabulary> read_vocabulary(const Gguf& file) {
  KVASS_ASSIGN_OR_RETURN(const TokenizerModel model, read_model(file));
  Vocabulary vocabulary;
  vocabulary.source = file.name();
  vocabulary.kind = model.kind;
  vocabulary.add_bos = model.add_bos;
  vocabulary.add_eos = model.add_eos;
  vocabulary.add_space_prefix = model.add_space_prefix;
  const bool bpe = vocabulary.kind == VocabularyKind::bpe;
  if (vocabulary.kind == VocabularyKind::unigram) vocabulary.space_prefix = SpacePrefix::segments;
  KVASS_ASSIGN_OR_RETURN(const std::vector<std::string_view> pieces, file.get_strings("tokenizer.ggml.tokens"));
  vocabulary.pieces.assign(pieces.begin(), pieces.end());
  KVASS_ASSIGN_OR_RETURN(vocabulary.types, read_types(file, vocabulary));
  if (model.listed_merges) KVASS_RETURN_IF_ERROR(read_merges(file, vocabulary));
  if (bpe) KVASS_RETURN_IF_ERROR(read_pre_tokenizer(file, vocabulary));
  if (!model.listed_merges) {
    KVASS_ASSIGN_OR_RETURN(vocabulary.scores, file.get_floats("tokenizer.ggml.scores"));
  }
  KVASS_RETURN_IF_ERROR(read_normalization(file, vocabulary));

  const auto read = [&](std::string_view key, size_t fallback, TokenType type) {
    return read_id(file, key, vocabulary, fallback, type);
  };
  KVASS_ASSIGN_OR_RETURN(vocabulary.unknown,
                         read("tokenizer.ggml.unknown_token_id", model.unknown, TokenType::unknown));
  KVASS_ASSIGN_OR_RETURN(vocabulary.bos, read("tokenizer.ggml.bos_token_id", model.bos, TokenType::control));
  KVASS_ASSIGN_OR_RETURN(vocabulary.eos, read("tokenizer.ggml.eos_token_id", model.eos, TokenType::control));
  KVASS_ASSIGN_OR_RETURN(vocabulary.eot, read("tokenizer.ggml.eot_token_id", kNone, TokenType::control));
  KVASS_ASSIGN_OR_RETURN(vocabulary.eom, read("tokenizer.ggml.eom_token_id", kNone, TokenType::control));
  KVASS_ASSIGN_OR_RETURN(vocabulary.add_bos, file.get_bool_or("tokenizer.ggml.add_bos_token", vocabulary.add_bos));
  KVASS_ASSIGN_OR_RETURN(vocabulary.add_eos, file.get_bool_or("tokenizer.ggml.add_eos_token", vocabulary.add_eos));
  if (!bpe) {
    KVASS_ASSIGN_OR_RETURN(vocabulary.add_space_prefix,
                           file.get_bool_or("tokenizer.ggml.add_space_prefix", vocabulary.add_space_prefix));
  }
  KVASS_RETURN_IF_ERROR(read_own(file, vocabulary));
  KVASS_ASSIGN_OR_RETURN(vocabulary.chat_template, file.get_string_or("tokenizer.chat_template", ""));
  return vocabulary;
}

Status drop_tokens_from(int64_t rows, Vocabulary& vocabulary) {
  const auto kept = static_cast<size_t>(rows);
  if (vocabulary.pieces.size() <= kept) return {};
  if (vocabulary.add_bos && vocabulary.bos >= rows) {
    return bad_input(vocabulary_field(vocabulary.source, "tokenizer.ggml.bos_token_id"),
                     fmt::format("an id below {}, the rows of the embedding", rows), std::to_string(vocabulary.bos));
  }
  vocabulary.pieces.resize(kept);
  vocabulary.types.resize(std::min(vocabulary.types.size(), kept));
  vocabulary.scores.resize(std::min(vocabulary.scores.size(), kept));
  for (int32_t* id : {&vocabulary.bos, &vocabulary.eos, &vocabulary.eot, &vocabulary.eom, &vocabulary.unknown}) {
    if (*id >= rows) *id = -1;
  }
  std::erase_if(vocabulary.ends, [&](int32_t id) { return id >= rows; });
  const std::unordered_set<std::string_view> pieces(vocabulary.pieces.begin(), vocabulary.pieces.end());
  std::erase_if(vocabulary.merges, [&](std::string_view merge) {
    const size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos) return false;  // for the tokenizer to refuse
    const std::string both = std::string(merge.substr(0, space)) + std::string(merge.substr(space + 1));
    return !pieces.contains(merge.substr(0, space)) || !pieces.contains(merge.substr(space + 1)) ||
           !pieces.contains(both);
  });
  return {};
}

}  // namespace kvass
