#include "file/tensor_source.h"

#include <cassert>
#include <cstring>
#include <utility>

#include "base/float16.h"

namespace kvass {

bool SourceTensor::read_rows(int64_t first, int64_t count, float* out) const {
  assert(first >= 0 && count >= 0 && first + count <= rows());
  const auto width = static_cast<size_t>(row_elements());
  const size_t begin = static_cast<size_t>(first) * width;
  const size_t total = static_cast<size_t>(count) * width;
  if (is_int8()) {
    for (size_t row = 0; row < static_cast<size_t>(count); ++row) {
      float scale = 0.0f;
      std::memcpy(&scale, row_scales.data() + (static_cast<size_t>(first) + row) * sizeof scale, sizeof scale);
      const uint8_t* const source = data.data() + begin + row * width;
      for (size_t i = 0; i < width; ++i) {
        out[row * width + i] = static_cast<float>(static_cast<int8_t>(source[i])) / scale;
      }
    }
    return true;
  }
  if (type == GgmlType::F32) {
    if (total > 0) std::memcpy(out, data.data() + begin * sizeof(float), total * sizeof(float));
    return true;
  }
  if (type != GgmlType::F16 && type != GgmlType::BF16) return false;
  for (size_t i = 0; i < total; ++i) {
    uint16_t bits = 0;
    std::memcpy(&bits, data.data() + (begin + i) * sizeof bits, sizeof bits);
    out[i] = type == GgmlType::F16 ? f16_to_float(bits) : bf16_to_float(bits);
  }
  return true;
}

SourceTensor SourceTensor::slice(int64_t first, int64_t count, std::string slice_name) const {
  assert(!shape.empty() && first >= 0 && count >= 0 && first + count <= rows());
  SourceTensor out;
  out.name = std::move(slice_name);
  out.type = type;
  out.shape = shape;
  out.shape[0] = count;
  const size_t row_bytes = rows() == 0 ? 0 : data.size() / static_cast<size_t>(rows());
  out.data = data.subspan(static_cast<size_t>(first) * row_bytes, static_cast<size_t>(count) * row_bytes);
  if (is_int8()) out.row_scales = row_scales.subspan(static_cast<size_t>(first) * 4, static_cast<size_t>(count) * 4);
  return out;
}

}  // namespace kvass
