// The blocks of a file's types: where their quants and scales lie, read one block of 32 elements at a time, and put
// into the cells of a panel. The layouts are those of ggml's ggml-common.h. A type whose blocks are laid out as those
// of no other has a specialisation of SourceBlock, here or in source_block_low.h, source_block_iq.h. Owns nothing.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/linear/panel_format.h"

namespace kvass {

static_assert(std::endian::native == std::endian::little, "GGUF blocks and panels are read as little-endian words");

// Bytes of a block of the file: of 32 elements, of 256 or 64, of one element for the float types.
constexpr size_t source_block_bytes(WeightType type) {
  switch (type) {
#define KVASS_WEIGHT_TYPE(name, number, elements, bytes, format)                                       \
  case WeightType::name:                                                                               \
    static_assert(panel_format(WeightType::name).k_multiple() == elements, "a cell is a whole block"); \
    return bytes;
#define KVASS_PACKED_TYPE(name, source, format) \
  case WeightType::name:                        \
    return source_block_bytes(WeightType::source);
#include "base/weight_types.inc"
  }
  return 0;
}

template <class T>
T load_word(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

// 32 quants of one row: word g holds the bytes of k's 4 g to 4 g + 3.
struct Quants {
  uint32_t words[8];
};

// Four bits to four bytes of 0 or 1.
constexpr uint32_t spread_bits(uint32_t bits) { return (bits & 15u) * 0x00204081u & 0x01010101u; }

// 16 bytes, of which byte j has element j low and element j + 16 high.
inline Quants nibble_quants(const uint8_t* nibbles) {
  Quants out;
  for (int i = 0; i < 4; ++i) {
    const uint32_t word = load_word<uint32_t>(nibbles + 4 * i);
    out.words[i] = word & 0x0f0f0f0fu;
    out.words[i + 4] = word >> 4 & 0x0f0f0f0fu;
  }
  return out;
}

// Has, for block `sub` of a source block (0 where that has 32 elements):
//     quants(block, sub)              as stored: the offset is not taken off
//     scales(block, sub, lane, cell)  puts its scales into lane `lane` of the header of `cell`
// The two templates below serve all types whose blocks are like those of Q4_0 to Q5_1, or like Q4_K and Q5_K.

// f16 scale, f16 minimum where there is one, fifth bits of all elements where there are any, then bytes; or nibbles.
template <WeightType kType>
struct PlainSourceBlock {
  static constexpr PanelFormat kFormat = panel_format(kType);

  static Quants quants(const uint8_t* block, int) {
    if constexpr (kFormat.bits == 8) {
      Quants out;
      std::memcpy(out.words, block + 2, 32);
      return out;
    }
    const uint8_t* nibbles = block + source_block_bytes(kType) - 16;
    Quants out = nibble_quants(nibbles);
    if constexpr (kFormat.bits == 5) {
      const uint32_t high = load_word<uint32_t>(nibbles - 4);  // bit j: element j
      for (int g = 0; g < 8; ++g) out.words[g] |= spread_bits(high >> 4 * g) << 4;
    }
    return out;
  }
  static void scales(const uint8_t* block, int sub, int lane, uint8_t* cell) {
    const int at = (sub * kPanelOutputs + lane) * 2;
    std::memcpy(cell + at, block, 2);
    if constexpr (kFormat.minimum) std::memcpy(cell + kMinimumOffset + at, block + 2, 2);
  }
};

// The 6-bit scale and minimum of block `sub` of a superblock: eight of each in 12 bytes.
inline void six_bit_scales(const uint8_t* packed, int sub, uint8_t* scale, uint8_t* minimum) {
  if (sub < 4) {
    *scale = packed[sub] & 63;
    *minimum = packed[sub + 4] & 63;
  } else {
    *scale = static_cast<uint8_t>((packed[sub + 4] & 15) | packed[sub - 4] >> 6 << 4);
    *minimum = static_cast<uint8_t>(packed[sub + 4] >> 4 | packed[sub] >> 6 << 4);
  }
}

// f16 scale and minimum, 6-bit scales and minima; fifth bits in 32 bytes, bit `sub` for block `sub`, where there are
// any; then of each 64 elements 32 bytes of nibbles, those of the first 32 low.
template <WeightType kType>
struct SuperSourceBlock {
  static Quants quants(const uint8_t* block, int sub) {
    Quants out;
    const uint8_t* nibbles = block + source_block_bytes(kType) - 128 + sub / 2 * 32;
    for (int g = 0; g < 8; ++g) {
      out.words[g] = load_word<uint32_t>(nibbles + 4 * g) >> sub % 2 * 4 & 0x0f0f0f0fu;
      if constexpr (panel_format(kType).bits == 5) {
        out.words[g] |= (load_word<uint32_t>(block + 16 + 4 * g) >> sub & 0x01010101u) << 4;
      }
    }
    return out;
  }
  static void scales(const uint8_t* block, int sub, int lane, uint8_t* cell) {
    std::memcpy(cell + lane * 2, block, 2);
    std::memcpy(cell + kSuperMinimumOffset + lane * 2, block + 2, 2);
    six_bit_scales(block + 4, sub, &cell[kSubScaleOffset + sub * kPanelOutputs + lane],
                   &cell[kSubMinimumOffset + sub * kPanelOutputs + lane]);
  }
};

template <WeightType kType, bool kSuper = panel_format(kType).scales == Scales::k_bytes>
struct SourceBlock : PlainSourceBlock<kType> {};
template <WeightType kType>
struct SourceBlock<kType, true> : SuperSourceBlock<kType> {};

// Of each 128 elements 64 bytes of nibbles, low ones for the first 64 elements, and 32 bytes with 2 bits for each 32;
// then 16 scales of 8 bits and the f16 scale.
template <>
struct SourceBlock<WeightType::Q6_K> {
  static Quants quants(const uint8_t* block, int sub) {
    Quants out;
    const int quarter = sub % 4;
    const uint8_t* nibbles = block + sub / 4 * 64 + quarter % 2 * 32;
    const uint8_t* high = block + 128 + sub / 4 * 32;
    for (int g = 0; g < 8; ++g) {
      const uint32_t low_bits = load_word<uint32_t>(nibbles + 4 * g) >> quarter / 2 * 4 & 0x0f0f0f0fu;
      out.words[g] = low_bits | (load_word<uint32_t>(high + 4 * g) >> quarter * 2 & 0x03030303u) << 4;
    }
    return out;
  }
  static void scales(const uint8_t* block, int sub, int lane, uint8_t* cell) {
    std::memcpy(cell + lane * 2, block + 208, 2);
    for (int half = 0; half < 2; ++half) {
      cell[kSubScaleOffset + (sub * 2 + half) * kPanelOutputs + lane] = block[192 + sub * 2 + half];
    }
  }
};

}  // namespace kvass
