#include "ops/views.h"

#include <algorithm>
#include <array>

#include "base/check_enum.h"
#include "base/float16.h"

namespace kvass {
namespace {

struct Dimension {
  uint64_t size = 1;
  uint64_t stride = 0;  // bytes
};

// The bytes of a view: [begin, begin + extent), where the strides are positive and only dimensions that move are kept.
struct Region {
  uintptr_t begin = 0;
  uint64_t element = 1;  // bytes
  std::array<Dimension, kMaxRank> dimensions;
  int rank = 0;
  bool empty = false;

  explicit Region(const ConstTensor& t) : begin(reinterpret_cast<uintptr_t>(t.data)), element(dtype_bytes(t.dtype)) {
    for (int i = 0; i < t.rank; ++i) {
      const auto at = static_cast<size_t>(i);
      if (t.shape[at] == 0) empty = true;
      if (t.shape[at] <= 1 || t.strides[at] == 0) continue;
      const int64_t stride = t.strides[at] * static_cast<int64_t>(element);
      if (stride < 0) begin += static_cast<uintptr_t>(stride * (t.shape[at] - 1));
      const Dimension moving{static_cast<uint64_t>(t.shape[at]), static_cast<uint64_t>(stride < 0 ? -stride : stride)};
      auto to = static_cast<size_t>(rank++);  // by stride, ascending
      for (; to > 0 && dimensions[to - 1].stride > moving.stride; --to) dimensions[to] = dimensions[to - 1];
      dimensions[to] = moving;
    }
  }
  // Bytes that the dimensions span whose stride is not a multiple of `modulus` (0: all dimensions).
  uint64_t extent(uint64_t modulus) const {
    uint64_t bytes = element;
    for (int i = 0; i < rank; ++i) {
      const Dimension& d = dimensions[static_cast<size_t>(i)];
      if (modulus == 0 || d.stride % modulus != 0) bytes += (d.size - 1) * d.stride;
    }
    return bytes;
  }
};

// True if both regions repeat with period `modulus` and cover disjoint parts of the period.
bool apart(const Region& a, const Region& b, uint64_t modulus) {
  const uint64_t a_bytes = a.extent(modulus);
  const uint64_t b_bytes = b.extent(modulus);
  if (a_bytes > modulus || b_bytes > modulus) return false;
  const uint64_t a_first = a.begin % modulus;
  const uint64_t b_first = b.begin % modulus;
  return (b_first + modulus - a_first) % modulus >= a_bytes && (a_first + modulus - b_first) % modulus >= b_bytes;
}

}  // namespace

std::string shape_text(const ConstTensor& tensor) {
  if (!tensor.data && tensor.rank == 0) return "no tensor";
  std::string text = "[";
  for (int i = 0; i < std::min(tensor.rank, kMaxRank); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(tensor.shape[static_cast<size_t>(i)]);
  }
  return text + (tensor.rank > kMaxRank ? ", …]" : "]");
}

Status Argument::bad(std::string_view expected) const { return bad(expected, shape_text(tensor)); }
Status Argument::bad(std::string_view expected, std::string_view got) const {
  return bad_input(std::string(op) + ": " + std::string(name), expected, got);
}

Status Argument::check(int rank) const {
  for (const Status& known :
       {check_enum("dtype", tensor.dtype, dtype_name), check_enum("device", tensor.device, device_name)}) {
    if (!known.ok()) return known.with_message(std::string(op) + ": " + std::string(name) + "." + known.message());
  }
  if (tensor.dtype == DType::q8) return bad("f32, f16 or bf16", "q8, which only caches have");
  if (tensor.rank != rank) return bad(std::to_string(rank) + " dimensions");
  int64_t reach = 1;
  bool empty = false;
  for (int i = 0; i < rank; ++i) {
    const auto at = static_cast<size_t>(i);
    if (tensor.shape[at] < 0) return bad("sizes that are not negative");
    if (tensor.shape[at] == 0) empty = true;
  }
  if (empty) return {};
  for (int i = 0; i < rank; ++i) {
    const auto at = static_cast<size_t>(i);
    constexpr int64_t kMost = int64_t{1} << 56;
    int64_t steps = 0;
    const int64_t stride = tensor.strides[at] < -kMost ? kMost : std::abs(tensor.strides[at]);
    if (tensor.shape[at] > kMost || __builtin_mul_overflow(tensor.shape[at] - 1, stride, &steps) ||
        __builtin_add_overflow(reach, steps, &reach) || reach > kMost) {
      return bad("a size that fits in memory");
    }
  }
  if (!tensor.data) return bad("elements", "a null pointer of shape " + shape_text(tensor));
  if (reinterpret_cast<uintptr_t>(tensor.data) % dtype_bytes(tensor.dtype) != 0) {
    return bad("memory aligned to its elements", "an address that is not, of shape " + shape_text(tensor));
  }
  return {};
}

Status Argument::check_shape(std::initializer_list<int64_t> sizes, std::string_view form) const {
  KVASS_RETURN_IF_ERROR(check(static_cast<int>(sizes.size())));
  if (std::equal(sizes.begin(), sizes.end(), tensor.shape.begin())) return {};
  std::string expected(form);
  expected += " = [";
  for (const int64_t size : sizes) expected += (expected.back() == '[' ? "" : ", ") + std::to_string(size);
  return bad(expected + "]");
}

Status Argument::check_dtype(DType dtype, std::string_view of) const {
  if (tensor.dtype == dtype) return {};
  return bad(std::string(dtype_name(dtype)) + " (" + std::string(of) + ")",
             std::string(dtype_name(tensor.dtype)) + " of shape " + shape_text(tensor));
}

Status Argument::check_device(Device device) const {
  if (tensor.device == device) return {};
  return bad("memory on " + std::string(device_name(device)), device_name(tensor.device));
}

bool overlap(const ConstTensor& a, const ConstTensor& b) {
  if (!a.data || !b.data) return false;
  const Region x(a);
  const Region y(b);
  if (x.empty || y.empty) return false;
  if (x.begin + x.extent(0) <= y.begin || y.begin + y.extent(0) <= x.begin) return false;
  for (const Region* region : {&x, &y}) {
    for (int i = 0; i < region->rank; ++i) {
      if (apart(x, y, region->dimensions[static_cast<size_t>(i)].stride)) return false;
    }
  }
  return true;
}

bool overlaps_itself(const ConstTensor& tensor) {
  const Region region(tensor);
  if (region.empty) return false;
  for (int i = 0; i < tensor.rank; ++i) {
    const auto at = static_cast<size_t>(i);
    if (tensor.shape[at] > 1 && tensor.strides[at] == 0) return true;
  }
  uint64_t inner = region.element;
  for (int i = 0; i < region.rank; ++i) {
    const Dimension& d = region.dimensions[static_cast<size_t>(i)];
    if (d.stride < inner) return true;
    inner += (d.size - 1) * d.stride;
  }
  return false;
}

ConstTensor bytes_view(const void* data, int64_t rows, int64_t row_bytes, int64_t row_stride, int64_t byte_stride) {
  // With elements of two bytes the view can only become larger.
  ConstTensor view;
  view.data = data;
  view.dtype = DType::f16;
  view.rank = 1;
  const int64_t extent = rows == 0 || row_bytes == 0 ? 0 : (rows - 1) * row_stride + (row_bytes - 1) * byte_stride + 1;
  view.shape[0] = (extent + 1) / 2;
  view.strides[0] = 1;
  return view;
}

void load_elements(const uint8_t* from, DType dtype, int64_t stride, int64_t count, float* to) {
  switch (dtype) {
    case DType::f32:
      for (int64_t i = 0; i < count; ++i) to[i] = reinterpret_cast<const float*>(from)[i * stride];
      return;
    case DType::f16:
      for (int64_t i = 0; i < count; ++i) to[i] = f16_to_float(reinterpret_cast<const uint16_t*>(from)[i * stride]);
      return;
    case DType::bf16:
      for (int64_t i = 0; i < count; ++i) to[i] = bf16_to_float(reinterpret_cast<const uint16_t*>(from)[i * stride]);
      return;
    case DType::q8:
      return;  // refused by check
  }
}

void store_elements(const float* from, int64_t count, DType dtype, int64_t stride, uint8_t* to) {
  switch (dtype) {
    case DType::f32:
      for (int64_t i = 0; i < count; ++i) reinterpret_cast<float*>(to)[i * stride] = from[i];
      return;
    case DType::f16:
      for (int64_t i = 0; i < count; ++i) reinterpret_cast<uint16_t*>(to)[i * stride] = float_to_f16(from[i]);
      return;
    case DType::bf16:
      for (int64_t i = 0; i < count; ++i) reinterpret_cast<uint16_t*>(to)[i * stride] = float_to_bf16(from[i]);
      return;
    case DType::q8:
      return;
  }
}

}  // namespace kvass
