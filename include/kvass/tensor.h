// DType and the strided views that the operators take. Views own nothing and copy nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace kvass {

// Element types of tensors and caches.
enum class DType : uint8_t { f32, f16, bf16 };

constexpr size_t dtype_bytes(DType type) { return type == DType::f32 ? 4 : 2; }

constexpr std::string_view dtype_name(DType type) {
  switch (type) {
    case DType::f32:
      return "f32";
    case DType::f16:
      return "f16";
    case DType::bf16:
      return "bf16";
  }
  return "?";
}

}  // namespace kvass
