// Packed weights: from the rows of a GGUF tensor to the panels that the linear kernels read, and single rows back. The
// panel format itself is kernels/linear/panel_format.h. Not a file reader: sizes and types are the caller's, checked
// here. Owns nothing: a PackedWeight is a view; the caller holds the bytes, 64-byte aligned, as long as it is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "kernels/linear/panel_format.h"
#include "kvass/status.h"

namespace kvass {

struct PackedWeight {
  WeightType type = WeightType::F32;
  int64_t n = 0;                  // outputs: rows of the source
  int64_t k = 0;                  // inputs: elements of a row
  const uint8_t* data = nullptr;  // matrix_bytes(type, n, k) as panel_at reads them, 64-byte aligned
};

// Every type, in the order of base/weight_types.inc.
inline constexpr WeightType kWeightTypes[] = {
#define KVASS_WEIGHT_TYPE(name, number, elements, bytes, format) WeightType::name,
#define KVASS_PACKED_TYPE(name, source, format) WeightType::name,
#include "base/weight_types.inc"
};
std::string_view weight_type_name(WeightType type);
std::optional<WeightType> find_weight_type(std::string_view name);

// Bytes of a packed weight [n][k], a multiple of 64. Error: n or k below 1, k not a multiple of the type's block, too
// large.
Result<size_t> packed_bytes(WeightType type, int64_t n, int64_t k);

// Bytes of the source tensor: n rows of k elements in the file's own blocks. Errors as packed_bytes.
Result<size_t> source_bytes(WeightType type, int64_t n, int64_t k);

// Bytes of one source row of a shape that packed_bytes accepts.
size_t source_row_bytes(WeightType type, int64_t k);

// Packs panels [panel_begin, panel_end) of an [n][k] source (GGUF, row after row; any alignment) to where panel_at
// finds them in the matrix `out`. Q8_0_split has the source of Q8_0. Panel p reads the source rows [16 p, 16 p + 16)
// and no others, so ranges can be packed in parallel and their source pages given back. The shape is one that
// packed_bytes accepts.
void pack_panels(WeightType type, const uint8_t* source, int64_t n, int64_t k, int64_t panel_begin, int64_t panel_end,
                 uint8_t* out);

// The type that has the weights of such a panel in one piece: Q8_0 for Q8_0_split, every other itself. `whole_panel`
// makes panel `index` of it: out [panel_bytes(whole_type(weight.type), k)].
WeightType whole_type(WeightType type);
void whole_panel(const PackedWeight& weight, int64_t index, uint8_t* out);

// out [k] = row `row` of the weight, dequantised as the file's type defines it.
void unpack_row(const PackedWeight& weight, int64_t row, float* out);

}  // namespace kvass
