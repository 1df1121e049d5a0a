// The blocks of the IQ types that have grids (iq_grids.h, source_block.h): a quant is a grid's code and, above it, the
// sign; of IQ1, to which side the weights of a grid's entry are shifted. Their scales are odd: 2 s + 1, under the
// file's scale, or an eighth or a quarter of it, exact in float32.
#pragma once

#include <bit>

#include "ops/linear/iq_grids.h"
#include "ops/linear/source_block_low.h"

namespace kvass {

// Eight codes of up to two bits with eight bits above them, for groups 2 i and 2 i + 1; four of three bits for group g.
inline void put_eight(uint64_t codes, uint32_t bits, int i, Quants& out) {
  out.words[2 * i] = static_cast<uint32_t>(codes) | spread_bits(bits) << 2;
  out.words[2 * i + 1] = static_cast<uint32_t>(codes >> 32) | spread_bits(bits >> 4) << 2;
}
inline void put_four(uint32_t codes, uint32_t bits, int g, Quants& out) {
  out.words[g] = codes | spread_bits(bits) << 3;
}

// Seven signs, and an eighth that makes their number even.
inline uint32_t eight_signs(uint32_t seven) {
  seven &= 127;
  return seven | static_cast<uint32_t>(std::popcount(seven) % 2) << 7;
}

// The superblock's scale, and one of 4 bits for the block or two for its halves.
inline void odd_scale(float d, int s, int index, int lane, uint8_t* cell) {
  store_scale(d, lane, cell);
  store_sub_scale(2 * s + 1, index, lane, cell);
}
inline void two_odd_scales(float d, uint8_t nibbles, int sub, int lane, uint8_t* cell) {
  odd_scale(d, nibbles & 15, sub * 2, lane, cell);
  odd_scale(d, nibbles >> 4, sub * 2 + 1, lane, cell);
}

// f16 scale; of each block 4 indices, then 4 times 7 signs and a scale of 4 bits.
template <>
struct SourceBlock<WeightType::IQ2_XXS> {
  static Quants quants(const uint8_t* block, int sub) {
    Quants out;
    const uint8_t* indices = block + 2 + sub * 8;
    const uint32_t signs = load_word<uint32_t>(indices + 4);
    for (int i = 0; i < 4; ++i) put_eight(kIq2XxsGrid[indices[i]], eight_signs(signs >> 7 * i), i, out);
    return out;
  }
  static void scales(const uint8_t* block, int sub, int lane, uint8_t* cell) {
    odd_scale(load_half(block) * 0.125f, block[2 + sub * 8 + 7] >> 4, sub, lane, cell);
  }
};

// f16 scale; 32 words of an index of 9 bits and 7 signs; 8 bytes with two scales.
template <>
struct SourceBlock<WeightType::IQ2_XS> {
  static Quants quants(const uint8_t* block, int sub) {
    Quants out;
    for (int i = 0; i < 4; ++i) {
      const uint32_t word = load_word<uint16_t>(block + 2 + sub * 8 + i * 2);
      put_eight(kIq2XsGrid[word & 511], eight_signs(word >> 9), i, out);
    }
    return out;
  }
  static void scales(const uint8_t* block, int sub, int lane, uint8_t* cell) {
    two_odd_scales(load_half(block) * 0.125f, block[66 + sub], sub, lane, cell);
  }
};

// f16 scale; 32 indices, 32 bytes of signs, 8 bytes with the highest two bits of four indices, 8 bytes with two scales.
template <>
struct SourceBlock<WeightType::IQ2_S> {
  static Quants quants(const uint8_t* block, int sub) {
    Quants out;
    for (int i = 0; i < 4; ++i) {
      const int at = sub * 4 + i, high = block[66 + sub] >> 2 * i & 3;
      put_eight(kIq2SGrid[static_cast<size_t>(block[2 + at] | high << 8)], block[34 + at], i, out);
    }
    return out;
  }
  static void scales(const uint8_t* block, int sub, int lane, uint8_t* cell) {
    two_odd_scales(load_half(block) * 0.125f, block[74 + sub], sub, lane, cell);
  }
};

// f16 scale; 64 indices; of each block 4 times 7 signs and a scale of 4 bits.
template <>
struct SourceBlock<WeightType::IQ3_XXS> {
  static Quants quants(const uint8_t* block, int sub) {
    Quants out;
    const uint32_t signs = load_word<uint32_t>(block + 66 + sub * 4);
    for (int g = 0; g < 8; ++g) {
      put_four(kIq3XxsGrid[block[2 + sub * 8 + g]], eight_signs(signs >> 7 * (g / 2)) >> g % 2 * 4, g, out);
    }
    return out;
  }
  static void scales(const uint8_t* block, int sub, int lane, uint8_t* cell) {
    odd_scale(load_half(block) * 0.25f, block[66 + sub * 4 + 3] >> 4, sub, lane, cell);
  }
};

// f16 scale; 64 indices, 8 bytes with their highest bits, 32 bytes of signs, 4 bytes with the scales of two blocks.
template <>
struct SourceBlock<WeightType::IQ3_S> {
  static Quants quants(const uint8_t* block, int sub) {
    Quants out;
    for (int g = 0; g < 8; ++g) {
      const int high = block[66 + sub] >> g & 1;
      const uint32_t signs = block[74 + sub * 4 + g / 2];
      put_four(kIq3SGrid[static_cast<size_t>(block[2 + sub * 8 + g] | high << 8)], signs >> g % 2 * 4, g, out);
    }
    return out;
  }
  static void scales(const uint8_t* block, int sub, int lane, uint8_t* cell) {
    odd_scale(load_half(block), block[106 + sub / 2] >> sub % 2 * 4 & 15, sub, lane, cell);
  }
};

// f16 scale; 32 indices; 8 words with their highest three bits, a scale of 3 bits and the shift of the block.
template <>
struct SourceBlock<WeightType::IQ1_S> {
  static Quants quants(const uint8_t* block, int sub) {
    Quants out;
    const int word = load_word<uint16_t>(block + 34 + sub * 2);
    for (int i = 0; i < 4; ++i) {
      const auto index = static_cast<size_t>(block[2 + sub * 4 + i] | (word >> 3 * i & 7) << 8);
      put_eight(kIq1Grid[index], word >> 15 != 0 ? 255 : 0, i, out);
    }
    return out;
  }
  static void scales(const uint8_t* block, int sub, int lane, uint8_t* cell) {
    odd_scale(load_half(block) * 0.125f, block[34 + sub * 2 + 1] >> 4 & 7, sub, lane, cell);
  }
};

// 32 indices; 16 bytes of two nibbles with an index's highest three bits and its shift; 4 words with four scales of 3
// bits and, above them, 4 bits of the f16 scale.
template <>
struct SourceBlock<WeightType::IQ1_M> {
  static Quants quants(const uint8_t* block, int sub) {
    Quants out;
    for (int i = 0; i < 4; ++i) {
      const int high = block[32 + sub * 2 + i / 2] >> i % 2 * 4;
      put_eight(kIq1Grid[static_cast<size_t>(block[sub * 4 + i] | (high & 7) << 8)], (high & 8) != 0 ? 255 : 0, i, out);
    }
    return out;
  }
  static void scales(const uint8_t* block, int sub, int lane, uint8_t* cell) {
    int half = 0;
    for (int i = 0; i < 4; ++i) half |= block[48 + i * 2 + 1] >> 4 << 4 * i;
    const float d = f16_to_float(static_cast<uint16_t>(half)) * 0.125f;
    for (int i = sub * 2; i < sub * 2 + 2; ++i) {
      odd_scale(d, load_word<uint16_t>(block + 48 + i / 4 * 2) >> i % 4 * 3 & 7, i, lane, cell);
    }
  }
};

}  // namespace kvass
