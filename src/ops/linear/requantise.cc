#include "ops/linear/requantise.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "base/float16.h"

namespace kvass {
namespace {

constexpr WeightType kTypes[] = {WeightType::F32, WeightType::F16, WeightType::BF16, WeightType::Q8_0,
                                 WeightType::Q4_0};

void store(uint16_t half, uint8_t* out) { std::memcpy(out, &half, 2); }

// The nearest integer in [least, most]; halves away from 0, 0 for what is no number.
int quant(float value, int least, int most) {
  if (!(value > static_cast<float>(least))) return value <= static_cast<float>(least) ? least : 0;
  return static_cast<int>(std::min(std::round(value), static_cast<float>(most)));
}

void quantise_q8(const float* w, uint8_t* out) {
  float largest = 0.0f;
  for (int i = 0; i < kBlock; ++i) largest = std::max(largest, std::fabs(w[i]));
  const uint16_t half = float_to_f16_saturating(largest / 127.0f);
  const float d = f16_to_float(half);
  const float inverse = d > 0.0f ? 1.0f / d : 0.0f;
  store(half, out);
  for (int i = 0; i < kBlock; ++i) out[2 + i] = static_cast<uint8_t>(quant(w[i] * inverse, -127, 127));
}

void quantise_q4(const float* w, uint8_t* out) {
  float largest = 0.0f;
  for (int i = 0; i < kBlock; ++i) {
    if (std::fabs(w[i]) > std::fabs(largest)) largest = w[i];
  }
  const uint16_t half = float_to_f16_saturating(largest / -8.0f);
  const float d = f16_to_float(half);
  const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
  store(half, out);
  for (int i = 0; i < 16; ++i) {  // element i low, element i + 16 high
    const int low = quant(w[i] * inverse, -8, 7) + 8;
    const int high = quant(w[i + 16] * inverse, -8, 7) + 8;
    out[2 + i] = static_cast<uint8_t>(low | high << 4);
  }
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace

Result<WeightType> parse_weight_type(std::string_view text) {
  for (WeightType type : kTypes) {
    const std::string_view name = weight_type_name(type);
    if (std::equal(text.begin(), text.end(), name.begin(), name.end(),
                   [](char a, char b) { return lower(a) == lower(b); })) {
      return type;
    }
  }
  return bad_input("WeightOptions.type", "f32, f16, bf16, q8_0 or q4_0", "'" + std::string(text) + "'");
}

WeightType stored_type(WeightType source, int64_t k, std::optional<WeightType> wanted) {
  if (!wanted || *wanted == whole_type(source)) return source;
  return k % panel_format(*wanted).k_multiple() == 0 ? *wanted : source;
}

void quantise_row(WeightType type, const float* row, int64_t k, uint8_t* out) {
  switch (type) {
    case WeightType::F32:
      std::memcpy(out, row, static_cast<size_t>(k) * sizeof(float));
      return;
    case WeightType::F16:
      for (int64_t i = 0; i < k; ++i) store(float_to_f16_saturating(row[i]), out + 2 * i);
      return;
    case WeightType::BF16:
      for (int64_t i = 0; i < k; ++i) store(float_to_bf16(row[i]), out + 2 * i);
      return;
    case WeightType::Q8_0:
      for (int64_t b = 0; b < k / kBlock; ++b) quantise_q8(row + b * kBlock, out + b * 34);
      return;
    case WeightType::Q4_0:
      for (int64_t b = 0; b < k / kBlock; ++b) quantise_q4(row + b * kBlock, out + b * 18);
      return;
    default:
      assert(false && "a type that parse_weight_type gives");
  }
}

void requantise_panels(const PackedWeight& from, WeightType type, int64_t panel_begin, int64_t panel_end,
                       uint8_t* out) {
  const size_t row_bytes = source_row_bytes(type, from.k);
  std::vector<float> row(static_cast<size_t>(from.k));
  std::vector<uint8_t> rows(kPanelOutputs * row_bytes);
  for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
    const int64_t first = panel * kPanelOutputs;
    const int64_t lanes = std::min<int64_t>(kPanelOutputs, from.n - first);
    for (int64_t lane = 0; lane < lanes; ++lane) {
      unpack_row(from, first + lane, row.data());
      quantise_row(type, row.data(), from.k, rows.data() + static_cast<size_t>(lane) * row_bytes);
    }
    pack_panels(type, rows.data(), lanes, from.k, 0, 1, out + panel * panel_bytes(type, from.k));
  }
}

}  // namespace kvass
