// Random tensors of every weight type that the tests use: the bytes of a file, and the numbers that they represent,
// decoded here from the same bytes. Owns the generator; the same calls in the same order give the same tensors.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "base/float16.h"
#include "file/gguf.h"
#include "model/model.h"
#include "ops/linear/weight.h"
#include "weight_blocks.h"

namespace kvass::testing {

// A tensor: the file's bytes and the same numbers as doubles.
struct TinyTensor {
  GgmlType type = GgmlType::F32;
  int64_t inputs = 0;
  int64_t outputs = 0;  // 0: a vector
  std::vector<uint8_t> bytes;
  std::vector<double> values;  // [max(outputs, 1)][inputs]
};

class TinyTensors {
 public:
  explicit TinyTensors(uint32_t seed) : random_(seed) {}

  // A vector with these numbers.
  static TinyTensor of(const std::vector<float>& numbers) {
    TinyTensor tensor{GgmlType::F32, static_cast<int64_t>(numbers.size()), 0, {}, {}};
    for (const float number : numbers) put(tensor, number);
    return tensor;
  }

  // The same numbers as F32.
  static TinyTensor as_floats(const TinyTensor& tensor) {
    TinyTensor floats{GgmlType::F32, tensor.inputs, tensor.outputs, {}, {}};
    for (const double value : tensor.values) put(floats, static_cast<float>(value));
    return floats;
  }

  // `width` numbers within a spread of a fifth of `size` around `around`.
  TinyTensor vector(int64_t width, double around, double size) {
    TinyTensor tensor{GgmlType::F32, width, 0, {}, {}};
    for (int64_t i = 0; i < width; ++i) put(tensor, static_cast<float>(around + 0.2 * size * uniform()));
    return tensor;
  }

  // Blocks of random bits whose numbers have a magnitude of about `size`.
  TinyTensor matrix(GgmlType type, int64_t outputs, int64_t inputs, double size) {
    TinyTensor tensor{type, inputs, outputs, {}, {}};
    const auto count = static_cast<size_t>(outputs * inputs);
    while (tensor.values.size() < count) {
      switch (type) {
        case GgmlType::F32:
          put(tensor, static_cast<float>(1.7 * size * uniform()));
          break;
        case GgmlType::F16:
          put_half(tensor, float_to_f16(static_cast<float>(1.7 * size * uniform())), false);
          break;
        case GgmlType::BF16:
          put_half(tensor, float_to_bf16(static_cast<float>(1.7 * size * uniform())), true);
          break;
        case GgmlType::Q8_0:
          put_q8_0(tensor, size);
          break;
        case GgmlType::Q5_0:
          put_q5_0(tensor, size);
          break;
        case GgmlType::Q4_K:
          put_q4_k(tensor, size);
          break;
        case GgmlType::Q6_K:
          put_q6_k(tensor, size);
          break;
        default:
          put_block(tensor, size);
      }
    }
    return tensor;
  }

 private:
  double uniform() { return static_cast<double>(random_()) * 0x1p-31 - 1.0; }  // [-1, 1)
  uint8_t byte() { return static_cast<uint8_t>(random_() >> 13); }

  static void raw(TinyTensor& tensor, const void* data, size_t bytes) {
    const auto* first = static_cast<const uint8_t*>(data);
    tensor.bytes.insert(tensor.bytes.end(), first, first + bytes);
  }
  static void put(TinyTensor& tensor, float value) {
    raw(tensor, &value, sizeof value);
    tensor.values.push_back(static_cast<double>(value));
  }
  static void put_half(TinyTensor& tensor, uint16_t half, bool brain) {
    raw(tensor, &half, sizeof half);
    tensor.values.push_back(static_cast<double>(brain ? bf16_to_float(half) : f16_to_float(half)));
  }
  // Writes a random scale as a half and returns its value as a double.
  double scale(TinyTensor& tensor, double size) {
    const uint16_t half = float_to_f16(static_cast<float>(size * (1.0 + 0.3 * uniform())));
    raw(tensor, &half, sizeof half);
    return static_cast<double>(f16_to_float(half));
  }

  void put_q8_0(TinyTensor& tensor, double size) {  // d, 32 int8
    const double d = scale(tensor, size / 74.0);
    for (int i = 0; i < 32; ++i) {
      const auto q = static_cast<int8_t>(byte());
      raw(tensor, &q, 1);
      tensor.values.push_back(d * q);
    }
  }
  void put_q5_0(TinyTensor& tensor, double size) {  // d, 32 fifth bits, 16 bytes: low nibbles are elements 0..15
    const double d = scale(tensor, size / 9.2);
    const auto high = static_cast<uint32_t>(random_());
    raw(tensor, &high, 4);
    uint8_t low[16];
    for (uint8_t& b : low) b = byte();
    raw(tensor, low, 16);
    for (int i = 0; i < 32; ++i) {
      const int nibble = i < 16 ? low[i] & 15 : low[i - 16] >> 4;
      tensor.values.push_back(d * ((nibble | static_cast<int>(high >> i & 1) << 4) - 16));
    }
  }
  void put_q4_k(TinyTensor& tensor,
                double size) {  // d, dmin, 12 bytes of 6-bit scales and minima, 128 bytes of nibbles
    const double d = scale(tensor, size / 170.0), dmin = scale(tensor, size / 23.0);
    uint8_t packed[12], low[128];
    for (uint8_t& b : packed) b = byte();
    for (uint8_t& b : low) b = byte();
    raw(tensor, packed, 12);
    raw(tensor, low, 128);
    for (int block = 0; block < 8; ++block) {
      const int j = block % 4;
      const int sc = block < 4 ? packed[j] & 63 : (packed[8 + j] & 15) | (packed[j] >> 6) << 4;
      const int m = block < 4 ? packed[4 + j] & 63 : packed[8 + j] >> 4 | (packed[4 + j] >> 6) << 4;
      for (int i = 0; i < 32; ++i) {
        const uint8_t b = low[block / 2 * 32 + i];
        tensor.values.push_back(d * sc * (block % 2 == 0 ? b & 15 : b >> 4) - dmin * m);
      }
    }
  }
  void put_q6_k(TinyTensor& tensor, double size) {  // 128 low nibbles, 64 bytes of high pairs, 16 int8 scales, d
    uint8_t low[128], high[64];
    int8_t scales[16];
    for (uint8_t& b : low) b = byte();
    for (uint8_t& b : high) b = byte();
    for (int8_t& s : scales) s = static_cast<int8_t>(byte());
    raw(tensor, low, 128);
    raw(tensor, high, 64);
    raw(tensor, scales, 16);
    const double d = scale(tensor, size / 1370.0);
    for (int i = 0; i < 256; ++i) {
      const int half = i / 128, quarter = i % 128 / 32, lane = i % 32;
      const uint8_t l = low[64 * half + 32 * (quarter % 2) + lane];
      const int q = (quarter < 2 ? l & 15 : l >> 4) | (high[32 * half + lane] >> (2 * quarter) & 3) << 4;
      tensor.values.push_back(d * scales[i / 16] * (q - 32));
    }
  }

  // A block of any quantised type. Its numbers are those that the library finds in it, which other tests compare with
  // gguf-py's.
  void put_block(TinyTensor& tensor, double size) {
    const WeightType type = weight_type_of(tensor.type).value();
    const auto count = static_cast<size_t>(panel_format(type).k_multiple());
    std::vector<uint8_t> block(source_row_bytes(type, static_cast<int64_t>(count)));
    for (uint8_t& b : block) b = byte();
    put_scales(type, 1.0f, 1.0f, block.data());
    double squares = 0.0;
    for (const double value : numbers_of(type, block)) squares += value * value;
    const double d = size / std::sqrt(squares / static_cast<double>(count)) * (1.0 + 0.3 * uniform());
    put_scales(type, static_cast<float>(d), static_cast<float>(d), block.data());
    raw(tensor, block.data(), block.size());
    for (const double value : numbers_of(type, block)) tensor.values.push_back(value);
  }
  static std::vector<double> numbers_of(WeightType type, const std::vector<uint8_t>& block) {
    const int64_t count = panel_format(type).k_multiple();
    std::vector<uint8_t> panel(packed_bytes(type, 1, count).value());
    pack_panels(type, block.data(), 1, count, 0, 1, panel.data());
    std::vector<float> row(static_cast<size_t>(count));
    unpack_row({type, 1, count, panel.data()}, 0, row.data());
    return {row.begin(), row.end()};
  }

  std::mt19937 random_;
};

}  // namespace kvass::testing
