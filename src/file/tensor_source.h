// Where a model's weights come from, whatever the format: tensors by name, as views into the file's bytes. Not a model:
// it knows no architecture and converts nothing that is not asked for. Ct2Model, SafeTensorsSource and GgmlModel are
// sources; each owns its mapping, and tensors live as long as it does.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "file/gguf.h"
#include "kvass/status.h"

namespace kvass {

struct SourceTensor {
  std::string name;
  GgmlType type{};                      // of the data, unless row_scales says that they are int8
  std::vector<int64_t> shape;           // outermost first; empty: a scalar
  std::span<const uint8_t> data;        // row-major, little-endian, at any address
  std::span<const uint8_t> row_scales;  // int8 data: float32 [shape[0]], value = int8 / scale; empty for other types

  bool is_int8() const { return !row_scales.empty(); }
  int64_t rows() const { return shape.empty() ? 1 : shape[0]; }
  int64_t elements() const {
    int64_t count = 1;
    for (int64_t size : shape) count *= size;
    return count;
  }
  int64_t row_elements() const { return rows() == 0 ? 0 : elements() / rows(); }

  // Rows [first, first + count) as float32, row_elements() each, into out. Types f32, f16, bf16 and int8; the others
  // are blocks, which ops/linear unpacks: false.
  bool read_rows(int64_t first, int64_t count, float* out) const;
  // The rows [first, first + count) as a tensor of its own, over the same bytes.
  SourceTensor slice(int64_t first, int64_t count, std::string slice_name) const;
};

class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual const std::string& name() const = 0;  // the file, for messages
  virtual bool has(std::string_view tensor) const = 0;
  // Error: the file has no such tensor, or it is not of the form that its name promises.
  virtual Result<SourceTensor> tensor(std::string_view tensor) const = 0;
  virtual std::vector<std::string> names() const = 0;  // sorted
  // Gives back the mapped pages of these bytes of a tensor; they would be read anew.
  virtual void release(std::span<const uint8_t> bytes) const = 0;
};

}  // namespace kvass
