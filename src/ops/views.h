// What every operator asks of a view before it starts: rank, sizes, memory, no overlap with what it writes. Messages
// name the argument, what was expected and the shape that was got.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "kvass/status.h"
#include "kvass/tensor.h"

namespace kvass {

std::string shape_text(const ConstTensor& tensor);  // "[1, 4, 2, 64]"

// The argument `name` of operator `op`.
struct Argument {
  std::string_view op;
  std::string_view name;
  ConstTensor tensor;

  Status bad(std::string_view expected) const;  // got: the shape
  Status bad(std::string_view expected, std::string_view got) const;
  // Rank `rank`, sizes that are not negative and fit in memory, elements that are there and aligned.
  Status check(int rank) const;
  // The sizes; `form` says them in words: "[B, Hkv, Skv, D] = [1, 4, 8, 64]".
  Status check_shape(std::initializer_list<int64_t> sizes, std::string_view form) const;
  Status check_dtype(DType dtype, std::string_view of) const;
  Status check_device(Device device) const;
};

// Whether two views may share a byte: exact for disjoint ranges and for slices of one tensor, otherwise on the safe
// side.
bool overlap(const ConstTensor& a, const ConstTensor& b);
// Whether an index may share a byte with another.
bool overlaps_itself(const ConstTensor& tensor);

// A view of plain memory, so that it can be asked about as the tensors are: [rows, bytes].
ConstTensor bytes_view(const void* data, int64_t rows, int64_t row_bytes, int64_t row_stride, int64_t byte_stride);

inline const uint8_t* element(const ConstTensor& t, int64_t a, int64_t b, int64_t c) {
  const int64_t elements = a * t.strides[0] + b * t.strides[1] + c * t.strides[2];
  return static_cast<const uint8_t*>(t.data) + elements * static_cast<int64_t>(dtype_bytes(t.dtype));
}

// Reads and writes `count` elements that are `stride` apart, as float32. Writing rounds once, to nearest even.
void load_elements(const uint8_t* from, DType dtype, int64_t stride, int64_t count, float* to);
void store_elements(const float* from, int64_t count, DType dtype, int64_t stride, uint8_t* to);

}  // namespace kvass
