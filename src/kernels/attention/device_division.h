// How the work of a call of attention on a device is cut into blocks of threads; in no bit of the result. Host code,
// the same numbers for the scratch that is planned and for the launch.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/attention/device.h"

namespace kvass {

struct AttentionDivision {
  int block_rows = 0;     // rows of a block of threads
  int cell_rows = 0;      // of these, as many as there can be
  int64_t blocks = 0;     // of rows, a run and KV head
  int64_t items = 0;      // runs · KV heads · blocks
  int64_t spans = 0;      // of sink keys and of others
  bool by_spans = false;  // a block takes one span; otherwise all of its rows' spans
  int padded = 0;         // head_dim, the next multiple of 16
};

// Items for each processor from which on every block takes all spans of its rows.
inline constexpr int64_t kItemsPerProcessor = 2;
// Most bytes of partials: beyond them a block takes all spans, however few blocks there are.
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

// Rows of a block of attention_exact: as few as there are, so that none is computed for nothing.
inline AttentionDivision exact_division(const DeviceAttentionParams& p) {
  const int64_t rows = p.most_rows * (p.heads / p.kv_heads);
  return divide_attention(p, rows <= 1 ? 1 : rows <= 4 ? 4 : 8);
}

}  // namespace kvass
