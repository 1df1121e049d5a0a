// The reference: docs/numerics.md, 2 and 5, as plain loops over single outputs. Fast kernels equal these bit for bit.
#include <algorithm>
#include <cmath>

#include "kernels/linear/linear.h"
#include "kernels/linear/panel_reader.h"
#include "kernels/linear/screen.h"

namespace kvass::scalar {
namespace {

constexpr int64_t kRows = 64;  // rows that share a decoded block; row chunks do not meet in any sum

// Where element i of a block lies in ActivationBlock16.
constexpr int pair_order(int i) {
  constexpr int kOrder[4] = {0, 2, 1, 3};
  return i / 4 * 4 + kOrder[i % 4];
}

int activation(const ActivationBlock8& block, int i) { return block.q[i]; }
int activation(const ActivationBlock16& block, int i) { return block.q[pair_order(i)]; }

// One block of up to 32 floats to its q, s; the rest of q is zero.
template <class Q>
float quantise_block(const float* x, int count, float qmax, Q* q) {
  float amax = 0.0f;
  bool finite = true;
  for (int i = 0; i < count; ++i) {
    finite &= std::isfinite(x[i]);
    amax = std::fabs(x[i]) > amax ? std::fabs(x[i]) : amax;
  }
  for (int i = 0; i < kBlock; ++i) q[i] = 0;
  if (!finite) return __builtin_nanf("");
  if (amax < kAmaxFloor) return 0.0f;
  const float inverse = qmax / amax;
  for (int i = 0; i < count; ++i) q[i] = static_cast<Q>(__builtin_rintf(x[i] * inverse));
  return amax / qmax;
}

template <class Body>
void for_each_block(const QuantiseParams& p, Body&& body) {
  const int64_t blocks = activation_blocks(p.k);
  for (int64_t row = 0; row < p.rows; ++row) {
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t rest = p.k - b * kBlock;
      body(row * blocks + b, p.x + row * p.x_stride + b * kBlock, static_cast<int>(rest < kBlock ? rest : kBlock));
    }
  }
}

void quantise_rows_a8(const QuantiseParams& p) {
  for_each_block(p, [&](int64_t index, const float* x, int count) {
    ActivationBlock8& block = static_cast<ActivationBlock8*>(p.activations)[index];
    block.scale = quantise_block(x, count, kQmax8, block.q);
    int sums[3][2] = {};
    for (int i = 0; i < kBlock; ++i) {
      sums[0][i % 4 / 2] += block.q[i];
      sums[1 + i / 16][i % 4 / 2] += block.q[i];
    }
    block.sum = static_cast<float>(sums[0][0] + sums[0][1]);
    for (int part = 0; part < 3; ++part) {
      for (int pair = 0; pair < 2; ++pair)
        block.negated_pair_sums[part][pair] = static_cast<int16_t>(-sums[part][pair]);
    }
  });
}

void quantise_rows_a16(const QuantiseParams& p) {
  for_each_block(p, [&](int64_t index, const float* x, int count) {
    ActivationBlock16& block = static_cast<ActivationBlock16*>(p.activations)[index];
    int16_t q[kBlock];
    block.scale = quantise_block(x, count, kQmax16, q);
    int32_t halves[2] = {};
    for (int i = 0; i < kBlock; ++i) {
      block.q[pair_order(i)] = q[i];
      halves[i / 16] += q[i];
    }
    block.sum = static_cast<float>(halves[0] + halves[1]);
    block.negated_sums[0] = -(halves[0] + halves[1]);
    block.negated_sums[1] = -halves[0];
    block.negated_sums[2] = -halves[1];
  });
}

// Calls body(reader, output) for the outputs of the panels in question.
template <WeightType kType, class Body>
void for_each_output(const LinearParams& p, Body&& body) {
  const int64_t end = p.panel_end * kPanelOutputs < p.n ? p.panel_end * kPanelOutputs : p.n;
  for (int64_t output = p.panel_begin * kPanelOutputs; output < end; ++output) {
    const PanelParts panel = panel_of<kType>(p, output / kPanelOutputs);
    body(PanelReader<kType>(panel, static_cast<int>(output % kPanelOutputs)), output);
  }
}

template <WeightType kType>
void multiply_f32(const LinearParams& p) {
  const float* x = static_cast<const float*>(p.x);
  for_each_output<kType>(p, [&](const PanelReader<kType>& reader, int64_t output) {
    for (int64_t begin = 0; begin < p.rows; begin += kRows) {
      const int64_t rows = p.rows - begin < kRows ? p.rows - begin : kRows;
      float acc[kRows] = {};
      for (int64_t k = 0; k < p.k; ++k) {
        float weight;
        if constexpr (panel_format(kType).quantised) {
          weight = reader.weight(k / kBlock, static_cast<int>(k % kBlock));
        } else {
          weight = reader.element(k);
        }
        for (int64_t row = 0; row < rows; ++row) {
          acc[row] = __builtin_fmaf(x[(begin + row) * p.x_stride + k], weight, acc[row]);
        }
      }
      for (int64_t row = 0; row < rows; ++row) p.y[(begin + row) * p.y_stride + output] = acc[row];
    }
  });
}

template <WeightType kType, class Block>
void multiply_quantised(const LinearParams& p) {
  constexpr int kStep = panel_format(kType).scale_block;
  const Block* x = static_cast<const Block*>(p.x);
  for_each_output<kType>(p, [&](const PanelReader<kType>& reader, int64_t output) {
    for (int64_t begin = 0; begin < p.rows; begin += kRows) {
      const int64_t rows = p.rows - begin < kRows ? p.rows - begin : kRows;
      float acc[kRows] = {};
      for (int64_t b = 0; b < p.k / kBlock; ++b) {
        int weights[kBlock];
        for (int i = 0; i < kBlock; ++i) weights[i] = reader.quant(b, i);
        for (int64_t row = 0; row < rows; ++row) {
          const Block& block = x[(begin + row) * p.x_stride + b];
          for (int first = 0; first < kBlock; first += kStep) {
            int32_t dot = 0;
            for (int i = first; i < first + kStep; ++i) dot += weights[i] * activation(block, i);
            const int part = first / kStep;
            acc[row] = __builtin_fmaf(static_cast<float>(dot), reader.scale(b, part) * block.scale, acc[row]);
            if constexpr (panel_format(kType).minimum) {
              const float sum = part_sum(block, kStep == kBlock ? 0 : 1 + part);
              acc[row] = __builtin_fmaf(sum, -(reader.minimum(b, part) * block.scale), acc[row]);
            }
          }
        }
      }
      for (int64_t row = 0; row < rows; ++row) p.y[(begin + row) * p.y_stride + output] = acc[row];
    }
  });
}

void multiply_any_f32(const LinearParams& p) {
  for_kernel_type(p.type, [&]<WeightType kType>() { multiply_f32<kType>(p); });
}

template <class Block>
void multiply_any_quantised(const LinearParams& p) {
  for_kernel_type(p.type, [&]<WeightType kType>() {
    if constexpr (panel_format(kType).quantised) multiply_quantised<kType, Block>(p);
  });
}

template <class Block>
void screen(const ScreenParams& p) {
  const Block* x = static_cast<const Block*>(p.x);
  for (int64_t index = p.panel_begin; index < p.panel_end; ++index) {
    ScreenedPanel& panel = p.out[index];
    panel = {-INFINITY, -INFINITY};
    for (int lane = 0; lane < kPanelOutputs; ++lane) {
      const PanelReader<WeightType::Q8_0_split> reader(panel_at(WeightType::Q8_0_split, p.matrix, p.n, p.k, index),
                                                       lane);
      float estimate = 0.0f, error = 0.0f;
      for (int64_t b = 0; b < p.k / kBlock; ++b) {
        int32_t dot = 0;
        for (int i = 0; i < kBlock; ++i) dot += reader.high(b, i) * activation(x[b], i);
        const float v = __builtin_fmaf(16.0f, static_cast<float>(dot), 7.5f * x[b].sum);
        const float d = reader.scale(b, 0);
        estimate = __builtin_fmaf(v, d * x[b].scale, estimate);
        const float of_block =
            __builtin_fmaf(static_cast<float>(reader.error(b)), p.blocks[b].norm, p.blocks[b].singles);
        error = __builtin_fmaf(std::fabs(d), of_block, error);
      }
      const float most = __builtin_fmaf(error, screen_slack(p.k), estimate) + 0x1p-100f;
      panel.most = std::max(panel.most, most > -INFINITY ? most : INFINITY);
      if (estimate > panel.likely) panel.likely = estimate;
    }
  }
}

}  // namespace

const QuantiseFunction quantise_a8 = quantise_rows_a8;
const QuantiseFunction quantise_a16 = quantise_rows_a16;
const LinearFunction linear_f32 = multiply_any_f32;
const LinearFunction linear_a8 = multiply_any_quantised<ActivationBlock8>;
const LinearFunction linear_a16 = multiply_any_quantised<ActivationBlock16>;
const ScreenFunction screen_a8 = screen<ActivationBlock8>;
const ScreenFunction screen_a16 = screen<ActivationBlock16>;

}  // namespace kvass::scalar
