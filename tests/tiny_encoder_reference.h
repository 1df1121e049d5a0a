// The forward pass of a TinyEncoder in double, by the plain definitions.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "tiny_encoder.h"

namespace kvass::testing {

inline Rows TinyEncoder::add(Rows a, const Rows& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    for (size_t j = 0; j < a[i].size(); ++j) a[i][j] += b[i][j];
  }
  return a;
}

inline Rows TinyEncoder::gelu(Rows x) {
  for (auto& row : x) {
    for (double& value : row) value = 0.5 * value * (1.0 + std::erf(value / std::sqrt(2.0)));
  }
  return x;
}

inline Rows TinyEncoder::linear(const Rows& x, WeightId id) const {
  const Numbers& w = numbers(id);
  Rows y(x.size(), std::vector<double>(static_cast<size_t>(w.outputs), 0.0));
  for (size_t r = 0; r < x.size(); ++r) {
    for (size_t o = 0; o < y[r].size(); ++o) {
      for (size_t k = 0; k < x[r].size(); ++k) y[r][o] += x[r][k] * static_cast<double>(w.values[o * x[r].size() + k]);
    }
  }
  return y;
}

inline Rows TinyEncoder::bias(Rows x, WeightId id) const {
  for (auto& row : x) {
    for (size_t i = 0; i < row.size(); ++i) row[i] += static_cast<double>(numbers(id).values[i]);
  }
  return x;
}

inline Rows TinyEncoder::norm(const Rows& x, const Norm& norm) const {
  Rows y = x;
  for (auto& row : y) {
    double mean = 0.0, variance = 0.0;
    for (double value : row) mean += value / static_cast<double>(row.size());
    for (double value : row) variance += (value - mean) * (value - mean) / static_cast<double>(row.size());
    for (size_t i = 0; i < row.size(); ++i) {
      row[i] = (row[i] - mean) / std::sqrt(variance + 1e-5) * static_cast<double>(numbers(norm.weight).values[i]) +
               static_cast<double>(numbers(norm.bias).values[i]);
    }
  }
  return y;
}

inline Rows TinyEncoder::attend(const Rows& q, const Rows& k, const Rows& v, bool causal) const {
  const size_t heads = static_cast<size_t>(config_.heads), size = static_cast<size_t>(config_.width) / heads;
  Rows out(q.size(), std::vector<double>(static_cast<size_t>(config_.width), 0.0));
  for (size_t r = 0; r < q.size(); ++r) {
    const size_t keys = causal ? r + 1 : k.size();
    for (size_t h = 0; h < heads; ++h) {
      std::vector<double> weights(keys);
      double sum = 0.0;
      for (size_t j = 0; j < keys; ++j) {
        double score = 0.0;
        for (size_t d = h * size; d < (h + 1) * size; ++d) score += q[r][d] * k[j][d];
        sum += weights[j] = std::exp(score / std::sqrt(static_cast<double>(size)));
      }
      for (size_t j = 0; j < keys; ++j) {
        for (size_t d = h * size; d < (h + 1) * size; ++d) out[r][d] += weights[j] / sum * v[j][d];
      }
    }
  }
  return out;
}

inline Rows TinyEncoder::convolve(const Rows& x, WeightId id, size_t stride) const {
  const size_t width = x[0].size();
  Rows wide;
  for (size_t t = 0; t < x.size(); t += stride) {
    std::vector<double> row(3 * width, 0.0);
    for (size_t i = 0; i < 3; ++i) {
      if (t + i < 1 || t + i - 1 >= x.size()) continue;
      std::copy(x[t + i - 1].begin(), x[t + i - 1].end(), row.begin() + static_cast<int64_t>(i * width));
    }
    wide.push_back(std::move(row));
  }
  return linear(wide, id);
}

inline Rows TinyEncoder::feed_forward(const Layer& layer, Rows x) const {
  return add(x, linear(gelu(bias(linear(norm(x, layer.norm), layer.up), layer.up_bias)), layer.down));
}

inline Rows TinyEncoder::position(Rows x, WeightId table) const {
  const size_t width = x[0].size();
  for (size_t r = 0; r < x.size(); ++r) {
    for (size_t i = 0; i < width; ++i) x[r][i] += static_cast<double>(numbers(table).values[r * width + i]);
  }
  return x;
}

inline Rows TinyEncoder::encode(const std::vector<float>& input) const {
  const size_t channels = static_cast<size_t>(config_.channels), frames = input.size() / channels;
  Rows x(frames, std::vector<double>(channels));
  for (size_t t = 0; t < frames; ++t) {
    for (size_t c = 0; c < channels; ++c) x[t][c] = static_cast<double>(input[c * frames + t]);
  }
  x = gelu(bias(convolve(x, conv1_, 1), conv1_bias_));
  x = position(gelu(bias(convolve(x, conv2_, 2), conv2_bias_)), source_positions_);
  for (const Layer& layer : encoder_) {
    const Rows h = norm(x, layer.self.norm);
    const Rows out = attend(linear(h, layer.self.q), linear(h, layer.self.k), linear(h, layer.self.v), false);
    x = feed_forward(layer, add(x, bias(linear(out, layer.self.out), layer.self.out_bias)));
  }
  return norm(x, encoder_norm_);
}

inline Rows TinyEncoder::decode(const Rows& source, const std::vector<int32_t>& tokens) const {
  const size_t width = static_cast<size_t>(config_.width);
  Rows x;
  for (int32_t token : tokens) {
    const auto first = numbers(table_).values.begin() + static_cast<int64_t>(static_cast<size_t>(token) * width);
    x.emplace_back(first, first + static_cast<int64_t>(width));
  }
  x = position(x, positions_);
  for (const Layer& layer : decoder_) {
    Rows h = norm(x, layer.self.norm);
    h = attend(linear(h, layer.self.q), linear(h, layer.self.k), linear(h, layer.self.v), true);
    x = add(x, bias(linear(h, layer.self.out), layer.self.out_bias));
    h = linear(norm(x, layer.cross.norm), layer.cross.q);
    h = attend(h, linear(source, layer.cross.k), linear(source, layer.cross.v), false);
    x = feed_forward(layer, add(x, bias(linear(h, layer.cross.out), layer.cross.out_bias)));
  }
  return linear(norm(x, decoder_norm_), table_);
}

}  // namespace kvass::testing
