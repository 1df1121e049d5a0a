// Blocks of weight types for tests: puts scales into blocks of random bits, so that the weights are numbers.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/float16.h"
#include "kernels/linear/panel_format.h"

namespace kvass::testing {

// Where the f16 scale of a block is; a minimum's follows it.
inline size_t scale_offset(WeightType type) {
  switch (type) {
    case WeightType::Q2_K:
      return 80;
    case WeightType::Q3_K:
      return 108;
    case WeightType::Q6_K:
      return 208;
    case WeightType::TQ1_0:
      return 52;
    case WeightType::TQ2_0:
      return 64;
    default:
      return 0;
  }
}

// The scale of a block of a quantised type, and of its minimum where it has one; the nearest that the type has.
inline void put_scales(WeightType type, float d, float minimum, uint8_t* block) {
  const uint16_t halves[2] = {float_to_f16(d), float_to_f16(minimum)};
  if (type == WeightType::MXFP4) {
    block[0] = static_cast<uint8_t>(std::clamp(128 + static_cast<int>(std::lround(std::log2(std::fabs(d)))), 0, 255));
  } else if (type == WeightType::NVFP4) {  // four of e4m3: a float32's bits from 20 on, in other units, and halved
    const auto bits = std::bit_cast<uint32_t>(std::fabs(d) / kE4m3Unit);
    std::memset(block, static_cast<int>(std::min(bits >> 20, 0x7eu)), 4);
  } else if (type == WeightType::IQ1_M) {  // in the high nibbles of four words
    for (int i = 0; i < 4; ++i) {
      uint8_t& byte = block[49 + 2 * i];
      byte = static_cast<uint8_t>((byte & 15) | (halves[0] >> 4 * i & 15) << 4);
    }
  } else {
    std::memcpy(block + scale_offset(type), halves, panel_format(type).minimum ? 4 : 2);
  }
}

}  // namespace kvass::testing
