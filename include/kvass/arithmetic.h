// Math: what activations become before they meet weights. Chosen when a model is loaded; it changes results.
#pragma once

#include <cstdint>
#include <string_view>

namespace kvass {

// What activations become before they meet quantised weights: float32 (the weights are dequantised), 16 bits or 8 bits.
// Weights of a float type always meet float32.
enum class Math : uint8_t { f32, a16, a8 };

constexpr std::string_view math_name(Math math) {
  switch (math) {
    case Math::f32:
      return "f32";
    case Math::a16:
      return "a16";
    case Math::a8:
      return "a8";
  }
  return "?";
}

}  // namespace kvass
