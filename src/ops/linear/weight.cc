#include "ops/linear/weight.h"

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
  if constexpr (kType == WeightType::Q8_0) {
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

template <WeightType kType>
void pack_quants(const Quants& q, int lane, uint8_t* block) {
  constexpr PanelFormat kFormat = panel_format(kType);
  uint8_t* out = block + lane * 4;
  if constexpr (kFormat.bits == 8) {
    for (int g = 0; g < 8; ++g) store(out + g * kGroupBytes, q.words[g]);
    return;
  }
  for (int g = 0; g < 4; ++g) {
    store(out + g * kGroupBytes, (q.words[g] & 0x0f0f0f0fu) | (q.words[g + 4] & 0x0f0f0f0fu) << 4);
  }
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

// Row `lane` of a panel, from a source row.
template <WeightType kType>
void pack_row(const uint8_t* row, int64_t k, int lane, uint8_t* panel) {
  constexpr PanelFormat kFormat = panel_format(kType);
  if constexpr (!kFormat.quantised) {
    constexpr int64_t kBytes = source_block_bytes(kType);
    for (int64_t i = 0; i < k; ++i) std::memcpy(panel + (i * kPanelOutputs + lane) * kBytes, row + i * kBytes, kBytes);
  } else {
    for (int64_t b = 0; b < k / kBlock; ++b) {
      const int sub = static_cast<int>(b % kFormat.cell_blocks);
      uint8_t* cell = panel + b / kFormat.cell_blocks * kFormat.cell_bytes();
      uint8_t* scales = cell + kSubScaleOffset + lane;
      const uint8_t* source = row + b / (kFormat.k_quant ? 8 : 1) * source_block_bytes(kType);
      pack_quants<kType>(source_quants<kType>(source, kFormat.k_quant ? sub : 0), lane,
                         cell + kFormat.header_bytes + sub * kFormat.block_bytes);
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
                                         "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"};
  return kNames[static_cast<int>(type)];
}

Result<size_t> packed_bytes(WeightType type, int64_t n, int64_t k) {
  KVASS_RETURN_IF_ERROR(check_shape(type, n, k));
  return static_cast<size_t>(panel_count(n) * panel_bytes(type, k));
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
  const int64_t bytes = panel_bytes(type, k);
  for (int64_t index = panel_begin; index < panel_end; ++index) {
    uint8_t* panel = out + index * bytes;
    const int64_t first = index * kPanelOutputs;
    const int64_t lanes = n - first < kPanelOutputs ? n - first : kPanelOutputs;
    std::memset(panel, 0, static_cast<size_t>(bytes));  // padding: outputs beyond n, the end of a cell
    visit_weight_type(type, [&]<WeightType kType>() {
      for (int64_t lane = 0; lane < lanes; ++lane) {
        pack_row<kType>(source + static_cast<size_t>(first + lane) * row_bytes, k, static_cast<int>(lane), panel);
      }
    });
  }
}

void unpack_row(const PackedWeight& weight, int64_t row, float* out) {
  assert(row >= 0 && row < weight.n);
  const uint8_t* panel = weight.data + row / kPanelOutputs * panel_bytes(weight.type, weight.k);
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
