#include "ops/linear/requantise.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <iterator>
#include <string>
#include <vector>

#include "base/float16.h"
#include "ops/linear/source_block.h"

namespace kvass {
namespace {

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

// The types that weights can be made of: how a row becomes one, k of whole blocks.
struct Quantiser {
  WeightType type;
  void (*quantise_row)(const float* row, int64_t k, uint8_t* out);
};

void copy_row(const float* row, int64_t k, uint8_t* out) {
  std::memcpy(out, row, static_cast<size_t>(k) * sizeof(float));
}
template <uint16_t (*kRound)(float)>
void round_row(const float* row, int64_t k, uint8_t* out) {
  for (int64_t i = 0; i < k; ++i) store(kRound(row[i]), out + 2 * i);
}
template <WeightType kType, void (*kQuantise)(const float* w, uint8_t* out)>
void quantise_blocks(const float* row, int64_t k, uint8_t* out) {
  constexpr auto kBytes = static_cast<int64_t>(source_block_bytes(kType));
  for (int64_t b = 0; b < k / kBlock; ++b) kQuantise(row + b * kBlock, out + b * kBytes);
}

constexpr Quantiser kQuantisers[] = {
    {WeightType::F32, copy_row},
    {WeightType::F16, round_row<float_to_f16_saturating>},
    {WeightType::BF16, round_row<float_to_bf16>},
    {WeightType::Q8_0, quantise_blocks<WeightType::Q8_0, quantise_q8>},
    {WeightType::Q4_0, quantise_blocks<WeightType::Q4_0, quantise_q4>},
};

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

}  // namespace

Result<WeightType> parse_weight_type(std::string_view text, std::string_view field) {
  std::string known;
  for (const Quantiser& quantiser : kQuantisers) {
    const std::string name = lower(weight_type_name(quantiser.type));
    if (lower(text) == name) return quantiser.type;
    if (!known.empty()) known += &quantiser == std::end(kQuantisers) - 1 ? " or " : ", ";
    known += name;
  }
  return bad_input(field, known, "'" + std::string(text) + "'");
}

WeightType stored_type(WeightType source, int64_t k, std::optional<WeightType> wanted) {
  if (!wanted || *wanted == whole_type(source)) return source;
  return k % panel_format(*wanted).k_multiple() == 0 ? *wanted : source;
}

void quantise_row(WeightType type, const float* row, int64_t k, uint8_t* out) {
  for (const Quantiser& quantiser : kQuantisers) {
    if (quantiser.type == type) return quantiser.quantise_row(row, k, out);
  }
  assert(false && "a type that parse_weight_type gives");
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
