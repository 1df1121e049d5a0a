// What can be watched while the ops of a program run: the values of every op, when it ran and how often, and the
// softmax weights of cross-attention.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "program/program.h"

namespace kvass {

// What a probe sees after each op, in program order: its outputs as they are; in a branch, the rows of the sequences
// that took it. Views of keys and values are not shown. For tests and for `verify`.
struct ProbeView {
  const Op& op;
  ValueId value;
  const float* data;  // [rows][width]
  int64_t rows;
  int64_t width;
};

// When an op ran, in nanoseconds of the steady clock. That of a cond encloses those of its branches.
struct OpTime {
  int32_t op = 0;  // index in the program
  int64_t begin = 0;
  int64_t end = 0;
};

// Softmax weights of cross-attention, for word times: of which cross caches (their index is the decoder layer's) and
// heads, and where they go. Memory is the caller's; they are computed only when they are asked for.
struct CrossHead {
  CrossId cross = 0;
  int64_t head = 0;
};
struct CrossWeights {
  std::span<const CrossHead> heads;
  float* out = nullptr;  // [heads][rows of the session's options][most source rows of the program]
};

struct Observer {
  std::function<void(const ProbeView&)> probe;
  std::vector<OpTime>* timeline = nullptr;  // each op that has run is added; null: none is
  std::vector<int64_t> executed;  // [ops] how often each has run; in a branch, once for each time it was taken
};

}  // namespace kvass
