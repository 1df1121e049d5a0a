// The kinds of panels that weights are packed into (panel_format.h says what their bytes mean), as the rows of
// base/weight_types.inc name them. No state.
#pragma once

#include <cstdint>

// Never a function of its own: a copy compiled for one instruction set must not serve the others.
#define KVASS_PANEL_INLINE [[gnu::always_inline]] inline

namespace kvass {

inline constexpr int kPanelOutputs = 16;
inline constexpr int kBlock = 32;       // k's under one activation scale, and in one block of quants
inline constexpr int kGroupBytes = 64;  // [16 outputs][4 k]

// What stored quants of 3 or 4 bits mean.
struct PanelValues {
  int8_t of[16] = {};
  KVASS_PANEL_INLINE constexpr bool operator==(const PanelValues&) const = default;
};

// How a cell's header has the scales of its blocks.
enum class Scales : uint8_t { none, f16, bf16, e4m3, k_bytes, k_nibbles, bytes, one };

struct PanelFormat {
  int bits;    // of a stored quant; 32 or 16 for the float types
  int offset;  // what a stored quant is too large by
  bool quantised;
  bool minimum;      // has a minimum's term
  Scales scales;     // of a cell's header
  int scale_block;   // k's under one weight scale, or 32 where it is more; 16; 0 for the float types
  int cell_blocks;   // blocks in a cell
  int header_bytes;  // of a cell
  int block_bytes;   // of the quants of a block; where they are split, of either half of their bits
  bool split = false;
  bool has_values = false;
  PanelValues values = {};
  // Whether quants come out of a panel as signed bytes, not as unsigned ones that are `offset` too large.
  KVASS_PANEL_INLINE constexpr bool signed_bytes() const { return bits == 8 || has_values; }
  // Whether a cell is a block of the file, however many k's that has; else it is two.
  KVASS_PANEL_INLINE constexpr bool whole_cells() const {
    return quantised && scales != Scales::f16 && scales != Scales::bf16;
  }
  // Bits of a quant that lie first in a block, and where the others begin.
  KVASS_PANEL_INLINE constexpr int low_bits() const { return bits == 8 ? 8 : bits >= 4 ? 4 : 2; }
  KVASS_PANEL_INLINE constexpr int high_bits_offset() const { return low_bits() * kGroupBytes; }
  KVASS_PANEL_INLINE constexpr int cell_bytes() const { return header_bytes + cell_blocks * block_bytes; }
  KVASS_PANEL_INLINE constexpr int k_multiple() const {
    return !quantised ? 1 : whole_cells() ? cell_blocks * kBlock : kBlock;
  }
  KVASS_PANEL_INLINE constexpr bool operator==(const PanelFormat&) const = default;
};

// The formats of the rows of weight_types.inc. An offset of kWithMinimum: none, but a minimum.
inline constexpr int kWithMinimum = -1;
KVASS_PANEL_INLINE constexpr PanelFormat float_panels(int bits) {
  return {bits, 0, false, false, Scales::none, 0, 0, 0, 0};
}
KVASS_PANEL_INLINE constexpr PanelFormat block_panels(int bits, int offset, Scales scales = Scales::f16) {
  const bool minimum = offset == kWithMinimum;
  return {bits, minimum ? 0 : offset, true, minimum, scales, kBlock, 2, minimum ? 128 : 64, bits * kGroupBytes};
}
KVASS_PANEL_INLINE constexpr PanelFormat split_panels(int bits, int offset) {
  PanelFormat format = block_panels(bits, offset);
  format.block_bytes /= 2;
  format.split = true;
  return format;
}
// Superblocks of 256.
KVASS_PANEL_INLINE constexpr PanelFormat superblock_panels(int bits, int offset, Scales scales, int scale_block) {
  const bool minimum = offset == kWithMinimum;
  const int sub_scales = scales == Scales::one ? 0 : 256 / scale_block * (minimum && scales == Scales::k_bytes ? 2 : 1);
  return {bits,
          minimum ? 0 : offset,
          true,
          minimum,
          scales,
          scale_block,
          8,
          64 + sub_scales * kPanelOutputs,
          bits * kGroupBytes};
}
// Blocks of 64.
KVASS_PANEL_INLINE constexpr PanelFormat e4m3_panels(int bits) {
  return {bits, 0, true, false, Scales::e4m3, 16, 2, 64, bits * kGroupBytes};
}

// Formats whose quants are values.
KVASS_PANEL_INLINE constexpr PanelFormat with_values(PanelFormat format, const PanelValues& values) {
  format.has_values = true;
  format.values = values;
  return format;
}
KVASS_PANEL_INLINE constexpr PanelFormat block_values(int bits, const PanelValues& values,
                                                      Scales scales = Scales::f16) {
  return with_values(block_panels(bits, 0, scales), values);
}
KVASS_PANEL_INLINE constexpr PanelFormat superblock_values(int bits, int scale_block, const PanelValues& values) {
  return with_values(superblock_panels(bits, 0, Scales::bytes, scale_block), values);
}

// kvalues_iq4nl of ggml-common.h; twice the numbers of 4 bits (E2M1) of the Open Compute Project's MX formats.
inline constexpr PanelValues kIq4Values = {{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}};
inline constexpr PanelValues kE2m1Values = {{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}};
// The magnitudes of the entries of iq_grids.h, then the same negated; of IQ1, -8, 0 or 8 and a shift by 1 to either
// side.
inline constexpr PanelValues kIq3XxsValues = {{4, 12, 20, 28, 36, 44, 52, 62, -4, -12, -20, -28, -36, -44, -52, -62}};
inline constexpr PanelValues kIq3SValues = {{1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15}};
inline constexpr PanelValues kIq2Values = {{8, 25, 43, 0, -8, -25, -43}};
inline constexpr PanelValues kIq1Values = {{-7, 1, 9, 0, -9, -1, 7}};

}  // namespace kvass
