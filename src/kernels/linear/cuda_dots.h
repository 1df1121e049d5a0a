// Blocks of quantised activations as device threads meet them: words, exact integer dots with four signed bytes of
// weights, and where a panel's outputs go. Device code; owns nothing.
#pragma once

#include "device/lane.h"
#include "kernels/linear/cuda_panel.h"
#include "kernels/linear/device.h"

namespace kvass::KVASS_DEVICE {

// One link of an output's chain: acc = fma(a, b, acc).
struct Term {
  float a, b;
};

// sum + the dot of two int16 with the low, the high two signed bytes of `bytes`.
KVASS_DEVICE_FN int32_t dot2_low(uint32_t pair, uint32_t bytes, int32_t sum) {
#if defined(__CUDA_ARCH__)
  return __dp2a_lo(static_cast<int>(pair), static_cast<int>(bytes), sum);
#else
  return sum + static_cast<int16_t>(pair) * static_cast<int8_t>(bytes) +
         static_cast<int16_t>(pair >> 16) * static_cast<int8_t>(bytes >> 8);
#endif
}
KVASS_DEVICE_FN int32_t dot2_high(uint32_t pair, uint32_t bytes, int32_t sum) {
#if defined(__CUDA_ARCH__)
  return __dp2a_hi(static_cast<int>(pair), static_cast<int>(bytes), sum);
#else
  return dot2_low(pair, bytes >> 16, sum);
#endif
}

// A block as 32-bit words: quants, scale, sum. Four k's of weights are `arranged` once and then meet every row.
template <class Block>
struct Activation;

template <>
struct Activation<ActivationBlock8> {
  static constexpr int kWords = sizeof(ActivationBlock8) / 4;
  static constexpr int kQuantWords = 8;
  KVASS_METHOD static uint32_t arrange(uint32_t weights) { return weights; }
  // Σ of half h of the block.
  KVASS_METHOD static float half_sum(const uint32_t* block, int h) {
    const uint32_t pairs = block[kQuantWords + 3 + h];
    return static_cast<float>(-(static_cast<int16_t>(pairs) + static_cast<int16_t>(pairs >> 16)));
  }
  // x: the block's quants; k's 4 g to 4 g + 3.
  KVASS_METHOD static int32_t dot(const uint32_t* x, int g, uint32_t weights, int32_t sum) {
    return dot4(static_cast<int32_t>(x[g]), static_cast<int32_t>(weights), sum);
  }
};

template <>
struct Activation<ActivationBlock16> {
  static constexpr int kWords = sizeof(ActivationBlock16) / 4;
  static constexpr int kQuantWords = 16;
  // As the quants lie: k 0 and 2, then k 1 and 3.
  KVASS_METHOD static uint32_t arrange(uint32_t weights) {
    return (weights & 0xff0000ffu) | (weights >> 8 & 0xff00u) | (weights & 0xff00u) << 8;
  }
  KVASS_METHOD static float half_sum(const uint32_t* block, int h) {
    return static_cast<float>(-static_cast<int32_t>(block[kQuantWords + 3 + h]));
  }
  KVASS_METHOD static int32_t dot(const uint32_t* x, int g, uint32_t weights, int32_t sum) {
    return dot2_high(x[2 * g + 1], weights, dot2_low(x[2 * g], weights, sum));
  }
};
static_assert(offsetof(ActivationBlock8, scale) == 32 && offsetof(ActivationBlock8, sum) == 36);
static_assert(offsetof(ActivationBlock16, scale) == 64 && offsetof(ActivationBlock16, sum) == 68);
static_assert(offsetof(ActivationBlock8, negated_pair_sums) == 40 && offsetof(ActivationBlock16, negated_sums) == 72);

// Σ of a block as the minimum's term takes it: of the whole block, or of its half h.
template <class Block, bool kOfHalf>
KVASS_DEVICE_FN float sum_for_minimum(const uint32_t* block, int h) {
  using A = Activation<Block>;
  return kOfHalf ? A::half_sum(block, h) : float_from_bits(block[A::kQuantWords + 1]);
}

// What a kernel is launched with: the params, and sizes that are the host's to compute.
struct LinearTask {
  DeviceLinearParams p;
  int64_t panel_bytes;
  ValueBytes values = {};  // of p.type
};

// Groups of kPanels neighbouring panels of a weight with n outputs.
template <int kPanels>
KVASS_BOTH_FN int64_t panel_groups(int64_t n) {
  constexpr int64_t kOutputs = kPanels * kPanelOutputs;
  return (n + kOutputs - 1) / kOutputs;
}

// Group `index` of all targets' groups, counted target by target.
template <int kPanels>
struct PanelGroup {
  DeviceLinearParams::Target target;
  int64_t panel = 0;  // the first

  KVASS_METHOD PanelGroup(const DeviceLinearParams& p, int64_t index) {
    bool found = false;
    KVASS_UNROLL
    for (int i = 0; i < DeviceLinearParams::kMostTargets; ++i) {
      if (i >= p.targets_count || found) continue;
      const int64_t groups = panel_groups<kPanels>(p.targets[i].n);
      if (index < groups) {
        target = p.targets[i];
        panel = index * kPanels;
        found = true;
      }
      index -= groups;
    }
  }
};

}  // namespace kvass::KVASS_DEVICE
