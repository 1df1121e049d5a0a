#include "text/piece_index.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace kvass {
namespace {

template <class T>
uint64_t load(const char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

uint64_t hash_bytes(std::string_view bytes) {
  const char* data = bytes.data();
  size_t left = bytes.size();
  uint64_t hash = left;
  for (; left > 16; data += 8, left -= 8) hash = mix_hash(hash, load<uint64_t>(data));
  // Two loads, which may overlap, cover the remaining bytes.
  uint64_t a = 0, b = 0;
  if (left >= 8) {
    a = load<uint64_t>(data), b = load<uint64_t>(data + left - 8);
  } else if (left >= 4) {
    a = load<uint32_t>(data), b = load<uint32_t>(data + left - 4);
  } else if (left > 0) {
    a = load<uint8_t>(data) << 16 | load<uint8_t>(data + left / 2) << 8 | load<uint8_t>(data + left - 1);
  }
  hash = mix_hash(mix_hash(hash, a), b);
  return hash ^ hash >> 29;
}

}  // namespace

// The table is larger than a CPU cache: the slots of the next pieces are prefetched while one is inserted.
PieceIndex::PieceIndex(const PieceTable& pieces, std::span<const int32_t> ids)
    : slots_(std::bit_ceil(2 * ids.size() + 2)) {
  constexpr size_t kAhead = 16;
  const size_t mask = slots_.size() - 1;
  uint64_t hashes[kAhead];  // of the pieces from i on, at their index modulo kAhead
  const auto prepare = [&](size_t i) {
    const uint64_t hash = hash_bytes(pieces[ids[i]]);
    hashes[i % kAhead] = hash;
    __builtin_prefetch(&slots_[hash & mask], 1);
  };
  for (size_t i = 0; i < std::min(kAhead, ids.size()); ++i) prepare(i);
  for (size_t i = 0; i < ids.size(); ++i) {
    const uint64_t hash = hashes[i % kAhead];
    if (i + kAhead < ids.size()) prepare(i + kAhead);
    const std::string_view piece = pieces[ids[i]];
    if (piece.empty()) continue;
    const auto tag = static_cast<uint32_t>(hash >> 32);
    size_t at = hash & mask;
    while (slots_[at].id >= 0 && (slots_[at].tag != tag || pieces[slots_[at].id] != piece)) at = (at + 1) & mask;
    if (slots_[at].id >= 0) continue;  // holds an equal piece with a lower id
    slots_[at] = {tag, ids[i]};
    max_bytes_ = std::max(max_bytes_, piece.size());
  }
}

int32_t PieceIndex::find(const PieceTable& pieces, std::string_view piece) const {
  const uint64_t hash = hash_bytes(piece);
  for (size_t at = hash & (slots_.size() - 1);; at = (at + 1) & (slots_.size() - 1)) {
    const Slot slot = slots_[at];
    if (slot.id < 0) return -1;
    if (slot.tag == static_cast<uint32_t>(hash >> 32) && pieces[slot.id] == piece) return slot.id;
  }
}

}  // namespace kvass
