// Rotary embeddings in float64 with the C library's functions, as the papers' code writes them: linear position
// interpolation, frequency factors, YaRN (arXiv 2309.00071, "NTK by parts" over pairs).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include "tiny_config.h"

namespace kvass::testing {

class ReferenceRotary {
 public:
  ReferenceRotary(const TinyConfig& config, bool full) : neighbours_(config.neighbours()) {
    const bool own = full || !config.gemma();  // Gemma's sliding layers have another base, and no scaling
    const double d = static_cast<double>(config.head_dim), factor = own ? config.rope_factor : 1.0;
    const double base = own ? config.full_base : config.sliding_base;
    amplitude_ = config.attention_factor;
    if (config.yarn.context != 0) amplitude_ *= 1.0 + 0.1 * std::log(std::max(factor, 1.0));
    for (int64_t i = 0; i < config.head_dim / 2; ++i) {
      const double frequency = std::pow(base, -2.0 * static_cast<double>(i) / d);
      const double kept = config.yarn.context == 0 ? 0.0 : kept_by_yarn(config, base, i);
      const double divisor =
          config.divisors.empty() ? 1.0 : static_cast<double>(config.divisors[static_cast<size_t>(i)]);
      frequencies_.push_back((frequency / factor * (1.0 - kept) + frequency * kept) / divisor);
    }
  }

  // One head's vector at `position`.
  std::vector<double> rotate(const double* x, int64_t position) const {
    const size_t half = frequencies_.size();
    std::vector<double> out(2 * half);
    for (size_t i = 0; i < half; ++i) {
      const size_t a = neighbours_ ? 2 * i : i, b = neighbours_ ? 2 * i + 1 : i + half;
      const double angle = static_cast<double>(position) * frequencies_[i];
      out[a] = amplitude_ * (x[a] * std::cos(angle) - x[b] * std::sin(angle));
      out[b] = amplitude_ * (x[b] * std::cos(angle) + x[a] * std::sin(angle));
    }
    return out;
  }

 private:
  static double kept_by_yarn(const TinyConfig& config, double base, int64_t pair) {
    const auto pair_that_turns = [&](double times) {
      return static_cast<double>(config.head_dim) *
             std::log(static_cast<double>(config.yarn.context) / (times * 2.0 * std::numbers::pi)) /
             (2.0 * std::log(base));
    };
    const double low = std::max(std::floor(pair_that_turns(config.yarn.beta_fast)), 0.0);
    const double high =
        std::min(std::ceil(pair_that_turns(config.yarn.beta_slow)), static_cast<double>(config.head_dim - 1));
    const double ramp = (static_cast<double>(pair) - low) / std::max(high - low, 0.001);
    return 1.0 - std::clamp(ramp, 0.0, 1.0);
  }

  bool neighbours_;
  double amplitude_ = 1.0;
  std::vector<double> frequencies_;  // [head_dim / 2] radians a position
};

}  // namespace kvass::testing
