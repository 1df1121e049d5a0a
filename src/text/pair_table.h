// The merges that a vocabulary lists: pairs of tokens, each with its rank and the token that it becomes. Read-only once
// filled.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "text/merge_buffer.h"
#include "text/piece_index.h"

namespace kvass {

class PairTable {
 public:
  explicit PairTable(size_t merges = 0) : slots_(std::bit_ceil(2 * merges + 2)) {}

  // At most as many as were announced. Of equal pairs the first counts.
  void add(int32_t left, int32_t right, MergeResult merged) {
    Slot& slot = slots_[at(left, right)];
    if (slot.merged.id < 0) slot = {left, right, merged};
  }
  MergeResult find(int32_t left, int32_t right) const {  // id -1: no such pair, or a symbol without a token
    return left >= 0 && right >= 0 ? slots_[at(left, right)].merged : MergeResult{};
  }

 private:
  struct Slot {
    int32_t left = -1, right = -1;
    MergeResult merged;  // id -1: empty
  };

  // The pair's slot, or the empty slot for it.
  size_t at(int32_t left, int32_t right) const {
    const uint64_t hash = mix_hash(static_cast<uint32_t>(left), static_cast<uint32_t>(right)) >> 32;
    for (size_t at = hash & (slots_.size() - 1);; at = (at + 1) & (slots_.size() - 1)) {
      const Slot& slot = slots_[at];
      if (slot.merged.id < 0 || (slot.left == left && slot.right == right)) return at;
    }
  }

  std::vector<Slot> slots_;  // open addressing, a power of two, at most half full
};

}  // namespace kvass
