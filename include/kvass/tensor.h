// DType and the strided views that the operators take. Views own nothing and copy nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace kvass {

// Element types of tensors and caches. q8 is for caches only: int8 with a float32 scale per token and head (tiles.h).
enum class DType : uint8_t { f32, f16, bf16, q8 };

// Of an element; the scales of q8 aside.
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

}  // namespace kvass
