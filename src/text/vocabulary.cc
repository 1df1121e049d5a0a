#include "text/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>

#include "file/gguf.h"
#include "text/pre_tokenizer.h"

namespace kvass {
namespace {

constexpr std::string_view kSpacePrefixes[] = {"controls", "segments", "first", "always"};

Result<std::vector<TokenType>> read_types(const Gguf& file) {
  constexpr std::string_view key = "tokenizer.ggml.token_type";
  KVASS_ASSIGN_OR_RETURN(const std::vector<int64_t> values, file.get_ints(key));
  std::vector<TokenType> types;
  types.reserve(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] < 1 || values[i] > 6) {
      return bad_input(vocabulary_field(file.name(), fmt::format("{}[{}]", key, i)), "1 to 6",
                       std::to_string(values[i]));
    }
    types.push_back(static_cast<TokenType>(values[i]));
  }
  return types;
}

// Reads the merges and the pre-tokenizer's name, which byte-level merging needs.
Status read_merges(const Gguf& file, Vocabulary& vocabulary) {
  constexpr std::string_view key = "tokenizer.ggml.pre";
  KVASS_ASSIGN_OR_RETURN(const std::vector<std::string_view> merges, file.get_strings("tokenizer.ggml.merges"));
  vocabulary.merges.assign(merges.begin(), merges.end());
  if (file.has(key)) {
    KVASS_ASSIGN_OR_RETURN(vocabulary.pre, file.get_string(key));
  }
  KVASS_ASSIGN_OR_RETURN(const PreTokenizerKind* const kind,
                         find_pre_tokenizer(vocabulary_field(file.name(), key), vocabulary.pre));
  vocabulary.add_bos = kind->add_bos;
  vocabulary.add_space_prefix = false;
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
  if (file.has(kEndsKey)) {
    KVASS_ASSIGN_OR_RETURN(const std::vector<int64_t> ends, file.get_ints(kEndsKey));
    for (const int64_t id : ends) {
      if (id < 0 || id >= static_cast<int64_t>(vocabulary.pieces.size())) {
        return bad_input(vocabulary_field(file.name(), kEndsKey), fmt::format("ids below {}", vocabulary.pieces.size()),
                         std::to_string(id));
      }
      vocabulary.ends.push_back(static_cast<int32_t>(id));
    }
  }
  return {};
}

}  // namespace

std::string_view space_prefix_name(SpacePrefix prefix) { return kSpacePrefixes[static_cast<size_t>(prefix)]; }

std::optional<SpacePrefix> find_space_prefix(std::string_view name) {
  const auto found = std::find(std::begin(kSpacePrefixes), std::end(kSpacePrefixes), name);
  if (found == std::end(kSpacePrefixes)) return std::nullopt;
  return static_cast<SpacePrefix>(found - std::begin(kSpacePrefixes));
}

Result<Vocabulary> read_vocabulary(const Gguf& file) {
  KVASS_ASSIGN_OR_RETURN(const std::string_view kind, file.get_string("tokenizer.ggml.model"));
  if (kind != "llama" && kind != "gpt2") {
    std::string shown(kind.substr(0, 64));
    std::replace_if(
        shown.begin(), shown.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
    return unsupported(
        vocabulary_field(file.name(), "tokenizer.ggml.model"),
        "\"llama\" (SentencePiece) or \"gpt2\" (byte-level merges), the kinds of tokenizer that are supported",
        fmt::format("\"{}\"", shown));
  }
  Vocabulary vocabulary;
  vocabulary.source = file.name();
  vocabulary.kind = kind == "llama" ? VocabularyKind::spm : VocabularyKind::bpe;
  const bool spm = vocabulary.kind == VocabularyKind::spm;
  KVASS_ASSIGN_OR_RETURN(const std::vector<std::string_view> pieces, file.get_strings("tokenizer.ggml.tokens"));
  vocabulary.pieces.assign(pieces.begin(), pieces.end());
  KVASS_ASSIGN_OR_RETURN(vocabulary.types, read_types(file));
  if (spm) {
    KVASS_ASSIGN_OR_RETURN(vocabulary.scores, file.get_floats("tokenizer.ggml.scores"));
  } else {
    KVASS_RETURN_IF_ERROR(read_merges(file, vocabulary));
  }

  constexpr size_t kNoFallback = SIZE_MAX;
  const auto read = [&](std::string_view key, size_t fallback, TokenType type) {
    return read_id(file, key, vocabulary, spm ? fallback : kNoFallback, type);
  };
  KVASS_ASSIGN_OR_RETURN(vocabulary.unknown, read("tokenizer.ggml.unknown_token_id", 0, TokenType::unknown));
  KVASS_ASSIGN_OR_RETURN(vocabulary.bos, read("tokenizer.ggml.bos_token_id", 1, TokenType::control));
  KVASS_ASSIGN_OR_RETURN(vocabulary.eos, read("tokenizer.ggml.eos_token_id", 2, TokenType::control));
  KVASS_ASSIGN_OR_RETURN(vocabulary.eot, read("tokenizer.ggml.eot_token_id", kNoFallback, TokenType::control));
  KVASS_ASSIGN_OR_RETURN(vocabulary.eom, read("tokenizer.ggml.eom_token_id", kNoFallback, TokenType::control));
  KVASS_ASSIGN_OR_RETURN(vocabulary.add_bos, file.get_bool_or("tokenizer.ggml.add_bos_token", vocabulary.add_bos));
  KVASS_ASSIGN_OR_RETURN(vocabulary.add_eos, file.get_bool_or("tokenizer.ggml.add_eos_token", vocabulary.add_eos));
  if (spm) {
    KVASS_ASSIGN_OR_RETURN(vocabulary.add_space_prefix,
                           file.get_bool_or("tokenizer.ggml.add_space_prefix", vocabulary.add_space_prefix));
  }
  KVASS_RETURN_IF_ERROR(read_own(file, vocabulary));
  KVASS_ASSIGN_OR_RETURN(vocabulary.chat_template, file.get_string_or("tokenizer.chat_template", ""));
  return vocabulary;
}

}  // namespace kvass
