// Where a tile (generic.h) takes its weights from: a packed panel, or a chunk of it that was unpacked for many rows.
// Written over a lane set V and its integer dots D; included by the units of one instruction set only. Views; they own
// nothing.
#pragma once

#include "kernels/linear/tile_io.h"

namespace kvass {

// A block as the tiles read it.
template <class Block>
struct alignas(64) UnpackedBlock {
  uint8_t quants[8][kGroupBytes * sizeof(Block::q) / kBlock];  // [8 groups] of bytes, or of int16: k 0, 2 then k 1, 3
  float scale[2][kPanelOutputs];                               // d·sc, of each half
  float minimum[2][kPanelOutputs];                             // likewise where it has halves
};

template <class Block>
inline constexpr bool kIs8 = sizeof(Block::q) == kBlock;

// Weights straight from a panel.
template <class V, class D, WeightType kType>
struct PackedSource {
  using U = Unpack<V, kType>;
  static constexpr bool kCentred = false;
  PanelParts panel;

  KVASS_INLINE void prefetch(const PackedSource& s, int64_t b) { U::prefetch(s.panel, b); }
  template <int kGroup>
  KVASS_INLINE typename V::I bytes(const PackedSource& s, int64_t b) {
    return D::template encode8<kType>(U::template group<kGroup>(U::block(s.panel, b)));
  }
  template <int kGroup>
  KVASS_INLINE typename V::I even(const PackedSource& s, int64_t b) {
    return D::template even16<U::kFormat.signed_bytes()>(U::template group<kGroup>(U::block(s.panel, b)));
  }
  template <int kGroup>
  KVASS_INLINE typename V::I odd(const PackedSource& s, int64_t b) {
    return D::template odd16<U::kFormat.signed_bytes()>(U::template group<kGroup>(U::block(s.panel, b)));
  }
  KVASS_INLINE typename V::F scale(const PackedSource& s, int64_t b, int h) { return U::scale(s.panel, b, h); }
  KVASS_INLINE typename V::F minimum(const PackedSource& s, int64_t b, int h) { return U::minimum(s.panel, b, h); }
};

// Weights from a chunk of unpacked blocks.
template <class V, class Block>
struct UnpackedSource {
  static constexpr bool kCentred = true;
  const UnpackedBlock<Block>* blocks;

  KVASS_INLINE void prefetch(const UnpackedSource&, int64_t) {}
  template <int kGroup>
  KVASS_INLINE typename V::I bytes(const UnpackedSource& s, int64_t b) {
    return V::loadi(s.blocks[b].quants[kGroup]);
  }
  template <int kGroup>
  KVASS_INLINE typename V::I even(const UnpackedSource& s, int64_t b) {
    return V::loadi(s.blocks[b].quants[kGroup]);
  }
  template <int kGroup>
  KVASS_INLINE typename V::I odd(const UnpackedSource& s, int64_t b) {
    return V::loadi(s.blocks[b].quants[kGroup] + kGroupBytes);
  }
  KVASS_INLINE typename V::F scale(const UnpackedSource& s, int64_t b, int h) { return V::load(s.blocks[b].scale[h]); }
  KVASS_INLINE typename V::F minimum(const UnpackedSource& s, int64_t b, int h) {
    return V::load(s.blocks[b].minimum[h]);
  }
};

}  // namespace kvass
