#include "ops/attention/row_keys.h"

#include <algorithm>
#include <cstring>

namespace kvass {
namespace {

// The address of an element. It may be outside the part; it is then not read.
const uint8_t* at(const uint8_t* data, int64_t elements, DType dtype) {
  return reinterpret_cast<const uint8_t*>(reinterpret_cast<uintptr_t>(data) +
                                          static_cast<uintptr_t>(elements * static_cast<int64_t>(dtype_bytes(dtype))));
}

// Vectors of the compiler: the same source for every instruction set. The transposition has no arithmetic.
using U32x4 = uint32_t __attribute__((vector_size(16)));
using U32x8 = uint32_t __attribute__((vector_size(32)));
using U16x8 = uint16_t __attribute__((vector_size(16)));
using U16x16 = uint16_t __attribute__((vector_size(32)));

template <class Half>
Half load_half(const void* from) {
  Half x;
  std::memcpy(&x, from, sizeof x);
  return x;
}

// Transposes four channels of eight rows.
inline void transpose_8x4(const uint8_t* const* rows, int64_t byte, uint32_t* to) {
  U32x8 r[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[i] = __builtin_shufflevector(load_half<U32x4>(rows[i] + byte), load_half<U32x4>(rows[i + 4] + byte), 0, 1, 2, 3,
                                   4, 5, 6, 7);
  }
  U32x8 u[4];
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    u[2 * i] = __builtin_shufflevector(r[2 * i], r[2 * i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    u[2 * i + 1] = __builtin_shufflevector(r[2 * i], r[2 * i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const U32x8 even = __builtin_shufflevector(u[i], u[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    const U32x8 odd = __builtin_shufflevector(u[i], u[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    std::memcpy(to + 2 * i * kTileKeys, &even, sizeof even);
    std::memcpy(to + (2 * i + 1) * kTileKeys, &odd, sizeof odd);
  }
}

// Transposes eight channels of sixteen rows.
inline void transpose_16x8(const uint8_t* const* rows, int64_t byte, uint16_t* to) {
  U16x16 a[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    a[i] = __builtin_shufflevector(load_half<U16x8>(rows[i] + byte), load_half<U16x8>(rows[i + 8] + byte), 0, 1, 2, 3,
                                   4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  }
  U32x8 b[8];  // pairs of rows
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    b[2 * i] = reinterpret_cast<U32x8>(
        __builtin_shufflevector(a[2 * i], a[2 * i + 1], 0, 16, 1, 17, 2, 18, 3, 19, 8, 24, 9, 25, 10, 26, 11, 27));
    b[2 * i + 1] = reinterpret_cast<U32x8>(
        __builtin_shufflevector(a[2 * i], a[2 * i + 1], 4, 20, 5, 21, 6, 22, 7, 23, 12, 28, 13, 29, 14, 30, 15, 31));
  }
  using U64x4 = uint64_t __attribute__((vector_size(32)));
  U64x4 c[8];  // fours: c[4 g + 2 h + p] has channels 4 h + 2 p, 4 h + 2 p + 1 of rows 4 g … 4 g + 3
#pragma GCC unroll 2
  for (int g = 0; g < 2; ++g) {
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const U32x8 x = b[4 * g + h];
      const U32x8 y = b[4 * g + 2 + h];
      c[4 * g + 2 * h] = reinterpret_cast<U64x4>(__builtin_shufflevector(x, y, 0, 8, 1, 9, 4, 12, 5, 13));
      c[4 * g + 2 * h + 1] = reinterpret_cast<U64x4>(__builtin_shufflevector(x, y, 2, 10, 3, 11, 6, 14, 7, 15));
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const U64x4 even = __builtin_shufflevector(c[i], c[i + 4], 0, 4, 2, 6);
    const U64x4 odd = __builtin_shufflevector(c[i], c[i + 4], 1, 5, 3, 7);
    std::memcpy(to + 2 * i * kTileKeys, &even, sizeof even);
    std::memcpy(to + (2 * i + 1) * kTileKeys, &odd, sizeof odd);
  }
}

template <class T>
void transpose_plain(const uint8_t* const* rows, int64_t channel_stride, int64_t begin, int64_t end, int64_t first,
                     int64_t last, T* to) {
  for (int64_t i = begin; i < end; ++i) {
    const T* row = reinterpret_cast<const T*>(rows[i]);
    for (int64_t d = first; d < last; ++d) to[d * kTileKeys + i] = row[d * channel_stride];
  }
}

template <class T>
void copy_plain(const uint8_t* row, int64_t channel_stride, int64_t head_dim, T* to) {
  const T* from = reinterpret_cast<const T*>(row);
  for (int64_t d = 0; d < head_dim; ++d) to[d] = from[d * channel_stride];
}

}  // namespace

void transpose_rows(const uint8_t* const* rows, int64_t channel_stride, int64_t begin, int64_t end, int64_t head_dim,
                    DType dtype, void* to) {
  const int64_t blocks = channel_stride == 1 ? head_dim / 8 * 8 : 0;
  if (dtype == DType::f32) {
    float* out = static_cast<float*>(to);
    for (int64_t i = begin / 8 * 8; i < end; i += 8) {
      for (int64_t d = 0; d < blocks; d += 4) {
        transpose_8x4(rows + i, d * 4, reinterpret_cast<uint32_t*>(out) + d * kTileKeys + i);
      }
    }
    transpose_plain(rows, channel_stride, begin, end, blocks, head_dim, out);
  } else {
    uint16_t* out = static_cast<uint16_t*>(to);
    for (int64_t i = begin / 16 * 16; i < end; i += 16) {
      for (int64_t d = 0; d < blocks; d += 8) transpose_16x8(rows + i, d * 2, out + d * kTileKeys + i);
    }
    transpose_plain(rows, channel_stride, begin, end, blocks, head_dim, out);
  }
}

AttentionTile read_row_tile(const void* source, int64_t kv_head, int64_t tile, uint64_t lanes, void* scratch) {
  const RowKeys& keys = *static_cast<const RowKeys*>(source);
  const DType dtype = keys.dtype;
  const size_t key_bytes = static_cast<size_t>(keys.padded_dim * kTileKeys) * dtype_bytes(dtype);
  const int64_t first = keys.first_row + tile * kTileKeys;  // the row of lane 0
  const int64_t begin = __builtin_ctzll(lanes);
  const int64_t end = kTileKeys - __builtin_clzll(lanes);

  // The row of every lane. Lanes outside [begin, end) have the nearest row, so that blocks of lanes need no special
  // case.
  const uint8_t* k_rows[kTileKeys];
  const uint8_t* v_rows[kTileKeys];
  const int64_t border = keys.parts[0].rows;
  for (int64_t lane = begin; lane < end; ++lane) {
    const int64_t row = first + lane;
    const RowKeys::Part& part = keys.parts[row < border ? 0 : 1];
    const int64_t inside = row < border ? row : row - border;
    k_rows[lane] = at(part.k, kv_head * part.k_strides.head + inside * part.k_strides.row, dtype);
    v_rows[lane] = at(part.v, kv_head * part.v_strides.head + inside * part.v_strides.row, dtype);
  }
  for (int64_t lane = 0; lane < begin; ++lane) k_rows[lane] = k_rows[begin];
  for (int64_t lane = end; lane < kTileKeys; ++lane) k_rows[lane] = k_rows[end - 1];

  const auto part_of = [&](int64_t lane) -> const RowKeys::Part& { return keys.parts[first + lane < border ? 0 : 1]; };
  const RowKeys::Part& part = part_of(begin);
  const bool one_part = &part == &part_of(end - 1);
  if (one_part || part_of(begin).k_strides.channel == part_of(end - 1).k_strides.channel) {
    transpose_rows(k_rows, part.k_strides.channel, begin, end, keys.head_dim, dtype, scratch);
  } else {
    const int64_t middle = border - first;
    const int64_t other = part_of(end - 1).k_strides.channel;
    for (int64_t lane = begin; lane < end; ++lane) {
      const int64_t stride = lane < middle ? part.k_strides.channel : other;
      if (dtype == DType::f32) {
        transpose_plain(k_rows, stride, lane, lane + 1, 0, keys.head_dim, static_cast<float*>(scratch));
      } else {
        transpose_plain(k_rows, stride, lane, lane + 1, 0, keys.head_dim, static_cast<uint16_t*>(scratch));
      }
    }
  }
  std::memset(static_cast<uint8_t*>(scratch) + static_cast<size_t>(keys.head_dim * kTileKeys) * dtype_bytes(dtype), 0,
              static_cast<size_t>((keys.padded_dim - keys.head_dim) * kTileKeys) * dtype_bytes(dtype));

  AttentionTile result;
  result.k = scratch;
  if (one_part && part.v_strides.channel == 1 && keys.padded_dim == keys.head_dim) {
    result.v = at(v_rows[begin], -begin * part.v_strides.row, dtype);
    result.v_stride = part.v_strides.row;
    if (result.v_stride == keys.head_dim) result.ahead_of_v = static_cast<const uint8_t*>(result.v);
    if (part.k_strides.row == keys.head_dim && part.k_strides.channel == 1) {
      result.ahead_of_k = at(k_rows[begin], (kTileKeys - begin) * keys.head_dim, dtype);
    }
    return result;
  }
  uint8_t* values = static_cast<uint8_t*>(scratch) + key_bytes;
  const size_t row_bytes = static_cast<size_t>(keys.padded_dim) * dtype_bytes(dtype);
  for (int64_t lane = begin; lane < end; ++lane) {
    uint8_t* to = values + static_cast<size_t>(lane) * row_bytes;
    std::memset(to, 0, row_bytes);
    const int64_t stride = part_of(lane).v_strides.channel;
    if (dtype == DType::f32) {
      copy_plain(v_rows[lane], stride, keys.head_dim, reinterpret_cast<float*>(to));
    } else {
      copy_plain(v_rows[lane], stride, keys.head_dim, reinterpret_cast<uint16_t*>(to));
    }
  }
  result.v = values;
  result.v_stride = keys.padded_dim;
  return result;
}

}  // namespace kvass
