// Writes a chunk's keys and values into a layer's cache: keys are rotated to the row's own position on the way (where
// there are tables; k itself stays as it is), both are rounded once to the storage type (f16 and bf16 to nearest even;
// f16 saturating at ±65,504; q8 as kernels/quantise_q8), and each goes to the slot of its position.
#pragma once

#include <cstdint>
#include <span>

#include "base/cpu.h"
#include "base/thread_pool.h"
#include "kvass/tiles.h"

namespace kvass {

// Consecutive rows of one sequence: row first_row + i stands at position start + i.
struct CacheWriteRun {
  int64_t first_row = 0;
  int64_t rows = 0;
  int64_t start = 0;
  KeySegment sink;
  KeySegment body;
};

struct CacheWriteArgs {
  const float* k = nullptr;    // [rows][kv_heads * head_dim]
  const float* v = nullptr;    // [rows][kv_heads * head_dim]
  const float* cos = nullptr;  // [rows][head_dim / 2] of the rows' positions; null: k is taken as it is
  const float* sin = nullptr;  // [rows][head_dim / 2]
  bool interleaved = false;    // rotary pairs are neighbours, not halves
  TileShape shape;
  std::span<const CacheWriteRun> runs;
};

void cache_write(const CacheWriteArgs& args, ThreadPool& pool, Isa isa);

}  // namespace kvass
