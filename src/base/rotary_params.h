// The parameters of a rotary embedding: numbers only. Programs store them; kernels/rotary turns them into angles. Owns
// nothing but its divisors.
//
// Pair i of a head, 0 <= i < head_dim / 2, turns by position · f_i with f_i = base^(−2i / head_dim) / divisors[i] ·
// s_i:
//
//     linear    s_i = 1 / factor
//     YaRN      s_i = (1 − r_i) / factor + r_i,    r_i = extrapolation · clamp((high − i) / (high − low), 0, 1)
//               low = ⌊c(beta_fast)⌋ >= 0, high = ⌈c(beta_slow)⌉ <= head_dim − 1,
//               c(β) = head_dim · ln(context / 2πβ) / (2 ln base)
//
// YaRN (arXiv 2309.00071, "NTK by parts") keeps the pairs that turn often within the trained context and interpolates
// the others. It also makes scores larger: cos and sin are multiplied by 0.1 ln(factor) + 1 if factor > 1.
#pragma once

#include <cstdint>
#include <vector>

namespace kvass {

struct YarnParams {
  double context = 0.0;  // tokens: the trained context before the extension; 0: no YaRN, `factor` is linear
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  double extrapolation = 1.0;  // 0 to 1
  friend bool operator==(const YarnParams&, const YarnParams&) = default;
};

struct RotaryParams {
  int64_t head_dim = 0;
  double base = 10000.0;
  double factor = 1.0;
  bool interleaved = false;          // pair i is elements (2i, 2i + 1); otherwise (i, i + head_dim / 2)
  std::vector<float> divisors = {};  // [head_dim / 2]; empty: all 1
  double attention_factor = 1.0;     // multiplies cos and sin
  YarnParams yarn = {};
  friend bool operator==(const RotaryParams&, const RotaryParams&) = default;
};

}  // namespace kvass
