// The checks that every operator makes of a view before it starts: rank, sizes, memory, no overlap with its outputs.
// Messages name the argument, the expected shape and the given shape.
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

  Status bad(std::string_view expected) const;  // "got" is the shape
  Status bad(std::string_view expected, std::string_view got) const;
  // Checks that the view has rank `rank`, sizes that are not negative and fit into memory, and aligned data.
  Status check(int rank) const;
  // Checks the sizes. `form` describes them in messages: "[B, Hkv, Skv, D] = [1, 4, 8, 64]".
  Status check_shape(std::initializer_list<int64_t> sizes, std::string_view form) const;
  Status check_dtype(DType dtype, std::string_view of) const;
  Status check_device(Device device) const;
};

// True if two views may share a byte. Exact for disjoint ranges and for slices of one tensor; otherwise true in case of
// doubt.
bool overlap(const ConstTensor& a, const ConstTensor& b);
// True if two indices of a view may share a byte.
bool overlaps_itself(const ConstTensor& tensor);

// A view [rows, bytes] of plain memory, for the checks of this header.
ConstTensor bytes_view(const void* data, int64_t rows, int64_t row_bytes, int64_t row_stride, int64_t byte_stride);

inline const uint8_t* element(const ConstTensor& t, int64_t a, int64_t b, int64_t c) {
  const int64_t elements = a * t.strides[0] + b * t.strides[1] + c * t.strides[2];
  return static_cast<const uint8_t*>(t.data) + elements * static_cast<int64_t>(dtype_bytes(t.dtype));
}

// Reads and writes `count` elements that are `stride` apart, as float32. Writing rounds once, to nearest even.
void load_elements(const uint8_t* from, DType dtype, int64_t stride, int64_t count, float* to);
void store_elements(const float* from, int64_t count, DType dtype, int64_t stride, uint8_t* to);

}  // namespace kvass
