// Where the kernels of byte_tiles.h take their weights from, as unsigned bytes: a packed panel, or a chunk of it that
// was unpacked for many rows. Written over a lane set V; included by the units of one instruction set only. Views; they
// own nothing.
#pragma once

#include "kernels/linear/byte_blocks.h"
#include "kernels/linear/tile_io.h"

namespace kvass {

// Weights straight from a panel.
template <class V, WeightType kType>
struct PackedBytes {
  using U = Unpack<V, kType>;
  static constexpr bool kHalves = U::kFormat.scale_block == 16;
  static constexpr bool kMinimum = U::kFormat.minimum;
  static constexpr int kOffset = U::kFormat.signed_bytes() ? 128 : U::kFormat.offset;
  PanelParts panel;

  // One row of whole bytes is little more than a walk, ahead of which the hardware fetches better by itself.
  template <int kRows>
  KVASS_INLINE void prefetch(const PackedBytes& s, int64_t b) {
    if constexpr (kRows > 1 || U::kFormat.bits != 8) U::prefetch(s.panel, b);
  }
  template <int kGroup>
  KVASS_INLINE typename V::I bytes(const PackedBytes& s, int64_t b) {
    const typename V::I stored = U::template group<kGroup>(U::block(s.panel, b));
    if constexpr (!U::kFormat.signed_bytes()) return stored;
    return V::xori(stored, V::set1i(static_cast<int>(0x80808080u)));
  }
  KVASS_INLINE typename V::F scale(const PackedBytes& s, int64_t b, int half) { return U::scale(s.panel, b, half); }
  KVASS_INLINE typename V::F minimum(const PackedBytes& s, int64_t b, int half) { return U::minimum(s.panel, b, half); }
};

struct alignas(64) UnpackedBytesBlock {
  uint8_t quants[8][kGroupBytes];
  float scale[2][kPanelOutputs];
  float minimum[2][kPanelOutputs];
};

// Weights of a chunk that was unpacked; without a minimum they are all 128 too large, so that types share a tile.
template <class V, bool kHasHalves, bool kHasMinimum>
struct UnpackedBytes {
  static constexpr bool kHalves = kHasHalves;
  static constexpr bool kMinimum = kHasMinimum;
  static constexpr int kOffset = kHasMinimum ? 0 : 128;
  const UnpackedBytesBlock* blocks;

  template <int kRows>
  KVASS_INLINE void prefetch(const UnpackedBytes&, int64_t) {}
  template <int kGroup>
  KVASS_INLINE typename V::I bytes(const UnpackedBytes& s, int64_t b) {
    return V::loadi(s.blocks[b].quants[kGroup]);
  }
  KVASS_INLINE typename V::F scale(const UnpackedBytes& s, int64_t b, int half) {
    return V::load(s.blocks[b].scale[half]);
  }
  KVASS_INLINE typename V::F minimum(const UnpackedBytes& s, int64_t b, int half) {
    return V::load(s.blocks[b].minimum[half]);
  }
};

}  // namespace kvass
