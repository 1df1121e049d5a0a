// The merging that both kinds of tokenizer share: a linked list of symbols. The adjacent pair with the lowest rank, the
// leftmost of equals, is merged until no pair has a rank. O(n log n) in the symbols. The caller's function says what a
// pair becomes. A buffer holds one piece of text at a time; reuse it to reuse its memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

namespace kvass {

struct MergeSymbol {
  static constexpr uint32_t kNone = UINT32_MAX;
  uint32_t begin, length;   // bytes of the text; length 0: merged into an earlier symbol
  uint32_t previous, next;  // symbols; kNone at the ends
  int32_t id;               // the token, if the caller knows it
};

struct MergeResult {
  uint32_t rank = 0;
  int32_t id = -1;  // -1: the pair does not merge
};

class MergeBuffer {
 public:
  // Offsets have 32 bits: callers split a text after this many symbols if it has no other split.
  static constexpr size_t kMaxSymbols = size_t{1} << 29;

  void clear() { symbols_.clear(); }
  size_t size() const { return symbols_.size(); }
  void add(uint32_t length, int32_t id) {
    const auto index = static_cast<uint32_t>(symbols_.size());
    uint32_t begin = 0, previous = MergeSymbol::kNone;
    if (index > 0) {
      symbols_.back().next = index;
      begin = symbols_.back().begin + symbols_.back().length;
      previous = index - 1;
    }
    symbols_.push_back({begin, length, previous, MergeSymbol::kNone, id});
  }

  // `pair(left, right)` -> MergeResult for two neighbouring symbols; it depends on their bytes and ids only.
  template <class Pair>
  void merge(Pair&& pair) {
    heap_.clear();
    for (uint32_t i = 0; i + 1 < symbols_.size(); ++i) note(i, pair);
    std::make_heap(heap_.begin(), heap_.end(), std::greater<>());
    const auto add_noted = [&](uint32_t left) {
      const size_t before = heap_.size();
      note(left, pair);
      if (heap_.size() > before) std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
    };
    while (!heap_.empty()) {
      const Candidate best = heap_.front();
      std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
      heap_.pop_back();
      const auto at = static_cast<uint32_t>(best.key);
      MergeSymbol& left = symbols_[at];
      // Symbols only grow: a heap entry is still valid if its pair spans the same number of bytes.
      if (left.length == 0 || left.next == MergeSymbol::kNone) continue;
      MergeSymbol& right = symbols_[left.next];
      if (left.length + right.length != best.length) continue;
      left.length = best.length;
      left.id = best.id;
      left.next = right.next;
      right.length = 0;
      if (left.next != MergeSymbol::kNone) {
        symbols_[left.next].previous = at;
        add_noted(at);
      }
      if (left.previous != MergeSymbol::kNone) add_noted(left.previous);
    }
  }

  // Visits the remaining symbols in order.
  template <class Visit>
  void for_each(Visit&& visit) const {
    if (symbols_.empty()) return;
    for (uint32_t i = 0; i != MergeSymbol::kNone; i = symbols_[i].next) visit(symbols_[i]);
  }

 private:
  struct Candidate {
    uint64_t key;     // rank, then index of the left symbol: the smallest key is merged first
    uint32_t length;  // bytes of the two symbols together
    int32_t id;
    bool operator>(const Candidate& other) const { return key > other.key; }
  };
  template <class Pair>
  void note(uint32_t left, Pair&& pair) {
    const MergeSymbol& symbol = symbols_[left];
    const MergeSymbol& next = symbols_[symbol.next];
    const MergeResult merged = pair(symbol, next);
    if (merged.id < 0) return;
    heap_.push_back({uint64_t{merged.rank} << 32 | left, symbol.length + next.length, merged.id});
  }

  std::vector<MergeSymbol> symbols_;
  std::vector<Candidate> heap_;
};

}  // namespace kvass
