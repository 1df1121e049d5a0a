#include "ops/linear/weight.h"

#include <array>
#include <bit>
#include <cassert>
#include <cstring>
#include <string>

#include "kernels/linear/panel_reader.h"

namespace kvass {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF blocks and panels are read as little-endian words");

template <class T>
T load(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

template <class T>
void store(uint8_t* bytes, T value) {
  std::memcpy(bytes, &value, sizeof(T));
}

// Bytes of a block of the file: 32 elements, or 256 of a K-quant. One element for the float types.
constexpr size_t source_block_bytes(WeightType type) {
  switch (type) {
    case WeightType::F32:
      return 4;
    case WeightType::F16:
    case WeightType::BF16:
      return 2;
    case WeightType::Q8_0:
    case WeightType::Q8_0_split:
      return 2 + 32;
    case WeightType::Q4_0:
      return 2 + 16;
    case WeightType::Q4_1:
      return 4 + 16;
    case WeightType::Q5_0:
      return 2 + 4 + 16;
    case WeightType::Q5_1:
      return 4 + 4 + 16;
    case WeightType::Q4_K:
      return 4 + 12 + 128;
    case WeightType::Q5_K:
      return 4 + 12 + 32 + 128;
    case WeightType::Q6_K:
      return 128 + 64 + 16 + 2;
  }
  return 0;
}

// 32 quants of one row: word g holds the bytes of k's 4 g to 4 g + 3.
struct Quants {
  uint32_t words[8];
};

// Four bits to four bytes of 0 or 1.
constexpr uint32_t spread(uint32_t bits) { return (bits & 15u) * 0x00204081u & 0x01010101u; }

// The quants of block `sub` of a source block, as stored (offset not taken off).
template <WeightType kType>
Quants source_quants(const uint8_t* block, int sub) {
  constexpr PanelFormat kFormat = panel_format(kType);
  Quants out;
  if constexpr (kFormat.bits == 8) {
    std::memcpy(out.words, block + 2, 32);
  } else if constexpr (!kFormat.k_quant) {  // byte j: element j low, element j + 16 high
    const uint8_t* nibbles = block + source_block_bytes(kType) - 16;
    for (int i = 0; i < 4; ++i) {
      const uint32_t word = load<uint32_t>(nibbles + 4 * i);
      out.words[i] = word & 0x0f0f0f0fu;
      out.words[i + 4] = word >> 4 & 0x0f0f0f0fu;
    }
    if constexpr (kFormat.bits == 5) {
      const uint32_t high = load<uint32_t>(nibbles - 4);  // bit j: element j
      for (int g = 0; g < 8; ++g) out.words[g] |= spread(high >> 4 * g) << 4;
    }
  } else if constexpr (kType == WeightType::Q6_K) {
    // Of each 128 elements: 64 bytes of nibbles, low ones for the first 64 elements; 32 bytes with 2 bits for each 32.
    const int quarter = sub % 4;
    const uint8_t* nibbles = block + sub / 4 * 64 + quarter % 2 * 32;
    const uint8_t* high = block + 128 + sub / 4 * 32;
    for (int g = 0; g < 8; ++g) {
      const uint32_t low_bits = load<uint32_t>(nibbles + 4 * g) >> quarter / 2 * 4 & 0x0f0f0f0fu;
      out.words[g] = low_bits | (load<uint32_t>(high + 4 * g) >> quarter * 2 & 0x03030303u) << 4;
    }
  } else {  // of each 64 elements 32 bytes: low nibbles, then high ones; fifth bits in 32 bytes, bit `sub` for block
            // `sub`
    const uint8_t* nibbles = block + source_block_bytes(kType) - 128 + sub / 2 * 32;
    for (int g = 0; g < 8; ++g) {
      out.words[g] = load<uint32_t>(nibbles + 4 * g) >> sub % 2 * 4 & 0x0f0f0f0fu;
      if constexpr (kFormat.bits == 5) {
        out.words[g] |= (load<uint32_t>(block + 16 + 4 * g) >> sub & 0x01010101u) << 4;
      }
    }
  }
  return out;
}

// The 6-bit scale and minimum of block `sub` of a Q4_K or Q5_K superblock: eight of each in 12 bytes.
void six_bit_scales(const uint8_t* packed, int sub, uint8_t* scale, uint8_t* minimum) {
  if (sub < 4) {
    *scale = packed[sub] & 63;
    *minimum = packed[sub + 4] & 63;
  } else {
    *scale = static_cast<uint8_t>((packed[sub + 4] & 15) | packed[sub - 4] >> 6 << 4);
    *minimum = static_cast<uint8_t>(packed[sub + 4] >> 4 | packed[sub] >> 6 << 4);
  }
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

template <WeightType kType>
void pack_quants(const Quants& q, int lane, uint8_t* block) {
  constexpr PanelFormat kFormat = panel_format(kType);
  uint8_t* out = block + lane * 4;
  if constexpr (kFormat.bits == 8) {
    for (int g = 0; g < 8; ++g) store(out + g * kGroupBytes, q.words[g]);
    return;
  }
  pack_nibbles(q, lane, block);
  if constexpr (kFormat.bits == 5) {
    uint32_t fifth = 0;
    for (int g = 0; g < 8; ++g) fifth |= (q.words[g] >> 4 & 0x01010101u) << g;
    store(out + kHighBitsOffset, fifth);
  }
  if constexpr (kFormat.bits == 6) {
    for (int half = 0; half < 2; ++half) {
      uint32_t high = 0;
      for (int g = 0; g < 4; ++g) high |= (q.words[half * 4 + g] >> 4 & 0x03030303u) << 2 * g;
      store(out + kHighBitsOffset + half * kGroupBytes, high);
    }
  }
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
      const int sub = static_cast<int>(b % kFormat.cell_blocks);
      uint8_t* cell = panel + b / kFormat.cell_blocks * kFormat.cell_bytes();
      uint8_t* scales = cell + kSubScaleOffset + lane;
      const uint8_t* source = row + b / (kFormat.k_quant ? 8 : 1) * source_block_bytes(kType);
      const Quants quants = source_quants<kType>(source, kFormat.k_quant ? sub : 0);
      uint8_t* block = cell + kFormat.header_bytes + sub * kFormat.block_bytes;
      if constexpr (kFormat.split) {
        pack_nibbles(high_nibbles(quants), lane, block);
        pack_nibbles(quants, lane, low + b * kFormat.block_bytes);
        errors[b * kPanelOutputs + lane] = error_of_high(quants);
      } else {
        pack_quants<kType>(quants, lane, block);
      }
      if constexpr (!kFormat.k_quant) {
        const int at = (sub * kPanelOutputs + lane) * 2;
        std::memcpy(cell + at, source, 2);
        if constexpr (kFormat.minimum) std::memcpy(cell + kMinimumOffset + at, source + 2, 2);
      } else if constexpr (kType == WeightType::Q6_K) {
        std::memcpy(cell + lane * 2, source + 208, 2);
        for (int half = 0; half < 2; ++half) scales[(sub * 2 + half) * kPanelOutputs] = source[192 + sub * 2 + half];
      } else {
        std::memcpy(cell + lane * 2, source, 2);
        std::memcpy(cell + kSuperMinimumOffset + lane * 2, source + 2, 2);
        six_bit_scales(source + 4, sub, &scales[sub * kPanelOutputs],
                       &cell[kSubMinimumOffset + sub * kPanelOutputs + lane]);
      }
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
  constexpr std::string_view kNames[] = {"F32",  "F16",  "BF16", "Q8_0", "Q4_0", "Q4_1",
                                         "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K", "Q8_0_split"};
  return kNames[static_cast<int>(type)];
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
    visit_weight_type(type, [&]<WeightType kType>() {
      for (int64_t lane = 0; lane < lanes; ++lane) {
        pack_row<kType>(source + static_cast<size_t>(first + lane) * row_bytes, k, static_cast<int>(lane), panel, low);
      }
    });
  }
}

WeightType whole_type(WeightType type) { return type == WeightType::Q8_0_split ? WeightType::Q8_0 : type; }

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
      const uint32_t high_word = load<uint32_t>(from + i), low_word = load<uint32_t>(low + i);
      store(to + i, ((high_word & 0x0f0f0f0fu) << 4 | (low_word & 0x0f0f0f0fu)) ^ 0x80808080u);
      store(to + kSplit.block_bytes + i, ((high_word & 0xf0f0f0f0u) | (low_word >> 4 & 0x0f0f0f0fu)) ^ 0x80808080u);
    }
  }
}

void unpack_row(const PackedWeight& weight, int64_t row, float* out) {
  assert(row >= 0 && row < weight.n);
  const PanelParts panel = panel_at(weight.type, weight.data, weight.n, weight.k, row / kPanelOutputs);
  visit_weight_type(weight.type, [&]<WeightType kType>() {
    const PanelReader<kType> reader(panel, static_cast<int>(row % kPanelOutputs));
    if constexpr (panel_format(kType).quantised) {
      for (int64_t k = 0; k < weight.k; ++k) out[k] = reader.weight(k / kBlock, static_cast<int>(k % kBlock));
    } else {
      for (int64_t k = 0; k < weight.k; ++k) out[k] = reader.element(k);
    }
  });
}

}  // namespace kvass
