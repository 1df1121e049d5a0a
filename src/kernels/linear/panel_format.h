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
// 32-blocks has cells of 2 blocks (the last one's second block is unused when k / 32 is odd), a K-quant's cell is its
// superblock of 256.
//     header, no minimum   d f16 [2][16]
//     header, minimum      d f16 [2][16], m f16 [2][16]                                          w = d q + m
//     header, Q4_K, Q5_K   d f16 [16], dmin f16 [16], sc u8 [8][16], m u8 [8][16]                 w = (d sc) q - dmin m
//     header, Q6_K         d f16 [16], 32 bytes of zeros, sc i8 [16][16] (a scale per 16 k's)     w = (d sc) q
// The quants of a block are 8 groups of 4 k's; a group is 64 bytes [16 outputs][4 k], one int32 an output.
//     8 bits   8 x 64 bytes: group g, signed
//     4 bits   4 x 64 bytes: group g in the low nibbles, group g + 4 in the high ones
//     5 bits   as 4 bits, then 64 bytes whose bit g of byte (output, k) is the fifth bit of group g
//     6 bits   as 4 bits, then 2 x 64 bytes with bits 4 and 5: of groups 0 to 3 (bits 2 g, 2 g + 1), and of 4 to 7
// Quants are stored as the source stores them: q = stored - offset; with 4 bits and `values`, q = values[stored].
//
// Q8_0_split is Q8_0 for a matrix of which mostly the largest outputs are asked for (screen.h): first the panels
// of all high nibbles, by which most outputs can be ruled out, then the panels of all low ones.
//     high panel   `errors` u8 [k / 32][16], filled up to a multiple of 64: four times the Euclidean norm of
//                  q - 16 high - 7.5 over a block, rounded up, with high = nibble - 8; then cells as of Q4_0, of the
//                  nibbles (q + 128) >> 4
//     low panel    [k / 32] blocks of 4 x 64 bytes, the nibbles q & 15 as 4 bits lie
#pragma once

#include <cstdint>

// Never a function of its own: a copy compiled for one instruction set must not serve the others.
#define KVASS_PANEL_INLINE [[gnu::always_inline]] inline

namespace kvass {

enum class WeightType : uint8_t {
#define KVASS_WEIGHT_TYPE(name, number, elements, bytes, format) name,
#define KVASS_PACKED_TYPE(name, source, format) name,
#include "base/weight_types.inc"
};

inline constexpr int kPanelOutputs = 16;
inline constexpr int kBlock = 32;       // k's under one activation scale, and in one block of quants
inline constexpr int kGroupBytes = 64;  // [16 outputs][4 k]

// What stored quants of 4 bits mean.
struct PanelValues {
  int8_t of[16] = {};
  // `count` of them from `first` on as the bytes of a number.
  KVASS_PANEL_INLINE constexpr uint64_t bytes(int first, int count) const {
    uint64_t out = 0;
    for (int i = 0; i < count; ++i) out |= uint64_t{static_cast<uint8_t>(of[first + i])} << 8 * i;
    return out;
  }
};

struct PanelFormat {
  int bits;    // of a stored quant; 32 or 16 for the float types
  int offset;  // what a stored quant is too large by
  bool quantised;
  bool minimum;      // has a minimum's term
  bool k_quant;      // 8-bit sub-scales under f16 super-scales
  int scale_block;   // k's under one weight scale: 32 or 16; 0 for the float types
  int cell_blocks;   // blocks in a cell
  int header_bytes;  // of a cell
  int block_bytes;   // of the quants of a block; where they are split, of either half of their bits
  bool split = false;
  bool has_values = false;
  PanelValues values = {};
  // Whether quants come out of a panel as signed bytes, not as unsigned ones that are `offset` too large.
  KVASS_PANEL_INLINE constexpr bool signed_bytes() const { return bits == 8 || has_values; }
  KVASS_PANEL_INLINE constexpr int cell_bytes() const { return header_bytes + cell_blocks * block_bytes; }
  KVASS_PANEL_INLINE constexpr int k_multiple() const { return !quantised ? 1 : k_quant ? 256 : kBlock; }
};

// The formats of the rows of weight_types.inc. An offset of kWithMinimum: none, but a minimum.
inline constexpr int kWithMinimum = -1;
KVASS_PANEL_INLINE constexpr PanelFormat float_panels(int bits) { return {bits, 0, false, false, false, 0, 0, 0, 0}; }
KVASS_PANEL_INLINE constexpr PanelFormat block_panels(int bits, int offset) {
  const bool minimum = offset == kWithMinimum;
  return {bits, minimum ? 0 : offset, true, minimum, false, kBlock, 2, minimum ? 128 : 64, bits * kGroupBytes};
}
KVASS_PANEL_INLINE constexpr PanelFormat superblock_panels(int bits, int offset, int scale_block) {
  const bool minimum = offset == kWithMinimum;
  return {bits, minimum ? 0 : offset, true, minimum, true, scale_block, 8, 320, bits * kGroupBytes};
}
KVASS_PANEL_INLINE constexpr PanelFormat split_panels(int bits, int offset) {
  PanelFormat format = block_panels(bits, offset);
  format.block_bytes /= 2;
  format.split = true;
  return format;
}

KVASS_PANEL_INLINE constexpr PanelFormat value_panels(const PanelValues& values) {
  PanelFormat format = block_panels(4, 0);
  format.has_values = true;
  format.values = values;
  return format;
}

// kvalues_iq4nl of ggml-common.h.
inline constexpr PanelValues kIq4Values = {{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}};

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

// body.template operator()<type>() for a type that is known at run time: how every kernel and every conversion finds
// its instantiation.
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

// Byte offsets inside a cell's header.
inline constexpr int kMinimumOffset = 64;       // m of Q4_1, Q5_1
inline constexpr int kSuperMinimumOffset = 32;  // dmin
inline constexpr int kSubScaleOffset = 64;      // sc
inline constexpr int kSubMinimumOffset = 192;   // m of Q4_K, Q5_K

// Byte offsets inside a block's quants.
inline constexpr int kHighBitsOffset = 256;  // fifth bits; bits 4 and 5 of groups 0 to 3, then of 4 to 7

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
};

KVASS_PANEL_INLINE constexpr PanelParts panel_at(WeightType type, const uint8_t* matrix, int64_t n, int64_t k,
                                                 int64_t index) {
  const PanelFormat format = panel_format(type);
  const int64_t bytes = panel_bytes(type, k);
  const uint8_t* panel = matrix + index * bytes;
  if (!format.split) return {panel, nullptr, nullptr};
  const uint8_t* low = matrix + panel_count(n) * bytes + index * low_panel_bytes(type, k);
  return {panel + errors_bytes(format, k), low, panel};
}

}  // namespace kvass
