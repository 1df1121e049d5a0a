// The packed weight format: what the bytes of a panel mean, the same on every instruction set. Not how they are packed
// (ops/linear/weight.h) nor how they are multiplied (linear.h, generic.h). No state.
//
// A weight matrix W [n outputs][k inputs] is ceil(n / 16) panels of 16 outputs; a panel's 16 lanes are 16 different
// outputs, so that each lane is one chain of docs/numerics.md, 2. The last panel is padded with zero weights. Panels
// follow each other without gaps; a panel is a multiple of 64 bytes. `panel_at` says where the parts of a panel lie.
//
// Float types: [k][16] elements in their own type.
//
// Quantised types: a row of *cells*, each a header of scales and then `cell_blocks` blocks of 32 k's. A type of
// 32-blocks has cells of 2 blocks (the last one's second block is unused when k / 32 is odd); any other type's cell is
// a block of its file: a superblock of 256, or the 64 of NVFP4. The headers, by `Scales`:
//     f16        d f16 [2][16]                                                                 w = d q
//                with a minimum d f16 [2][16], m f16 [2][16]                                   w = d q + m
//     bf16       d bf16 [2][16]                                                                w = d q
//     e4m3       sc u8 [4][16], a scale per 16 k's: 4 bits of exponent, 3 of mantissa          w = (half of sc) q
//     k_bytes    d f16 [16], 32 bytes of zeros, sc i8 [16][16] (a scale per 16 k's)            w = (d sc) q
//                with a minimum d f16 [16], dmin f16 [16], sc u8 [8][16], m u8 [8][16]         w = (d sc) q - dmin m
//     k_nibbles  d f16 [16], dmin f16 [16], u8 [16][16]: sc low, m high, both per 16 k's       w = (d sc) q - dmin m
//     bytes      d f32 [16], sc i8 [256 / scale_block][16]                                     w = (d sc) q
//     one        d f32 [16]                                                                    w = d q
// The quants of a block are 8 groups of 4 k's; a group is 64 bytes [16 outputs][4 k], one int32 an output.
//     8 bits   8 x 64 bytes: group g, signed
//     4 bits   4 x 64 bytes: group g in the low nibbles, group g + 4 in the high ones
//     2 bits   2 x 64 bytes: of groups 0 to 3 (bits 2 g, 2 g + 1), and of 4 to 7
//     5 and 3 bits   as 4 or 2 bits, then 64 bytes whose bit g of byte (output, k) is the highest bit of group g
//     6 bits   as 4 bits, then bits 4 and 5 as 2 bits
// Quants are stored as the source stores them: q = stored - offset; with `values`, q = values[stored].
//
// Q8_0_split is Q8_0 for a matrix of which mostly the largest outputs are asked for (screen.h): first the panels
// of all high nibbles, by which most outputs can be ruled out, then the panels of all low ones.
//     high panel   `errors` u8 [k / 32][16], filled up to a multiple of 64: four times the Euclidean norm of
//                  q - 16 high - 7.5 over a block, rounded up, with high = nibble - 8; then cells as of Q4_0, of the
//                  nibbles (q + 128) >> 4
//     low panel    [k / 32] blocks of 4 x 64 bytes, the nibbles q & 15 as 4 bits lie
#pragma once

#include <cstdint>

#include "kernels/linear/panel_kinds.h"

namespace kvass {

enum class WeightType : uint8_t {
#define KVASS_WEIGHT_TYPE(name, number, elements, bytes, format) name,
#define KVASS_PACKED_TYPE(name, source, format) name,
#include "base/weight_types.inc"
};

KVASS_PANEL_INLINE constexpr PanelFormat panel_format(WeightType type) {
  switch (type) {
#define KVASS_WEIGHT_TYPE(name, number, elements, bytes, format) \
  case WeightType::name:                                         \
    return format;
#define KVASS_PACKED_TYPE(name, source, format) KVASS_WEIGHT_TYPE(name, 0, 0, 0, format)
#include "base/weight_types.inc"
  }
  return {};
}

// What types of one format may differ in.
KVASS_PANEL_INLINE constexpr PanelValues panel_values(WeightType type) { return panel_format(type).values; }

// The type for which kernels are instantiated: the first of those whose panels differ from `type`'s in the values
// alone.
KVASS_PANEL_INLINE constexpr WeightType kernel_type(WeightType type) {
  PanelFormat wanted = panel_format(type);
  if (!wanted.quantised) return type;
  wanted.values = {};
  for (int i = 0; i < static_cast<int>(type); ++i) {
    PanelFormat format = panel_format(static_cast<WeightType>(i));
    format.values = {};
    if (format == wanted) return static_cast<WeightType>(i);
  }
  return type;
}

// body.template operator()<type>() for a type that is known at run time: how every conversion finds its instantiation;
// and <kernel_type(type)>, how every kernel does.
template <class Body>
KVASS_PANEL_INLINE constexpr decltype(auto) for_weight_type(WeightType type, Body&& body) {
  switch (type) {
#define KVASS_WEIGHT_TYPE(name, number, elements, bytes, format) \
  case WeightType::name:                                         \
    return body.template operator()<WeightType::name>();
#define KVASS_PACKED_TYPE(name, source, format) KVASS_WEIGHT_TYPE(name, 0, 0, 0, format)
#include "base/weight_types.inc"
  }
  __builtin_unreachable();
}

template <class Body>
KVASS_PANEL_INLINE constexpr decltype(auto) for_kernel_type(WeightType type, Body&& body) {
  switch (type) {
#define KVASS_WEIGHT_TYPE(name, number, elements, bytes, format) \
  case WeightType::name:                                         \
    return body.template operator()<kernel_type(WeightType::name)>();
#define KVASS_PACKED_TYPE(name, source, format) KVASS_WEIGHT_TYPE(name, 0, 0, 0, format)
#include "base/weight_types.inc"
  }
  __builtin_unreachable();
}

// Byte offsets inside a cell's header.
inline constexpr int kMinimumOffset = 64;       // m of Q4_1, Q5_1
inline constexpr int kSuperMinimumOffset = 32;  // dmin
inline constexpr int kSubScaleOffset = 64;      // sc
inline constexpr int kSubMinimumOffset = 192;   // m of Q4_K, Q5_K

// A scale of e4m3 is this times the float32 whose exponent and first bits of mantissa it is: 2^120, halved.
inline constexpr float kE4m3Unit = 0x1p119f;

KVASS_PANEL_INLINE constexpr int64_t panel_count(int64_t n) { return (n + kPanelOutputs - 1) / kPanelOutputs; }

KVASS_PANEL_INLINE constexpr int64_t cells_bytes(const PanelFormat& format, int64_t k) {
  return (k / kBlock + format.cell_blocks - 1) / format.cell_blocks * format.cell_bytes();
}

KVASS_PANEL_INLINE constexpr int64_t errors_bytes(const PanelFormat& format, int64_t k) {
  return format.split ? (k / kBlock * kPanelOutputs + 63) / 64 * 64 : 0;
}

// Of a panel; where quants are split, of a high panel and of a low one.
KVASS_PANEL_INLINE constexpr int64_t panel_bytes(WeightType type, int64_t k) {
  const PanelFormat format = panel_format(type);
  if (!format.quantised) return (k * (format.bits / 8) * kPanelOutputs + 63) / 64 * 64;
  return errors_bytes(format, k) + cells_bytes(format, k);
}
KVASS_PANEL_INLINE constexpr int64_t low_panel_bytes(WeightType type, int64_t k) {
  const PanelFormat format = panel_format(type);
  return format.split ? k / kBlock * format.block_bytes : 0;
}

KVASS_PANEL_INLINE constexpr int64_t matrix_bytes(WeightType type, int64_t n, int64_t k) {
  return panel_count(n) * (panel_bytes(type, k) + low_panel_bytes(type, k));
}

struct PanelParts {
  const uint8_t* cells;  // or elements, of the float types
  const uint8_t* low;    // the blocks of low nibbles, where they are apart, and
  const uint8_t* errors;
  PanelValues values = {};  // where the format has them
};

KVASS_PANEL_INLINE constexpr PanelParts panel_at(WeightType type, const uint8_t* matrix, int64_t n, int64_t k,
                                                 int64_t index) {
  const PanelFormat format = panel_format(type);
  const int64_t bytes = panel_bytes(type, k);
  const uint8_t* panel = matrix + index * bytes;
  if (!format.split) return {panel, nullptr, nullptr, format.values};
  const uint8_t* low = matrix + panel_count(n) * bytes + index * low_panel_bytes(type, k);
  return {panel + errors_bytes(format, k), low, panel};
}

}  // namespace kvass
