// Reads the caller's keys and values, row-major and strided, as the tiles of attention. A tile's keys are transposed
// into scratch when the tile is needed; its values are read in place. A cache is never copied. Views only; owns
// nothing.
#pragma once

#include <cstdint>

#include "kernels/attention/attention.h"

namespace kvass {

// One sequence: the rows of parts[0] followed by those of parts[1].
struct RowKeys {
  struct Strides {
    int64_t head = 0, row = 0, channel = 0;  // elements
  };
  struct Part {
    const uint8_t* k = nullptr;  // [kv_heads][rows][head_dim], strided
    const uint8_t* v = nullptr;
    Strides k_strides;
    Strides v_strides;
    int64_t rows = 0;
  };
  Part parts[2];
  DType dtype = DType::f32;
  int64_t head_dim = 0;    // channels of a row
  int64_t padded_dim = 0;  // channels of a tile: head_dim rounded up to a multiple of 16, filled with zeros
  int64_t first_row = 0;   // the row at lane 0 of tile 0
};

// An AttentionTileReader; `source` is a RowKeys.
AttentionTile read_row_tile(const void* source, int64_t kv_head, int64_t tile, uint64_t lanes, void* scratch);

// Rows to columns: element d of rows[i] goes to to[d * 64 + i], i < 64, d < head_dim.
void transpose_rows(const uint8_t* const* rows, int64_t channel_stride, int64_t begin, int64_t end, int64_t head_dim,
                    DType dtype, void* to);

}  // namespace kvass
