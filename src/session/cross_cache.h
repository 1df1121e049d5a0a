// The encoder output of a sequence: the source rows, and each decoder layer's keys and values of them with the flag
// that says whether they are there. One block of memory, planned for the program's longest source and never grown.
// It is written by the first step after an encode, and only read once it is filled. Sequences share a filled one by
// reference (shared_ptr), so that a fork copies nothing of it; one that is not filled belongs to one sequence alone,
// and a fork gets a copy. So two sessions never write the same cache.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/block.h"
#include "kvass/status.h"
#include "kvass/tiles.h"
#include "program/program.h"

namespace kvass {

// What there is of it: what a snapshot says beside the bytes.
struct CrossFill {
  int64_t rows = 0;  // of the source; 0: none
  std::vector<int64_t>
      filled;  // [crosses of the program] keys that attention sees, −1: not initialised; no rows: empty
};

class CrossCache {
 public:
  // For a program with an encoder; keys and values are stored as `dtype`.
  static Result<std::shared_ptr<CrossCache>> create(const Program& program, DType dtype);
  static Result<size_t> plan_bytes(const Program& program, DType dtype);

  // A new source of `rows` rows, which the encoder writes next: nothing is initialised.
  void begin(int64_t rows);
  void clear() { begin(0); }

  int64_t rows() const { return rows_; }                               // of the source; 0: none
  float* source() { return reinterpret_cast<float*>(block_.data()); }  // [rows][source width of the program]

  bool initialised(CrossId id) const { return states_[static_cast<size_t>(id)].initialised; }
  int64_t filled(CrossId id) const { return states_[static_cast<size_t>(id)].filled; }  // keys that attention sees
  bool filled() const;  // there is a source, and every cache is initialised: nothing writes to it until the next encode
  void set_initialised(CrossId id, int64_t filled);

  const TileShape& shape(CrossId id) const { return states_[static_cast<size_t>(id)].shape; }
  KeySegment segment(CrossId id);
  bool any_nonzero(CrossId id) const;  // a scan of all that the cache has room for
  DType dtype() const { return dtype_; }
  size_t bytes() const { return block_.bytes(); }

  CrossFill fill() const;
  // The bytes of that, piece(bytes) in the order of memory: the source rows, then of each initialised cache the tiles
  // that its keys are in.
  template <class Piece>
  void for_each_held(Piece&& piece) const;
  // How many they are; an error where a program's cross caches cannot be filled like this.
  static Result<size_t> held_bytes(const Program& program, DType dtype, const CrossFill& fill);
  // As it was when it had this fill, whose for_each_held gave `held`; held_bytes has taken it.
  void restore(const CrossFill& fill, const uint8_t* held);
  void copy_from(const CrossCache& other);  // of the same program and storage type

 private:
  struct State {
    TileShape shape;
    size_t offset = 0;     // bytes from the start of the block
    bool scanned = false;  // the program looks for values that are not 0, so that they go when the flag does
    bool initialised = false;
    int64_t filled = 0;
  };
  struct Plan {
    std::vector<State> states;
    int64_t tiles = 0;
    size_t bytes = 0;
  };
  static Result<Plan> plan(const Program& program, DType dtype);
  // range(offset, bytes) of the block for everything that `fill` holds.
  template <class Range>
  void for_each_range(const CrossFill& fill, Range&& range) const;

  int64_t width_ = 0;          // of the source rows
  Block block_;                // [source rows | keys and values of each cross cache]
  std::vector<State> states_;  // [crosses of the program]
  int64_t tiles_ = 0;
  int64_t rows_ = 0;
  DType dtype_ = DType::f32;
};

template <class Range>
void CrossCache::for_each_range(const CrossFill& fill, Range&& range) const {
  if (fill.rows == 0) return;
  range(size_t{0}, static_cast<size_t>(fill.rows * width_) * sizeof(float));
  for (size_t i = 0; i < states_.size(); ++i) {
    const State& state = states_[i];
    if (fill.filled[i] < 0) continue;
    const auto tiles = static_cast<size_t>((fill.filled[i] + kTileKeys - 1) / kTileKeys);
    for (int64_t head = 0; head < state.shape.kv_heads; ++head) {
      range(state.offset + static_cast<size_t>(head * tiles_) * state.shape.tile_bytes(),
            tiles * state.shape.tile_bytes());
    }
  }
}

template <class Piece>
void CrossCache::for_each_held(Piece&& piece) const {
  for_each_range(fill(),
                 [&](size_t offset, size_t bytes) { piece(std::span<const uint8_t>(block_.data() + offset, bytes)); });
}

}  // namespace kvass
