// The weights of a model file in any format: tensors by name, as views into the file's bytes. Not a model: it knows no
// architecture and converts only what is asked for. Ct2Model, SafeTensorsSource and GgmlSpeech are sources; each owns
// its mapping, and its tensors live as long as the source does.
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
  GgmlType type{};                      // of the data; not used if row_scales is set: the data is then int8
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

  // Writes rows [first, first + count) as float32 to out, row_elements() each. False for types other than f32, f16,
  // bf16 and int8: these are blocks, which ops/linear unpacks.
  bool read_rows(int64_t first, int64_t count, float* out) const;
  // Rows [first, first + count) as a tensor over the same bytes.
  SourceTensor slice(int64_t first, int64_t count, std::string slice_name) const;
};

class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual const std::string& name() const = 0;  // the file, for messages
  virtual bool has(std::string_view tensor) const = 0;
  // Error: the file has no such tensor, or the tensor's shape or type does not fit its name.
  virtual Result<SourceTensor> tensor(std::string_view tensor) const = 0;
  virtual std::vector<std::string> names() const = 0;  // sorted
  // FileMap::check() of the file: to be asked after data was read and before it is used.
  virtual Status check() const = 0;
  // Releases the mapped pages of these bytes of a tensor. A later access reads them again.
  virtual void release(std::span<const uint8_t> bytes) const = 0;
};

}  // namespace kvass
