// Small matrices that the 32 lanes of a warp hold together, and their product on tensor cores. For fast kernels only:
// the device chooses the order of the sums. With g = lane / 4 and t = lane mod 4, two 16-bit numbers in a word:
//     A [16][16]: a[0] = (g, 2t…), a[1] = (g + 8, 2t…), a[2] = (g, 2t + 8…), a[3] = (g + 8, 2t + 8…)
//     B [16][8]:  b[0] = (2t…, g), b[1] = (2t + 8…, g)
//     C [16][8]:  c[0], c[1] = (g, 2t…), c[2], c[3] = (g + 8, 2t…), float32
// The emulation sums in another order than a device. Not for AMD: its matrix cores have other layouts.
#pragma once

#include "device/code.h"

#if !defined(__HIPCC__)

#if defined(KVASS_EMULATE_CUDA)
#include <cmath>
#endif

namespace kvass::KVASS_DEVICE {

#if defined(KVASS_EMULATE_CUDA)

// Loads four 8 × 8 matrices. Lane i passes the address of row i mod 8 of matrix i / 8: eight 16-bit numbers in shared
// memory, aligned to 16 bytes. Every lane gets numbers 2t, 2t + 1 of row g of each matrix; transposed: of column g.
inline void load_matrices(uint32_t (&to)[4], const void* row, bool transposed) {
  exchange(Meeting::matrix, &row, sizeof row);
  const int g = lane_index() / 4, t = lane_index() % 4;
  for (int matrix = 0; matrix < 4; ++matrix) {
    uint16_t two[2];
    for (int i = 0; i < 2; ++i) {
      const int from_row = transposed ? 2 * t + i : g, from_column = transposed ? g : 2 * t + i;
      two[i] = exchanged_value<const uint16_t*>(matrix * 8 + from_row)[from_column];
    }
    std::memcpy(&to[matrix], two, 4);
  }
}

struct MatrixOperands {
  uint32_t a[4], b[2];
};

// c += a · b.
template <class Load>
void multiply_emulated(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, Load&& load) {
  const MatrixOperands mine{{a[0], a[1], a[2], a[3]}, {b0, b1}};
  exchange(Meeting::matrix, &mine, sizeof mine);
  const int g = lane_index() / 4, t = lane_index() % 4;
  // Rows g and g + 8 of A, columns 2t and 2t + 1 of B.
  float rows[2][16], columns[2][16];
  for (int k = 0; k < 16; k += 2) {
    const auto from_a = exchanged_value<MatrixOperands>(g * 4 + k % 8 / 2);
    for (int i = 0; i < 2; ++i) {
      const auto from_b = exchanged_value<MatrixOperands>((2 * t + i) * 4 + k % 8 / 2);
      for (int half = 0; half < 2; ++half) {
        rows[i][k + half] = load(static_cast<uint16_t>(from_a.a[i + k / 8 * 2] >> (16 * half)));
        columns[i][k + half] = load(static_cast<uint16_t>(from_b.b[k / 8] >> (16 * half)));
      }
    }
  }
  for (int i = 0; i < 4; ++i) {
    for (int k = 0; k < 16; ++k) c[i] += rows[i / 2][k] * columns[i % 2][k];
  }
}
inline void multiply_f16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  multiply_emulated(c, a, b0, b1, [](uint16_t bits) { return kvass::f16_to_float(bits); });
}
inline void multiply_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  multiply_emulated(c, a, b0, b1, [](uint16_t bits) { return kvass::bf16_to_float(bits); });
}
inline float fast_exp2(float x) { return std::exp2(x); }
inline uint32_t pack_f16(float low, float high) {
  return static_cast<uint32_t>(kvass::float_to_f16(high)) << 16 | kvass::float_to_f16(low);
}
inline uint32_t pack_bf16(float low, float high) {
  return static_cast<uint32_t>(kvass::float_to_bf16(high)) << 16 | kvass::float_to_bf16(low);
}

#else

KVASS_DEVICE_FN void load_matrices(uint32_t (&to)[4], const void* row, bool transposed) {
  const auto from = static_cast<unsigned>(__cvta_generic_to_shared(row));
  if (transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from));
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from));
  }
}
KVASS_DEVICE_FN void multiply_f16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
KVASS_DEVICE_FN void multiply_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
KVASS_DEVICE_FN float fast_exp2(float x) {
  float y;
  asm("ex2.approx.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}
KVASS_DEVICE_FN uint32_t pack_f16(float low, float high) {
  uint32_t y;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;\n" : "=r"(y) : "f"(high), "f"(low));
  return y;
}
KVASS_DEVICE_FN uint32_t pack_bf16(float low, float high) {
  uint32_t y;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(y) : "f"(high), "f"(low));
  return y;
}

#endif

}  // namespace kvass::KVASS_DEVICE

#endif
