#include "model/rows.h"

#include <algorithm>
#include <cstring>

#include "model/model.h"
#include "ops/linear/requantise.h"
#include "ops/linear/weight.h"

namespace kvass {

void unpack_rows(const GgufTensor& tensor, int64_t first, int64_t count, float* out) {
  const int64_t k = tensor.row_elements();
  std::vector<uint8_t> scratch;
  if (tensor.type == GgmlType::F32) {
    const size_t bytes = static_cast<size_t>(count * k) * sizeof(float);
    if (bytes > 0) std::memcpy(out, tensor.rows_at(first, count, scratch), bytes);
    return;
  }
  const WeightType type = weight_type_of(tensor.type).value();
  const auto size = static_cast<size_t>(panel_bytes(type, k));
  std::vector<uint8_t> bytes(size + 64);
  uint8_t* const panel = bytes.data() + (64 - reinterpret_cast<uintptr_t>(bytes.data()) % 64) % 64;
  for (int64_t begin = 0; begin < count; begin += kPanelOutputs) {
    const int64_t rows = std::min<int64_t>(kPanelOutputs, count - begin);
    pack_panels(type, tensor.rows_at(first + begin, rows, scratch), rows, k, 0, 1, panel);
    for (int64_t i = 0; i < rows; ++i) unpack_row({type, rows, k, panel}, i, out + (begin + i) * k);
  }
}

void convert_rows(const GgufTensor& tensor, WeightType type, int64_t first, int64_t count, uint8_t* out) {
  std::vector<uint8_t> scratch;
  if (type == weight_type_of(tensor.type).value()) {
    std::memcpy(out, tensor.rows_at(first, count, scratch), static_cast<size_t>(count) * tensor.row_bytes());
    return;
  }
  const int64_t k = tensor.row_elements();
  std::vector<float> row(static_cast<size_t>(count * k));
  unpack_rows(tensor, first, count, row.data());
  const size_t bytes = source_row_bytes(type, k);
  for (int64_t i = 0; i < count; ++i) quantise_row(type, row.data() + i * k, k, out + static_cast<size_t>(i) * bytes);
}

}  // namespace kvass
