// What an encoder left for a sequence: the source rows, and each decoder layer's keys and values of them with the flag
// that says whether they are there. One block of memory, planned for the program's longest source and never grown.
// Sequences share it by reference (shared_ptr): a fork copies nothing of it. It is written by the first step after an
// encode and only read after that; until then it belongs to one caller.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/block.h"
#include "kvass/status.h"
#include "kvass/tiles.h"
#include "program/program.h"

namespace kvass {

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
  void set_initialised(CrossId id, int64_t filled);

  const TileShape& shape(CrossId id) const { return states_[static_cast<size_t>(id)].shape; }
  KeySegment segment(CrossId id);
  bool any_nonzero(CrossId id) const;  // a scan of all that the cache has room for
  DType dtype() const { return dtype_; }
  size_t bytes() const { return block_.bytes(); }

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

  Block block_;                // [source rows | keys and values of each cross cache]
  std::vector<State> states_;  // [crosses of the program]
  int64_t tiles_ = 0;
  int64_t rows_ = 0;
  DType dtype_ = DType::f32;
};

}  // namespace kvass
