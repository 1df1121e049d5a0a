#include "text/spm_merger.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "base/once.h"
#include "text/merge_buffer.h"
#include "text/piece_index.h"
#include "text/utf8.h"

namespace kvass {
namespace {

constexpr uint32_t kNone = UINT32_MAX;
constexpr uint32_t kSpaceMark = 0x2581;  // how SentencePiece writes a space
constexpr int kJointBits = 21;           // 256 KiB; a false positive costs time only

uint64_t joint_index(uint32_t left, uint32_t right) { return mix_hash(left, right) >> (64 - kJointBits); }

// The next character: its code point, or 0x110000 + the byte for a byte that is not part of a character.
struct Character {
  uint32_t code;
  uint8_t length;
};
Character next_character(std::string_view text) {
  const Utf8Step step = utf8_step(text);
  if (step.state == Utf8Step::valid) return {step.code, step.length};
  return {0x110000u + static_cast<uint8_t>(text[0]), 1};
}

// A part of the text that is merged alone.
struct Segment {
  std::string text;
  MergeBuffer symbols;  // id -1: a character without a token, or one whose token has not been looked up yet

  void add(std::string_view bytes, int32_t id) {
    symbols.add(static_cast<uint32_t>(bytes.size()), id);
    text.append(bytes);
  }
  void clear() {
    text.clear();
    symbols.clear();
  }
};

}  // namespace

struct SpmMerger::Tables {
  PieceIndex index;              // the NORMAL pieces
  std::vector<uint32_t> ranks;   // [tokens]; 0 for the highest score, equal for equal scores
  std::vector<uint64_t> joints;  // a bit for each hashed pair of characters; 1: neighbours in some piece

  // Sorts `order` by scores.
  Tables(const PieceTable& pieces, std::vector<int32_t>& order, const std::vector<float>& scores);

  bool may_join(uint32_t left, uint32_t right) const {  // characters
    const uint64_t joint = joint_index(left, right);
    return joints[joint / 64] >> (joint % 64) & 1;
  }
  void merge(const PieceTable& pieces, const PairTable* pairs, Segment& segment) const {
    const std::string_view text = segment.text;
    if (pairs != nullptr) {
      segment.symbols.merge(
          [&](const MergeSymbol& left, const MergeSymbol& right) { return pairs->find(left.id, right.id); });
      return;
    }
    segment.symbols.merge([&](const MergeSymbol& left, const MergeSymbol& right) -> MergeResult {
      const uint32_t length = left.length + right.length;
      const int32_t id = length <= index.max_bytes() ? index.find(pieces, text.substr(left.begin, length)) : -1;
      return {id >= 0 ? ranks[id] : 0, id};
    });
  }
};

struct SpmMerger::Lazy {
  Once once;
  std::vector<int32_t> order;  // the NORMAL pieces
  std::vector<float> scores;   // [tokens]
  std::optional<Tables> tables;
};

SpmMerger::SpmMerger(const VocabularyView& vocabulary, std::span<const TokenType> types, const PieceTable& pieces)
    : lazy_(std::make_shared<Lazy>()), unknown_(vocabulary.unknown) {
  byte_ids_.fill(-1);
  lazy_->scores.assign(vocabulary.scores.begin(), vocabulary.scores.end());
  lazy_->scores.resize(types.size());  // where merges are listed there may be none
  lazy_->order.reserve(types.size());
  for (int32_t id = 0; id < pieces.size(); ++id) {
    if (types[id] == TokenType::normal && !pieces[id].empty()) lazy_->order.push_back(id);
    if (types[id] != TokenType::byte) continue;
    int32_t& byte_id = byte_ids_[static_cast<uint8_t>(pieces[id][0])];
    if (byte_id < 0) byte_id = id;
  }
}

Result<SpmMerger> SpmMerger::create(const VocabularyView& vocabulary, std::span<const TokenType> types,
                                    const PieceTable& pieces) {
  SpmMerger merger(vocabulary, types, pieces);
  if (!vocabulary.merges.empty()) KVASS_RETURN_IF_ERROR(merger.read_merges(vocabulary, types));
  return merger;
}

// "left right" each, as in the file. Pairs with a token that is not NORMAL never occur: such text is matched before.
Status SpmMerger::read_merges(const VocabularyView& vocabulary, std::span<const TokenType> types) {
  PieceTable names;  // as in the file: U+2581 is not a space
  std::vector<int32_t> ids;
  for (const std::string_view piece : vocabulary.pieces) {
    ids.push_back(names.size());
    names.append(piece);
  }
  const PieceIndex index(names, ids);
  auto pairs = std::make_shared<PairTable>(vocabulary.merges.size());
  std::string merged;
  for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    const std::string_view merge = vocabulary.merges[rank];
    const size_t space = std::min(merge.find(' '), merge.size());
    merged.assign(merge.substr(0, space)).append(merge.substr(std::min(space + 1, merge.size())));
    const int32_t left = index.find(names, merge.substr(0, space));
    const int32_t right = index.find(names, merge.substr(std::min(space + 1, merge.size())));
    const int32_t both = index.find(names, merged);
    if (left < 0 || right < 0 || both < 0) {
      return bad_input(vocabulary_field(vocabulary.source, "merges[" + std::to_string(rank) + "]"),
                       "two tokens that make a third", std::to_string(merge.size()) + " bytes that are not");
    }
    const auto normal = [&](int32_t id) { return types[static_cast<size_t>(id)] == TokenType::normal; };
    if (normal(left) && normal(right) && normal(both)) pairs->add(left, right, {static_cast<uint32_t>(rank), both});
  }
  pairs_ = std::move(pairs);
  return {};
}

const SpmMerger::Tables& SpmMerger::tables(const PieceTable& pieces) const {
  lazy_->once.call([&] {
    lazy_->tables.emplace(pieces, lazy_->order, lazy_->scores);
    lazy_->order = {};
    lazy_->scores = {};
  });
  return *lazy_->tables;
}

SpmMerger::Tables::Tables(const PieceTable& pieces, std::vector<int32_t>& order, const std::vector<float>& scores)
    : index(pieces, order), ranks(static_cast<size_t>(pieces.size())), joints((size_t{1} << kJointBits) / 64) {
  for (const int32_t id : order) {
    std::string_view piece = pieces[id];
    for (uint32_t left = kNone; !piece.empty();) {
      const Character character = next_character(piece);
      if (left != kNone) {
        const uint64_t joint = joint_index(left, character.code);
        joints[joint / 64] |= uint64_t{1} << (joint % 64);
      }
      left = character.code;
      piece.remove_prefix(character.length);
    }
  }
  const auto higher = [&](int32_t a, int32_t b) { return scores[a] > scores[b]; };
  if (!std::is_sorted(order.begin(), order.end(), higher)) std::stable_sort(order.begin(), order.end(), higher);
  uint32_t rank = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && scores[order[i]] != scores[order[i - 1]]) ++rank;
    ranks[order[i]] = rank;
  }
}

void SpmMerger::encode(const PieceTable& pieces, std::string_view text, bool space_prefix,
                       std::vector<int32_t>& ids) const {
  const Tables& tables = this->tables(pieces);
  Segment segment;
  uint32_t last = kNone;
  const auto emit = [&](const MergeSymbol& symbol) {
    std::string_view bytes = std::string_view(segment.text).substr(symbol.begin, symbol.length);
    const int32_t id = symbol.id >= 0 ? symbol.id : tables.index.find(pieces, bytes);
    if (pairs_ && bytes == " ") bytes = "\u2581";  // what a space is where merges are listed
    if (id >= 0) {
      ids.push_back(id);
    } else if (std::all_of(bytes.begin(), bytes.end(),
                           [&](char c) { return byte_ids_[static_cast<uint8_t>(c)] >= 0; })) {
      for (const char c : bytes) ids.push_back(byte_ids_[static_cast<uint8_t>(c)]);
    } else {
      ids.push_back(unknown_);
    }
  };
  const auto flush = [&] {
    if (segment.symbols.size() == 0) return;
    tables.merge(pieces, pairs_.get(), segment);
    segment.symbols.for_each(emit);
    segment.clear();
  };
  const auto add = [&](std::string_view bytes, uint32_t code) {
    if (segment.symbols.size() > 0 &&
        (!tables.may_join(last, code) || segment.symbols.size() == MergeBuffer::kMaxSymbols))
      flush();
    segment.add(bytes, pairs_ ? tables.index.find(pieces, bytes) : -1);
    last = code;
  };
  if (space_prefix) add(" ", ' ');
  while (!text.empty()) {
    const Character character = next_character(text);
    if (character.code == kSpaceMark) {
      add(" ", ' ');
    } else {
      add(text.substr(0, character.length), character.code);
    }
    text.remove_prefix(character.length);
  }
  flush();
}

}  // namespace kvass
