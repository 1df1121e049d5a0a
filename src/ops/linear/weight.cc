#include "ops/linear/weight.h"

#include <array>
#include <cassert>
#include <cstring>
#include <string>

#include "kernels/linear/panel_reader.h"
#include "ops/linear/source_block_iq.h"
#include "ops/linear/source_block_low.h"

namespace kvass {
namespace {

template <class T>
void store(uint8_t* bytes, T value) {
  std::memcpy(bytes, &value, sizeof(T));
}

// (q + 128) >> 4
Quants high_nibbles(Quants q) {
  for (uint32_t& word : q.words) word = (word ^ 0x80808080u) >> 4 & 0x0f0f0f0fu;
  return q;
}

// The low nibbles of 32 quants, lane `lane` of a block.
void pack_nibbles(const Quants& q, int lane, uint8_t* block) {
  for (int g = 0; g < 4; ++g) {
    store(block + g * kGroupBytes + lane * 4, (q.words[g] & 0x0f0f0f0fu) | (q.words[g + 4] & 0x0f0f0f0fu) << 4);
  }
}

// Two bits of each, from bit `at` on.
void pack_two_bits(const Quants& q, int at, int lane, uint8_t* block) {
  for (int half = 0; half < 2; ++half) {
    uint32_t word = 0;
    for (int g = 0; g < 4; ++g) word |= (q.words[half * 4 + g] >> at & 0x03030303u) << 2 * g;
    store(block + half * kGroupBytes + lane * 4, word);
  }
}

template <WeightType kType>
void pack_quants(const Quants& q, int lane, uint8_t* block) {
  constexpr PanelFormat kFormat = panel_format(kType);
  if constexpr (kFormat.bits == 8) {
    for (int g = 0; g < 8; ++g) store(block + g * kGroupBytes + lane * 4, q.words[g]);
    return;
  }
  if constexpr (kFormat.low_bits() == 2) {
    pack_two_bits(q, 0, lane, block);
  } else {
    pack_nibbles(q, lane, block);
  }
  uint8_t* high = block + kFormat.high_bits_offset();
  if constexpr (kFormat.bits % 2 == 1) {
    uint32_t bits = 0;
    for (int g = 0; g < 8; ++g) bits |= (q.words[g] >> kFormat.low_bits() & 0x01010101u) << g;
    store(high + lane * 4, bits);
  }
  if constexpr (kFormat.bits == 6) pack_two_bits(q, 4, lane, high);
}

// `error` of Q8_0_split, the least n with n² at least 16 Σ (q − 16 high − 7.5)² over 32 quants, by what the sum lacks
// to its most: with l = q & 15 it is 16 (1800 − Σ l (15 − l)), and l (15 − l) at most 56.
constexpr int kMostLack = 32 * 56;
constexpr std::array<uint8_t, kMostLack + 1> kErrors = [] {
  std::array<uint8_t, kMostLack + 1> errors{};
  int n = 0;
  for (int lack = kMostLack; lack >= 0; --lack) {
    while (n * n < 16 * (1800 - lack)) ++n;
    errors[static_cast<size_t>(lack)] = static_cast<uint8_t>(n);
  }
  return errors;
}();

uint8_t error_of_high(const Quants& q) {
  uint8_t bytes[kBlock];
  std::memcpy(bytes, q.words, kBlock);
  int16_t lack = 0;
  for (uint8_t byte : bytes) {
    const auto low = static_cast<int16_t>(byte & 15);
    lack = static_cast<int16_t>(lack + low * (15 - low));
  }
  return kErrors[static_cast<size_t>(lack)];
}

// Row `lane` of a panel, from a source row.
template <WeightType kType>
void pack_row(const uint8_t* row, int64_t k, int lane, uint8_t* panel, [[maybe_unused]] uint8_t* low) {
  constexpr PanelFormat kFormat = panel_format(kType);
  [[maybe_unused]] uint8_t* errors = panel;
  panel += errors_bytes(kFormat, k);
  if constexpr (!kFormat.quantised) {
    constexpr int64_t kBytes = source_block_bytes(kType);
    for (int64_t i = 0; i < k; ++i) std::memcpy(panel + (i * kPanelOutputs + lane) * kBytes, row + i * kBytes, kBytes);
  } else {
    for (int64_t b = 0; b < k / kBlock; ++b) {
      using Source = SourceBlock<kType>;
      const int sub = static_cast<int>(b % kFormat.cell_blocks);
      uint8_t* cell = panel + b / kFormat.cell_blocks * kFormat.cell_bytes();
      const uint8_t* source = row + b / (kFormat.k_multiple() / kBlock) * source_block_bytes(kType);
      const Quants quants = Source::quants(source, kFormat.whole_cells() ? sub : 0);
      uint8_t* block = cell + kFormat.header_bytes + sub * kFormat.block_bytes;
      if constexpr (kFormat.split) {
        pack_nibbles(high_nibbles(quants), lane, block);
        pack_nibbles(quants, lane, low + b * kFormat.block_bytes);
        errors[b * kPanelOutputs + lane] = error_of_high(quants);
      } else {
        pack_quants<kType>(quants, lane, block);
      }
      Source::scales(source, sub, lane, cell);
    }
  }
}

// Weights of zero everywhere: the outputs beyond n and the end of a cell stay so.
void clear_panel(WeightType type, int64_t k, uint8_t* panel, uint8_t* low) {
  const PanelFormat format = panel_format(type);
  std::memset(panel, 0, static_cast<size_t>(panel_bytes(type, k)));
  if (!format.split) return;
  std::memset(low, 0, static_cast<size_t>(low_panel_bytes(type, k)));
  for (int64_t at = errors_bytes(format, k); at < panel_bytes(type, k); at += format.cell_bytes()) {
    std::memset(panel + at + format.header_bytes, 0x88, static_cast<size_t>(format.cell_blocks * format.block_bytes));
  }
}

Status check_shape(WeightType type, int64_t n, int64_t k) {
  const std::string what =
      std::string(weight_type_name(type)) + " weight of " + std::to_string(n) + " x " + std::to_string(k);
  if (n < 1 || k < 1) return bad_input(what, "at least one output and one input", "none");
  const int64_t multiple = panel_format(type).k_multiple();
  if (k % multiple != 0) {
    return bad_input(what, "rows of a multiple of " + std::to_string(multiple) + " elements", std::to_string(k));
  }
  constexpr int64_t kLargest = int64_t{1} << 48;  // elements; no type has more than 4 bytes and a little for one
  if (k > kLargest || n > kLargest / k) return bad_input(what, "at most 2^48 elements", "more");
  return Status();
}

}  // namespace

std::string_view weight_type_name(WeightType type) {
  constexpr std::string_view kNames[] = {
#define KVASS_WEIGHT_TYPE(name, number, elements, bytes, format) #name,
#define KVASS_PACKED_TYPE(name, source, format) #name,
#include "base/weight_types.inc"
  };
  return kNames[static_cast<int>(type)];
}

std::optional<WeightType> find_weight_type(std::string_view name) {
  for (const WeightType type : kWeightTypes) {
    if (weight_type_name(type) == name) return type;
  }
  return std::nullopt;
}

Result<size_t> packed_bytes(WeightType type, int64_t n, int64_t k) {
  KVASS_RETURN_IF_ERROR(check_shape(type, n, k));
  return static_cast<size_t>(matrix_bytes(type, n, k));
}

Result<size_t> source_bytes(WeightType type, int64_t n, int64_t k) {
  KVASS_RETURN_IF_ERROR(check_shape(type, n, k));
  return static_cast<size_t>(n) * source_row_bytes(type, k);
}

size_t source_row_bytes(WeightType type, int64_t k) {
  return static_cast<size_t>(k / panel_format(type).k_multiple()) * source_block_bytes(type);
}

void pack_panels(WeightType type, const uint8_t* source, int64_t n, int64_t k, int64_t panel_begin, int64_t panel_end,
                 uint8_t* out) {
  assert(panel_begin >= 0 && panel_end <= panel_count(n));
  const size_t row_bytes = source_row_bytes(type, k);
  const int64_t bytes = panel_bytes(type, k), low_bytes = low_panel_bytes(type, k);
  for (int64_t index = panel_begin; index < panel_end; ++index) {
    uint8_t* panel = out + index * bytes;
    uint8_t* low = out + panel_count(n) * bytes + index * low_bytes;
    const int64_t first = index * kPanelOutputs;
    const int64_t lanes = n - first < kPanelOutputs ? n - first : kPanelOutputs;
    clear_panel(type, k, panel, low);
    for_weight_type(type, [&]<WeightType kType>() {
      for (int64_t lane = 0; lane < lanes; ++lane) {
        pack_row<kType>(source + static_cast<size_t>(first + lane) * row_bytes, k, static_cast<int>(lane), panel, low);
      }
    });
  }
}

WeightType whole_type(WeightType type) {
  switch (type) {
#define KVASS_PACKED_TYPE(name, source, format) \
  case WeightType::name:                        \
    return WeightType::source;
#include "base/weight_types.inc"
    default:
      return type;
  }
}

void whole_panel(const PackedWeight& weight, int64_t index, uint8_t* out) {
  assert(index >= 0 && index < panel_count(weight.n));
  const PanelParts panel = panel_at(weight.type, weight.data, weight.n, weight.k, index);
  const WeightType type = whole_type(weight.type);
  const auto bytes = static_cast<size_t>(panel_bytes(type, weight.k));
  if (type == weight.type) {
    std::memcpy(out, panel.cells, bytes);
    return;
  }
  constexpr PanelFormat kSplit = panel_format(WeightType::Q8_0_split), kWhole = panel_format(WeightType::Q8_0);
  std::memset(out, 0, bytes);  // the end of a cell
  for (int64_t b = 0; b < weight.k / kBlock; ++b) {
    const int64_t cell = b / kWhole.cell_blocks, sub = b % kWhole.cell_blocks;
    const uint8_t* from = panel.cells + cell * kSplit.cell_bytes();
    uint8_t* to = out + cell * kWhole.cell_bytes();
    if (sub == 0) std::memcpy(to, from, static_cast<size_t>(kWhole.header_bytes));
    from += kSplit.header_bytes + sub * kSplit.block_bytes;
    to += kWhole.header_bytes + sub * kWhole.block_bytes;
    const uint8_t* low = panel.low + b * kSplit.block_bytes;
    for (int i = 0; i < kSplit.block_bytes; i += 4) {  // of groups 0 to 3, and of 4 to 7 in the high nibbles
      const uint32_t high_word = load_word<uint32_t>(from + i), low_word = load_word<uint32_t>(low + i);
      store(to + i, ((high_word & 0x0f0f0f0fu) << 4 | (low_word & 0x0f0f0f0fu)) ^ 0x80808080u);
      store(to + kSplit.block_bytes + i, ((high_word & 0xf0f0f0f0u) | (low_word >> 4 & 0x0f0f0f0fu)) ^ 0x80808080u);
    }
  }
}

void unpack_row(const PackedWeight& weight, int64_t row, float* out) {
  assert(row >= 0 && row < weight.n);
  const PanelParts panel = panel_at(weight.type, weight.data, weight.n, weight.k, row / kPanelOutputs);
  for_weight_type(weight.type, [&]<WeightType kType>() {
    const PanelReader<kType> reader(panel, static_cast<int>(row % kPanelOutputs));
    if constexpr (panel_format(kType).quantised) {
      for (int64_t k = 0; k < weight.k; ++k) out[k] = reader.weight(k / kBlock, static_cast<int>(k % kBlock));
    } else {
      for (int64_t k = 0; k < weight.k; ++k) out[k] = reader.element(k);
    }
  });
}

}  // namespace kvass
