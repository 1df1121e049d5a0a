#include "text/bpe_merger.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "text/byte_alphabet.h"

namespace kvass {
namespace {

// The tokens that merging may give.
PieceIndex mergeable(const PieceTable& pieces, std::span<const TokenType> types) {
  std::vector<int32_t> found;
  for (int32_t id = 0; id < pieces.size(); ++id) {
    const TokenType type = types[static_cast<size_t>(id)];
    if (type == TokenType::normal || type == TokenType::user_defined) found.push_back(id);
  }
  return {pieces, found};
}

}  // namespace

Result<BpeMerger> BpeMerger::create(const VocabularyView& vocabulary, std::span<const TokenType> types,
                                    const PieceTable& pieces) {
  const std::string key = vocabulary_field(vocabulary.source, "tokenizer.ggml.pre");
  KVASS_ASSIGN_OR_RETURN(const PreTokenizerKind* const kind, find_pre_tokenizer(key, vocabulary.pre));
  BpeMerger merger(*kind);
  merger.index_ = mergeable(pieces, vocabulary.types);
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    merger.byte_ids_[byte] = merger.index_.find(pieces, {&c, 1});
  }
  merger.unknown_ = vocabulary.unknown;
  KVASS_RETURN_IF_ERROR(merger.read_merges(vocabulary, types, pieces));
  // Only now, since a file may list merges that make a control token.
  if (!std::equal(types.begin(), types.end(), vocabulary.types.begin())) merger.index_ = mergeable(pieces, types);
  return merger;
}

// A merge is "left right", both in the byte alphabet. Its rank is its index in the list; of equal pairs the first
// counts.
Status BpeMerger::read_merges(const VocabularyView& vocabulary, std::span<const TokenType> types,
                              const PieceTable& pieces) {
  pairs_ = PairTable(vocabulary.merges.size());
  for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    const std::string_view merge = vocabulary.merges[rank];
    const auto refuse = [&](std::string_view expected) {
      return bad_input(vocabulary_field(vocabulary.source, fmt::format("tokenizer.ggml.merges[{}]", rank)),
                       std::string(expected), fmt::format("{} bytes that are not", merge.size()));
    };
    const size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos) return refuse("two tokens with a space between");
    const std::optional<std::string> first = bytes_of_piece(merge.substr(0, space));
    const std::optional<std::string> second = bytes_of_piece(merge.substr(space + 1));
    if (!first || !second) return refuse("two tokens in the alphabet of bytes");
    const int32_t left = index_.find(pieces, *first), right = index_.find(pieces, *second);
    const int32_t both = index_.find(pieces, *first + *second);
    if (left < 0 || right < 0 || both < 0) return refuse("two tokens that make a third");
    if (types[static_cast<size_t>(both)] == TokenType::control) continue;
    pairs_.add(left, right, {static_cast<uint32_t>(rank), both});
  }
  return {};
}

void BpeMerger::encode_piece(const PieceTable& pieces, std::string_view piece, MergeBuffer& symbols,
                             std::vector<int32_t>& ids) const {
  if (ignore_merges_ && piece.size() <= index_.max_bytes()) {
    if (const int32_t id = index_.find(pieces, piece); id >= 0) {
      ids.push_back(id);
      return;
    }
  }
  symbols.clear();
  for (const char byte : piece) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(byte)];
    if (id >= 0 || unknown_ >= 0) symbols.add(1, id);
  }
  symbols.merge(
      [&](const MergeSymbol& left, const MergeSymbol& right) -> MergeResult { return pairs_.find(left.id, right.id); });
  symbols.for_each([&](const MergeSymbol& symbol) { ids.push_back(symbol.id >= 0 ? symbol.id : unknown_); });
}

void BpeMerger::encode(const PieceTable& pieces, std::string_view text, std::vector<int32_t>& ids) const {
  MergeBuffer symbols;
  splitter_.split(text, [&](std::string_view piece) {
    for (; piece.size() > MergeBuffer::kMaxSymbols; piece.remove_prefix(MergeBuffer::kMaxSymbols)) {
      encode_piece(pieces, piece.substr(0, MergeBuffer::kMaxSymbols), symbols, ids);
    }
    encode_piece(pieces, piece, symbols, ids);
  });
}

}  // namespace kvass
