// Tensors of Python as kvass views and back, without a copy of elements. A TensorArgument borrows what its caller
// holds: through the type's DLPack exchange table where it has one (a few nanoseconds; PyTorch), otherwise through
// `__dlpack__` (NumPy, JAX, CuPy). An OutputTensor is a new tensor of the framework of another one. Both need the GIL
// when they are made and destroyed, not in between.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <optional>
#include <string>
#include <vector>

#include "errors.h"
#include "kvass/ops.h"
#include "kvass/status.h"
#include "kvass/tensor.h"

namespace kvass::python {

namespace nb = nanobind;

enum class Access { read, write };

class TensorArgument {
 public:
  // TypeError: not a tensor, or of a dtype that no operator takes. `name` stands in messages.
  TensorArgument(nb::handle object, const char* name, Access access = Access::read);

  const Tensor& view() const { return view_; }
  nb::handle object() const { return object_; }
  // The stream that the framework works on where the tensor is: what was queued there comes before, what is queued
  // later after it. Null on the CPU, and for frameworks without an exchange table, which hand tensors over to the
  // default stream.
  void* stream() const;

 private:
  nb::handle object_;
  nb::object held_;  // the DLPack view, where there is no exchange table
  Tensor view_;
};

// [B, Skv] of bool or 8-bit integers in memory of `device`, or of wider integers in the CPU's, which are copied: 0 is
// padding.
class MaskArgument {
 public:
  MaskArgument() = default;
  MaskArgument(nb::handle object, const char* name, Device device);
  const KeyPaddingMask& view() const { return view_; }

 private:
  nb::object held_;
  std::vector<uint8_t> bytes_;  // of wider integers
  KeyPaddingMask view_;
};

// A tensor of the framework, on the device, of `like`.
class OutputTensor {
 public:
  OutputTensor(const TensorArgument& like, DType dtype, std::vector<int64_t> shape);
  // `out`, an argument of the caller's: written in place.
  explicit OutputTensor(nb::handle out, const char* name);

  const Tensor& view() const { return view_; }
  nb::object take();  // once, when it has been written

 private:
  nb::object object_;
  nb::object namespace_;  // of frameworks that neither allocate through DLPack nor are NumPy: what imports the result
  Tensor view_;
};

// A list, tuple or array of integers or of numbers; empty for None.
std::vector<int64_t> integers(nb::handle object, const char* name);
std::vector<float> numbers(nb::handle object, const char* name);

// New NumPy arrays that own their elements; of bool, bytes are handed in.
template <class T, class Stored = T>
nb::ndarray<nb::numpy, T> numpy_array(std::vector<Stored> values, std::vector<size_t> shape) {
  static_assert(sizeof(T) == sizeof(Stored));
  auto* owned = new std::vector<Stored>(std::move(values));
  nb::capsule owner(owned, [](void* p) noexcept { delete static_cast<std::vector<Stored>*>(p); });
  return nb::ndarray<nb::numpy, T>(reinterpret_cast<T*>(owned->data()), shape.size(), shape.data(), owner);
}

}  // namespace kvass::python
