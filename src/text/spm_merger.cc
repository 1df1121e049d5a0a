#include "text/spm_merger.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <string>

#include "text/utf8.h"

namespace kvass {
namespace {

constexpr uint32_t kNone = UINT32_MAX;
constexpr uint32_t kSpaceMark = 0x2581;  // how SentencePiece writes a space
constexpr int kJointBits = 21;           // 256 KiB; a false positive costs time only
// Offsets within a segment are 32 bits; a text of 2^29 characters without any cut is cut there.
constexpr size_t kMaxSymbols = size_t{1} << 29;

template <class T>
uint64_t load(const char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t x = (a ^ std::rotl(b, 32)) * 0x9e3779b97f4a7c15u;
  x ^= x >> 32;
  return x * 0xd6e8feb86659fd93u;
}

uint64_t hash_bytes(std::string_view bytes) {
  const char* data = bytes.data();
  size_t left = bytes.size();
  uint64_t hash = left;
  for (; left > 16; data += 8, left -= 8) hash = mix(hash, load<uint64_t>(data));
  // Two loads that may overlap cover what is left.
  uint64_t a = 0, b = 0;
  if (left >= 8) {
    a = load<uint64_t>(data), b = load<uint64_t>(data + left - 8);
  } else if (left >= 4) {
    a = load<uint32_t>(data), b = load<uint32_t>(data + left - 4);
  } else if (left > 0) {
    a = load<uint8_t>(data) << 16 | load<uint8_t>(data + left / 2) << 8 | load<uint8_t>(data + left - 1);
  }
  hash = mix(mix(hash, a), b);
  return hash ^ hash >> 29;
}

uint64_t joint_index(uint32_t left, uint32_t right) { return mix(left, right) >> (64 - kJointBits); }

// The next character as the merger sees it: its code, or one past Unicode for a byte that is not part of a character.
struct Character {
  uint32_t code;
  uint8_t length;
};
Character next_character(std::string_view text) {
  const Utf8Step step = utf8_step(text);
  if (step.state == Utf8Step::valid) return {step.code, step.length};
  return {0x110000u + static_cast<uint8_t>(text[0]), 1};
}

struct Symbol {
  uint32_t begin, length;   // bytes of the segment's text; length 0: merged into an earlier symbol
  uint32_t previous, next;  // symbols; kNone at the ends
  int32_t id;               // -1: a character that was not merged, its token not looked up yet
};

struct Merge {
  uint64_t key;     // rank, then the left symbol: the smallest is merged first
  uint32_t length;  // bytes of the two symbols together; another length now means that one of them has changed
  int32_t id;
  bool operator>(const Merge& other) const { return key > other.key; }
};

}  // namespace

struct SpmMerger::Segment {
  std::string text;
  std::vector<Symbol> symbols;
  std::vector<Merge> heap;

  void add(std::string_view bytes) {
    const auto index = static_cast<uint32_t>(symbols.size());
    if (index > 0) symbols.back().next = index;
    symbols.push_back({static_cast<uint32_t>(text.size()), static_cast<uint32_t>(bytes.size()),
                       index > 0 ? index - 1 : kNone, kNone, -1});
    text.append(bytes);
  }
  void clear() {
    text.clear();
    symbols.clear();
  }
};

SpmMerger::SpmMerger(const Vocabulary& vocabulary, const PieceTable& pieces) : unknown_(vocabulary.unknown) {
  byte_ids_.fill(-1);
  std::vector<int32_t> order;  // the NORMAL pieces
  for (int32_t id = 0; id < pieces.size(); ++id) {
    if (vocabulary.types[id] == TokenType::normal && !pieces[id].empty()) order.push_back(id);
    if (vocabulary.types[id] != TokenType::byte) continue;
    int32_t& byte_id = byte_ids_[static_cast<uint8_t>(pieces[id][0])];
    if (byte_id < 0) byte_id = id;
  }

  slots_.resize(std::bit_ceil(2 * order.size() + 2));
  joints_.resize((size_t{1} << kJointBits) / 64);
  for (const int32_t id : order) {
    std::string_view piece = pieces[id];
    if (find(pieces, piece) >= 0) continue;  // of equal pieces the lowest id counts
    const uint64_t hash = hash_bytes(piece);
    size_t at = hash & (slots_.size() - 1);
    while (slots_[at].id >= 0) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = {static_cast<uint32_t>(hash >> 32), id};
    max_piece_bytes_ = std::max(max_piece_bytes_, piece.size());
    for (uint32_t left = kNone; !piece.empty();) {
      const Character character = next_character(piece);
      if (left != kNone) {
        const uint64_t joint = joint_index(left, character.code);
        joints_[joint / 64] |= uint64_t{1} << (joint % 64);
      }
      left = character.code;
      piece.remove_prefix(character.length);
    }
  }

  const std::vector<float>& scores = vocabulary.scores;
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });
  ranks_.resize(static_cast<size_t>(pieces.size()));
  uint32_t rank = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && scores[order[i]] != scores[order[i - 1]]) ++rank;
    ranks_[order[i]] = rank;
  }
}

int32_t SpmMerger::find(const PieceTable& pieces, std::string_view piece) const {
  const uint64_t hash = hash_bytes(piece);
  for (size_t at = hash & (slots_.size() - 1);; at = (at + 1) & (slots_.size() - 1)) {
    const Slot slot = slots_[at];
    if (slot.id < 0) return -1;
    if (slot.tag == static_cast<uint32_t>(hash >> 32) && pieces[slot.id] == piece) return slot.id;
  }
}

bool SpmMerger::may_join(uint32_t left, uint32_t right) const {
  const uint64_t joint = joint_index(left, right);
  return joints_[joint / 64] >> (joint % 64) & 1;
}

// Notes the pair of `left` and its successor as a candidate, if it spells a piece.
void SpmMerger::add_pair(const PieceTable& pieces, Segment& segment, uint32_t left) const {
  const Symbol& symbol = segment.symbols[left];
  const uint32_t length = symbol.length + segment.symbols[symbol.next].length;
  if (length > max_piece_bytes_) return;
  const int32_t id = find(pieces, std::string_view(segment.text).substr(symbol.begin, length));
  if (id >= 0) segment.heap.push_back({uint64_t{ranks_[id]} << 32 | left, length, id});
}

void SpmMerger::merge(const PieceTable& pieces, Segment& segment) const {
  auto& symbols = segment.symbols;
  auto& heap = segment.heap;
  heap.clear();
  for (uint32_t i = 0; i + 1 < symbols.size(); ++i) add_pair(pieces, segment, i);
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto add = [&](uint32_t left) {
    const size_t before = heap.size();
    add_pair(pieces, segment, left);
    if (heap.size() > before) std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    const Merge best = heap.front();
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    heap.pop_back();
    const auto at = static_cast<uint32_t>(best.key);
    Symbol& left = symbols[at];
    // The pair is as it was noted when it still spans the same bytes: they spell the same piece however they are
    // divided.
    if (left.length == 0 || left.next == kNone) continue;
    Symbol& right = symbols[left.next];
    if (left.length + right.length != best.length) continue;
    left.length = best.length;
    left.id = best.id;
    left.next = right.next;
    right.length = 0;
    if (left.next != kNone) {
      symbols[left.next].previous = at;
      add(at);
    }
    if (left.previous != kNone) add(left.previous);
  }
}

void SpmMerger::emit(const PieceTable& pieces, const Segment& segment, std::vector<int32_t>& ids) const {
  for (uint32_t i = 0; i != kNone; i = segment.symbols[i].next) {
    const Symbol& symbol = segment.symbols[i];
    const std::string_view bytes = std::string_view(segment.text).substr(symbol.begin, symbol.length);
    const int32_t id = symbol.id >= 0 ? symbol.id : find(pieces, bytes);
    if (id >= 0) {
      ids.push_back(id);
    } else if (std::all_of(bytes.begin(), bytes.end(),
                           [&](char c) { return byte_ids_[static_cast<uint8_t>(c)] >= 0; })) {
      for (const char c : bytes) ids.push_back(byte_ids_[static_cast<uint8_t>(c)]);
    } else {
      ids.push_back(unknown_);
    }
  }
}

void SpmMerger::encode(const PieceTable& pieces, std::string_view text, bool space_prefix,
                       std::vector<int32_t>& ids) const {
  Segment segment;
  uint32_t last = kNone;
  const auto flush = [&] {
    if (segment.symbols.empty()) return;
    merge(pieces, segment);
    emit(pieces, segment, ids);
    segment.clear();
  };
  const auto add = [&](std::string_view bytes, uint32_t code) {
    if (!segment.symbols.empty() && (!may_join(last, code) || segment.symbols.size() == kMaxSymbols)) flush();
    segment.add(bytes);
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
