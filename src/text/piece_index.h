// From the bytes of a piece to its token: a hash table over the tokens that encoding may produce. Immutable; the pieces
// belong to the Tokenizer and are passed to every call.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "text/piece_table.h"

namespace kvass {

// The hash of this folder's tables. Only its upper bits are well mixed.
inline uint64_t mix_hash(uint64_t a, uint64_t b) {
  uint64_t x = (a ^ std::rotl(b, 32)) * 0x9e3779b97f4a7c15u;
  x ^= x >> 32;
  return x * 0xd6e8feb86659fd93u;
}

class PieceIndex {
 public:
  PieceIndex() = default;
  // `ids` are ascending. Of equal pieces the lowest id is found; empty pieces are never found.
  PieceIndex(const PieceTable& pieces, std::span<const int32_t> ids);

  int32_t find(const PieceTable& pieces, std::string_view piece) const;  // -1: none
  size_t max_bytes() const { return max_bytes_; }                        // length of the longest piece

 private:
  struct Slot {
    uint32_t tag = 0;  // upper half of the piece's hash
    int32_t id = -1;   // -1: empty
  };
  std::vector<Slot> slots_{1};  // open addressing, a power of two, at most half full
  size_t max_bytes_ = 0;
};

}  // namespace kvass
