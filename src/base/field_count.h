// How many fields an aggregate has, counted by the compiler. Code that names every field of a struct asserts the count
// beside the names: a new field is then a compile error there, not one that was forgotten.
#pragma once

#include <cstddef>
#include <utility>

namespace kvass {
namespace field_count_detail {

struct Anything {
  template <class T>
  operator T() const;  // NOLINT: implicit on purpose; never defined
};

template <size_t>
using AnythingAt = Anything;

template <class T, size_t... kIndex>
consteval bool takes(std::index_sequence<kIndex...>) {
  return requires { T{AnythingAt<kIndex>()...}; };
}

template <class T, size_t kCount>
consteval size_t count_from() {
  if constexpr (takes<T>(std::make_index_sequence<kCount + 1>())) {
    return count_from<T, kCount + 1>();
  } else {
    return kCount;
  }
}

}  // namespace field_count_detail

// Of an aggregate without bases and without arrays as fields.
template <class T>
inline constexpr size_t kFieldCount = field_count_detail::count_from<T, 0>();

}  // namespace kvass
