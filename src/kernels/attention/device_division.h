// Divides the work of an attention call on a device among blocks of threads; it does not change a bit. Host code: the
// planned scratch and the launch use the same numbers.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/attention/device.h"

namespace kvass {

struct AttentionDivision {
  int block_rows = 0;     // rows of a block of threads
  int cell_rows = 0;      // the same, but at most the rows of the longest run
  int64_t blocks = 0;     // blocks of rows for each run and KV head
  int64_t items = 0;      // runs · KV heads · blocks
  int64_t spans = 0;      // spans of sink keys and of other keys
  bool by_spans = false;  // true: a block takes one span; false: all spans of its rows
  int padded = 0;         // head_dim, rounded up to a multiple of 16
};

// From this number of items for each processor on, every block takes all spans of its rows.
inline constexpr int64_t kItemsPerProcessor = 2;
// Limit for the bytes of partials: above it a block takes all spans, even if there are few blocks.
inline constexpr int64_t kPartialBytes = int64_t{128} << 20;

inline AttentionDivision divide_attention(const DeviceAttentionParams& p, int block_rows) {
  AttentionDivision division;
  const int64_t rows = p.most_rows * (p.heads / p.kv_heads);
  division.block_rows = block_rows;
  division.cell_rows = static_cast<int>(std::min<int64_t>(block_rows, rows));
  division.padded = static_cast<int>((p.head_dim + 15) / 16 * 16);
  division.blocks = (rows + block_rows - 1) / block_rows;
  division.items = p.run_count * p.kv_heads * division.blocks;
  division.spans = p.sink_spans + p.body_spans;
  const int64_t bytes = division.items * division.cell_rows * division.spans * (division.padded + 16) * 4;
  division.by_spans =
      division.spans > 1 && division.items < kItemsPerProcessor * p.processors && bytes <= kPartialBytes;
  return division;
}

// The division for attention_exact. A block has few rows if there are few, so that no row is computed in vain.
inline AttentionDivision exact_division(const DeviceAttentionParams& p) {
  const int64_t rows = p.most_rows * (p.heads / p.kv_heads);
  return divide_attention(p, rows <= 1 ? 1 : rows <= 4 ? 4 : 8);
}

}  // namespace kvass
