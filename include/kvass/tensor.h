// DType, Device and the strided views that operators take. Views own nothing and copy nothing; dlpack.h makes them from
// other frameworks' tensors.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <type_traits>

namespace kvass {

// Element types of tensors and caches. q8 is for caches only: int8 with a float32 scale per token and head (tiles.h).
enum class DType : uint8_t { f32, f16, bf16, q8 };
inline constexpr DType kDTypes[] = {DType::f32, DType::f16, DType::bf16, DType::q8};

// Bytes of an element, without the scales of q8.
constexpr size_t dtype_bytes(DType type) { return type == DType::f32 ? 4 : type == DType::q8 ? 1 : 2; }

constexpr std::string_view dtype_name(DType type) {
  switch (type) {
    case DType::f32:
      return "f32";
    case DType::f16:
      return "f16";
    case DType::bf16:
      return "bf16";
    case DType::q8:
      return "q8";
  }
  return "?";
}

// The device that holds a tensor's memory.
enum class Device : uint8_t { cpu, cuda, rocm };

constexpr std::string_view device_name(Device device) {
  switch (device) {
    case Device::cpu:
      return "cpu";
    case Device::cuda:
      return "cuda";
    case Device::rocm:
      return "rocm";
  }
  return "?";
}

inline constexpr int kMaxRank = 4;

// A view of a tensor. Only the first `rank` entries of shape and strides are used. Strides of a view that is read may
// have any value: 0 repeats an element, a negative stride goes backwards.
template <class Void>
struct BasicTensor {
  Void* data = nullptr;  // address of element (0, …, 0); null: no tensor
  DType dtype = DType::f32;
  Device device = Device::cpu;
  int rank = 0;                             // at most kMaxRank
  std::array<int64_t, kMaxRank> shape{};    // elements
  std::array<int64_t, kMaxRank> strides{};  // elements from an index to the next

  BasicTensor() = default;
  // Row-major, without gaps.
  BasicTensor(Void* elements, DType type, std::initializer_list<int64_t> sizes)
      : data(elements), dtype(type), rank(static_cast<int>(sizes.size())) {
    int64_t stride = 1;
    int i = rank;
    for (auto size = sizes.end(); size != sizes.begin();) {
      --size;
      --i;
      if (i < kMaxRank) {
        shape[static_cast<size_t>(i)] = *size;
        strides[static_cast<size_t>(i)] = stride;
      }
      stride *= *size;
    }
  }
  BasicTensor(const BasicTensor&) = default;
  BasicTensor& operator=(const BasicTensor&) = default;
  // A writable view converts to a read-only view.
  template <class Other>
  requires(std::is_const_v<Void> && !std::is_const_v<Other>) BasicTensor(const BasicTensor<Other>& other)
      : data(other.data),
        dtype(other.dtype),
        device(other.device),
        rank(other.rank),
        shape(other.shape),
        strides(other.strides) {}

  // Indices [begin, end) of dimension `dim`.
  BasicTensor slice(int dim, int64_t begin, int64_t end) const {
    BasicTensor part = *this;
    const auto at = static_cast<size_t>(dim);
    using Byte = std::conditional_t<std::is_const_v<Void>, const uint8_t, uint8_t>;
    part.data = static_cast<Byte*>(data) + begin * strides[at] * static_cast<int64_t>(dtype_bytes(dtype));
    part.shape[at] = end - begin;
    return part;
  }
};

using Tensor = BasicTensor<void>;             // writable
using ConstTensor = BasicTensor<const void>;  // read-only

}  // namespace kvass
