#include "text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "text/byte_alphabet.h"
#include "text/control_tokens.h"
#include "text/normalizer.h"

namespace kvass {
namespace {

constexpr std::string_view kSpaceMark = "\u2581";
constexpr std::string_view kReplacement = "\ufffd";

// "<0xXX>" -> the byte.
std::optional<char> parse_byte_piece(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return std::nullopt;
  uint8_t value = 0;
  const char* end = piece.data() + 5;
  if (std::from_chars(piece.data() + 3, end, value, 16).ptr != end) return std::nullopt;
  return static_cast<char>(value);
}

// Appends a piece with every U+2581 replaced by a space.
void append_spaced(std::string_view piece, PieceTable& pieces) {
  for (size_t mark = piece.find(kSpaceMark); mark != std::string_view::npos; mark = piece.find(kSpaceMark)) {
    pieces.extend(piece.substr(0, mark));
    pieces.extend(" ");
    piece.remove_prefix(mark + kSpaceMark.size());
  }
  pieces.append(piece);
}

Status check_sizes(const VocabularyView& vocabulary) {
  const size_t tokens = vocabulary.pieces.size();
  if (tokens == 0 || tokens > std::numeric_limits<int32_t>::max()) {
    return bad_input(vocabulary_field(vocabulary.source, "tokenizer.ggml.tokens"), "between 1 and 2^31 - 1 tokens",
                     std::to_string(tokens));
  }
  const bool scored = vocabulary.kind == VocabularyKind::unigram ||
                      (vocabulary.kind == VocabularyKind::spm && vocabulary.merges.empty());
  if ((scored || !vocabulary.scores.empty()) && vocabulary.kind != VocabularyKind::bpe &&
      vocabulary.scores.size() != tokens) {
    return bad_input(vocabulary_field(vocabulary.source, "tokenizer.ggml.scores"),
                     fmt::format("one for each of {} tokens", tokens), std::to_string(vocabulary.scores.size()));
  }
  if (vocabulary.types.size() != tokens) {
    return bad_input(vocabulary_field(vocabulary.source, "tokenizer.ggml.token_type"),
                     fmt::format("one for each of {} tokens", tokens), std::to_string(vocabulary.types.size()));
  }
  size_t bytes = 0;
  for (const std::string_view piece : vocabulary.pieces) bytes += piece.size();
  if (bytes > PieceTable::kMaxBytes) {
    return bad_input(vocabulary_field(vocabulary.source, "tokenizer.ggml.tokens"),
                     fmt::format("at most {} bytes in all", PieceTable::kMaxBytes), std::to_string(bytes));
  }
  return {};
}

Status check_ids(const VocabularyView& vocabulary) {
  const auto tokens = static_cast<int32_t>(vocabulary.pieces.size());
  const std::array<std::pair<std::string_view, int32_t>, 5> ids{{{"bos", vocabulary.bos},
                                                                 {"eos", vocabulary.eos},
                                                                 {"eot", vocabulary.eot},
                                                                 {"eom", vocabulary.eom},
                                                                 {"unknown", vocabulary.unknown}}};
  for (const auto& [name, id] : ids) {
    if (id >= -1 && id < tokens) continue;
    return bad_input(vocabulary_field(vocabulary.source, fmt::format("tokenizer.ggml.{}_token_id", name)),
                     fmt::format("an id below {}", tokens), std::to_string(id));
  }
  return {};
}

Status check_tokens(const VocabularyView& vocabulary) {
  const bool spm = vocabulary.kind != VocabularyKind::bpe;
  std::array<bool, 256> has_byte{};
  for (size_t id = 0; id < vocabulary.pieces.size(); ++id) {
    const std::string_view piece = vocabulary.pieces[id];
    const TokenType type = vocabulary.types[id];
    if (spm && !vocabulary.scores.empty() && std::isnan(vocabulary.scores[id])) {
      return bad_input(vocabulary_field(vocabulary.source, fmt::format("tokenizer.ggml.scores[{}]", id)), "a number",
                       "NaN");
    }
    if (type < TokenType::normal || type > TokenType::byte) {
      return bad_input(vocabulary_field(vocabulary.source, fmt::format("tokenizer.ggml.token_type[{}]", id)), "1 to 6",
                       std::to_string(static_cast<int>(type)));
    }
    if (type == TokenType::byte) {
      const std::optional<char> byte = parse_byte_piece(piece);
      if (!byte) {
        return bad_input(vocabulary_field(vocabulary.source, fmt::format("tokenizer.ggml.tokens[{}]", id)),
                         "<0xXX> for a token of type byte", fmt::format("{} bytes that are not", piece.size()));
      }
      has_byte[static_cast<uint8_t>(*byte)] = true;
    } else if (type != TokenType::normal && type != TokenType::unused &&
               piece.size() > SpecialMatcher::kMaxPieceBytes) {
      return bad_input(vocabulary_field(vocabulary.source, fmt::format("tokenizer.ggml.tokens[{}]", id)),
                       fmt::format("at most {} bytes in a special token", SpecialMatcher::kMaxPieceBytes),
                       std::to_string(piece.size()));
    }
  }
  for (int byte = 0; spm && byte < 256 && vocabulary.unknown < 0; ++byte) {
    if (has_byte[byte]) continue;
    return bad_input(vocabulary_field(vocabulary.source, "tokenizer.ggml.tokens"),
                     "a token for every byte, or an unknown token",
                     fmt::format("neither <0x{:02X}> nor tokenizer.ggml.unknown_token_id", byte));
  }
  return {};
}

// Appends the bytes that a token stands for in decoded text.
void append_text(const VocabularyView& vocabulary, size_t id, PieceTable& pieces) {
  const std::string_view piece = vocabulary.pieces[id];
  const TokenType type = vocabulary.types[id];
  const bool spm = vocabulary.kind != VocabularyKind::bpe;
  if (type == TokenType::byte) {
    const char byte = *parse_byte_piece(piece);
    pieces.append({&byte, 1});
  } else if (spm && (type == TokenType::normal || type == TokenType::unused)) {
    append_spaced(piece, pieces);
  } else if (!spm && type == TokenType::normal) {
    const std::optional<std::string> bytes = bytes_of_piece(piece);
    pieces.append(bytes ? std::string_view(*bytes) : piece);
  } else {
    pieces.append(piece);
  }
}

}  // namespace

Result<Tokenizer> Tokenizer::create(const VocabularyView& vocabulary) {
  KVASS_RETURN_IF_ERROR(check_sizes(vocabulary));
  KVASS_RETURN_IF_ERROR(check_ids(vocabulary));
  KVASS_RETURN_IF_ERROR(check_tokens(vocabulary));

  Tokenizer tokenizer;
  size_t bytes = 0;
  for (const std::string_view piece : vocabulary.pieces) bytes += piece.size();
  tokenizer.pieces_.reserve(vocabulary.pieces.size(), bytes);
  for (size_t id = 0; id < vocabulary.pieces.size(); ++id) append_text(vocabulary, id, tokenizer.pieces_);
  tokenizer.bos_ = vocabulary.bos;
  tokenizer.eos_ = vocabulary.eos;
  tokenizer.mark_control(find_control_tokens(
      tokenizer.pieces_, vocabulary.types,
      {vocabulary.bos, vocabulary.eos, vocabulary.eot, vocabulary.eom, vocabulary.ends}, vocabulary.chat_template));
  if (vocabulary.kind == VocabularyKind::spm) {
    KVASS_ASSIGN_OR_RETURN(tokenizer.merger_, SpmMerger::create(vocabulary, tokenizer.types_, tokenizer.pieces_));
  } else if (vocabulary.kind == VocabularyKind::unigram) {
    KVASS_ASSIGN_OR_RETURN(tokenizer.merger_, UnigramMerger::create(vocabulary, tokenizer.types_, tokenizer.pieces_));
  } else {
    KVASS_ASSIGN_OR_RETURN(tokenizer.merger_, BpeMerger::create(vocabulary, tokenizer.types_, tokenizer.pieces_));
  }
  tokenizer.nfc_ = vocabulary.nfc;
  tokenizer.add_bos_ = vocabulary.add_bos;
  tokenizer.add_eos_ = vocabulary.add_eos;
  tokenizer.add_space_prefix_ = vocabulary.add_space_prefix;
  tokenizer.space_prefix_ = vocabulary.space_prefix;
  return tokenizer;
}

void Tokenizer::mark_control(ControlTokens control) {
  types_ = std::move(control.types);
  ends_ = std::move(control.ends);
  eot_ = control.eot;
  special_ = SpecialMatcher(pieces_, types_);
}

Tokenizer Tokenizer::with_template(std::string_view chat_template) const {
  Tokenizer other = *this;
  ControlTokens control = find_control_tokens(pieces_, types_, {bos_, eos_, eot_, -1}, chat_template);
  control.ends.insert(control.ends.end(), ends_.begin(), ends_.end());
  other.mark_control(std::move(control));
  return other;
}

void Tokenizer::encode_plain(std::string_view text, bool space_prefix, std::vector<int32_t>& ids) const {
  if (space_prefix && space_prefix_ != SpacePrefix::controls) {
    // A space that is removed is no prefix.
    const auto* unigram = std::get_if<UnigramMerger>(&merger_);
    const bool there =
        (text.starts_with(' ') || text.starts_with(kSpaceMark)) && !(unigram && unigram->removes_spaces());
    space_prefix = !text.empty() && (space_prefix_ == SpacePrefix::segments || !there);
  }
  std::string scratch;
  if (nfc_) text = to_nfc(text, scratch);
  if (const auto* spm = std::get_if<SpmMerger>(&merger_)) {
    spm->encode(pieces_, text, space_prefix, ids);
  } else if (const auto* unigram = std::get_if<UnigramMerger>(&merger_)) {
    unigram->encode(pieces_, text, space_prefix, ids);
  } else {
    std::get<BpeMerger>(merger_).encode(pieces_, text, ids);
  }
}

// Whether text gets a space before it that follows a literal token.
bool Tokenizer::prefix_after(TokenType type) const {
  if (space_prefix_ == SpacePrefix::controls) return add_space_prefix_ && type == TokenType::control;
  return add_space_prefix_ && space_prefix_ != SpacePrefix::first;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  const TextPart part{text, options.parse_special};
  return encode_joined(text, {&part, 1}, options.bos, add_space_prefix_);
}

std::vector<int32_t> Tokenizer::encode_parts(std::span<const TextPart> parts, bool bos, bool continued) const {
  std::string text;
  for (const TextPart& part : parts) text += part.text;
  std::vector<int32_t> ids = encode_joined(text, parts, /*bos=*/false, add_space_prefix_ && !continued);
  if (bos && bos_ >= 0 && (ids.empty() || ids.front() != bos_)) ids.insert(ids.begin(), bos_);
  return ids;
}

std::vector<int32_t> Tokenizer::encode_after_control(std::span<const TextPart> parts) const {
  return encode_parts(parts, /*bos=*/false, /*continued=*/!prefix_after(TokenType::control));
}

// `text` is the concatenation of the parts.
std::vector<int32_t> Tokenizer::encode_joined(std::string_view text, std::span<const TextPart> parts, bool bos,
                                              bool space_prefix) const {
  std::vector<int32_t> ids;
  if (bos && bos_ >= 0) ids.push_back(bos_);
  size_t at = 0;  // the text before `at` is encoded
  const auto add_plain = [&](size_t end) {
    if (end == at && !space_prefix) return;
    encode_plain(text.substr(at, end - at), space_prefix, ids);
    space_prefix = false;
    at = end;
  };
  size_t part_end = 0;
  for (const TextPart& part : parts) {
    size_t from = std::max(at, part_end);  // a literal token of the part before may extend into this one
    part_end += part.text.size();
    while (from < part_end) {
      const SpecialMatcher::Match match =
          special_.find(pieces_, text, from, part_end, part.parse_special ? part_end : 0);
      from = match.begin;
      if (match.id < 0) break;
      if (from > at || types_[match.id] == TokenType::user_defined) add_plain(from);
      ids.push_back(match.id);
      at = from = match.begin + pieces_[match.id].size();
      const TokenType type = types_[match.id];
      if (type == TokenType::control || space_prefix_ != SpacePrefix::controls) space_prefix = prefix_after(type);
    }
  }
  if (at < text.size()) add_plain(text.size());
  return ids;
}

std::string_view Tokenizer::piece(int32_t id, bool show_control) const {
  if (!is_token(id)) return {};
  if (!show_control && types_[id] == TokenType::control) return {};
  if (!show_control && types_[id] == TokenType::unknown) return kReplacement;
  return pieces_[id];
}

std::string_view Tokenizer::piece_in_text(int32_t id, bool& at_start, bool show_control) const {
  std::string_view text = piece(id, show_control);
  if (is_control(id)) {
    at_start = true;
  } else if (!text.empty()) {
    if (at_start && add_space_prefix_ && text.front() == ' ') text.remove_prefix(1);
    at_start = false;
  }
  return text;
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  bool at_start = true;
  for (const int32_t id : ids) text += piece_in_text(id, at_start);
  return text;
}

}  // namespace kvass
