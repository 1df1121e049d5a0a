#include "tensors.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <new>
#include <utility>

#include "dlpack_abi.h"
#include "kvass/dlpack.h"

namespace kvass::python {
namespace {

// The exchange tables by type, as they were met. Types are kept alive, so that an address stands for one type for good.
struct KnownType {
  PyTypeObject* type = nullptr;
  const DlExchange* exchange = nullptr;
};
constexpr size_t kKnownTypes = 16;

const DlExchange* look_up_exchange(PyTypeObject* type) {
  nb::object capsule =
      nb::getattr(nb::handle(reinterpret_cast<PyObject*>(type)), "__dlpack_c_exchange_api__", nb::none());
  if (!PyCapsule_CheckExact(capsule.ptr())) return nullptr;
  auto* exchange = static_cast<const DlExchange*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  if (exchange == nullptr) PyErr_Clear();
  while (exchange != nullptr && exchange->version.major != 1) exchange = exchange->older;
  if (exchange == nullptr || exchange->view_of_object == nullptr) return nullptr;
  return exchange;
}

// With the GIL.
const DlExchange* exchange_of(nb::handle object) {
  static std::array<KnownType, kKnownTypes> known;
  static size_t next = 0;
  PyTypeObject* type = Py_TYPE(object.ptr());
  for (const KnownType& entry : known) {
    if (entry.type == type) return entry.exchange;
  }
  const DlExchange* exchange = look_up_exchange(type);
  Py_INCREF(reinterpret_cast<PyObject*>(type));
  KnownType& entry = known[next++ % kKnownTypes];
  // The entry is whole before the old type goes: its end may run Python code, which comes back here.
  PyTypeObject* const old = std::exchange(entry, {type, exchange}).type;
  Py_XDECREF(reinterpret_cast<PyObject*>(old));
  return exchange;
}

[[noreturn]] void fail_type(const std::string& message) { throw nb::type_error(message.c_str()); }

std::string class_name(nb::handle object) {
  return nb::cast<std::string>(nb::str(nb::getattr(object.type(), "__name__")));
}

std::string dtype_of(const DlDataType& dtype) {
  const std::string bits = std::to_string(dtype.bits);
  if (dtype.lanes == 1) {
    if (dtype.code == kDlInt) return "int" + bits;
    if (dtype.code == kDlUint) return "uint" + bits;
    if (dtype.code == kDlFloat) return "float" + bits;
    if (dtype.code == kDlBfloat) return "bfloat" + bits;
    if (dtype.code == kDlComplex) return "complex" + bits;
    if (dtype.code == kDlBool) return "bool";
  }
  return "DLPack type code " + std::to_string(dtype.code) + " of " + bits + " bits";
}

// Tensors that stand for others (PyTorch's FakeTensor, wrappers) say that they are of the CPU and have no memory.
void check_memory(const DlTensor& tensor, const char* name) {
  if (tensor.data == nullptr &&
      std::all_of(tensor.shape, tensor.shape + tensor.ndim, [](int64_t n) { return n != 0; })) {
    check(bad_input(name, "elements", "a null pointer"));
  }
}

Tensor view_of(const DlTensor& from, const char* name) {
  const DlDataType& dtype = from.dtype;
  const bool known = (dtype.code == kDlFloat && (dtype.bits == 32 || dtype.bits == 16)) ||
                     (dtype.code == kDlBfloat && dtype.bits == 16);
  if (!known || dtype.lanes != 1) {
    fail_type(std::string(name) + ": expected float32, float16 or bfloat16, got " + dtype_of(dtype));
  }
  Result<Tensor> view = from_dlpack(from, name);
  if (!view.ok()) fail_type(view.status().message());
  if (view.value().device != Device::cpu && from.device.device_id != 0) {
    check(bad_input(name, "memory of the first " + std::string(device_name(view.value().device)) + " device",
                    "device " + std::to_string(from.device.device_id)));
  }
  return view.value();
}

// "a meta tensor of layout torch.sparse_coo" and the like: why an exchange table has no view of it.
std::string kind_of(nb::handle object) {
  std::string kind = class_name(object);
  for (const char* property : {"layout", "device"}) {
    nb::object value = nb::getattr(object, property, nb::none());
    if (!value.is_none()) kind += std::string(", ") + property + " " + nb::cast<std::string>(nb::str(value));
  }
  return kind;
}

// PyTorch negates some views only when they are read (`x.conj().imag`). The exchange table does not say so; the copy
// that the tensor makes of itself is what is meant.
nb::object resolve_negation(nb::handle object) {
  static PyObject* const is_neg = PyUnicode_InternFromString("is_neg");
  PyObject* negated = PyObject_CallMethodNoArgs(object.ptr(), is_neg);
  if (negated == nullptr) {
    PyErr_Clear();
    return {};
  }
  const bool resolve = negated == Py_True;
  Py_DECREF(negated);
  return resolve ? nb::getattr(object, "resolve_neg")() : nb::object();
}

// PyTorch derives forward by tangents of tensors while a level of torch.autograd.forward_ad is open.
void refuse_tangent(nb::handle tensor, const char* name) {
  static PyObject* const module_name = PyUnicode_InternFromString("torch.autograd.forward_ad");
  nb::object module = nb::steal(PyImport_GetModule(module_name));
  if (!module.is_valid()) {
    PyErr_Clear();
    return;
  }
  int64_t level = 0;
  if (nb::try_cast(nb::getattr(module, "_current_level", nb::int_(0)), level) && level < 0) return;
  if (!nb::getattr(nb::getattr(module, "unpack_dual")(tensor), "tangent").is_none()) {
    check(Status::error(StatusCode::unsupported,
                        expected_message(name, "a tensor without a tangent", "one with a tangent")));
  }
}

// PyTorch's own export refuses tensors of an autograd graph, since what is computed of them would have no gradient. Its
// exchange table does not ask.
void refuse_gradients(nb::handle object, const char* name) {
  static PyObject* const attribute = PyUnicode_InternFromString("requires_grad");
  PyObject* required = PyObject_GetAttr(object.ptr(), attribute);
  if (required == nullptr) {
    PyErr_Clear();
    return;
  }
  const bool gradients = required == Py_True;
  Py_DECREF(required);
  if (gradients) {
    check(bad_input(name, "a tensor without requires_grad (kvass.torch has operators with gradients)",
                    "one that requires them"));
  }
  refuse_tangent(object, name);
}

template <class Array>
DlTensor describe(const Array& array, std::array<int64_t, 8>& shape, std::array<int64_t, 8>& strides) {
  DlTensor tensor{};
  tensor.data = const_cast<void*>(static_cast<const void*>(array.data()));
  tensor.device = {array.device_type(), array.device_id()};
  tensor.ndim = static_cast<int32_t>(array.ndim());
  tensor.dtype = {array.dtype().code, array.dtype().bits, array.dtype().lanes};
  for (size_t i = 0; i < array.ndim() && i < shape.size(); ++i) {
    shape[i] = static_cast<int64_t>(array.shape(i));
    strides[i] = array.stride(i);
  }
  tensor.shape = shape.data();
  tensor.strides = strides.data();
  return tensor;
}

// What the object is, described to body(DlTensor); returns what must be kept while the view is used.
template <class Body>
nb::object with_tensor(nb::handle object, const char* name, Access access, Body&& body) {
  if (const DlExchange* exchange = exchange_of(object)) {
    refuse_gradients(object, name);
    nb::object resolved = resolve_negation(object);
    if (resolved.is_valid() && access == Access::write) {
      fail_type(std::string(name) + ": expected memory to write to, got a view that is negated when it is read");
    }
    const nb::handle source = resolved.is_valid() ? nb::handle(resolved) : object;
    DlTensor tensor;
    if (exchange->view_of_object(source.ptr(), &tensor) != 0) {
      PyErr_Clear();
      fail_type(std::string(name) + ": expected a dense tensor in memory, got " + kind_of(object));
    }
    check_memory(tensor, name);
    body(tensor);
    return resolved;
  }
  std::array<int64_t, 8> shape{}, strides{};
  if (access == Access::read) {
    nb::ndarray<nb::ro> array;
    if (nb::try_cast(object, array)) {
      body(describe(array, shape, strides));
      return nb::cast(array);
    }
  } else {
    nb::ndarray<> array;
    if (nb::try_cast(object, array)) {
      body(describe(array, shape, strides));
      return nb::cast(array);
    }
  }
  fail_type(std::string(name) + ": expected a tensor that speaks DLPack" +
            (access == Access::write ? " and may be written" : "") + ", got " + class_name(object));
}

int dl_device(Device device) {
  return device == Device::cpu    ? dlpack_detail::kCpu
         : device == Device::cuda ? dlpack_detail::kCuda
                                  : dlpack_detail::kRocm;
}

// Of results, which are float32, float16 or bfloat16.
DlDataType dl_dtype(DType dtype) {
  return {dtype == DType::bf16 ? kDlBfloat : kDlFloat, static_cast<uint8_t>(8 * dtype_bytes(dtype)), 1};
}

void set_error(void*, const char* kind, const char* message) {
  PyErr_Format(PyExc_RuntimeError, "%s: %s", kind, message);
}

}  // namespace

TensorArgument::TensorArgument(nb::handle object, const char* name, Access access) : object_(object) {
  held_ = with_tensor(object, name, access, [&](const DlTensor& tensor) { view_ = view_of(tensor, name); });
}

void* TensorArgument::stream() const {
  const DlExchange* exchange = view_.device == Device::cpu ? nullptr : exchange_of(object_);
  if (exchange == nullptr || exchange->work_stream == nullptr) return nullptr;
  void* stream = nullptr;
  if (exchange->work_stream(dl_device(view_.device), 0, &stream) != 0) throw nb::python_error();
  return stream;
}

namespace {

// Bytes of a mask of wider integers on the CPU: 1 where it is not 0.
std::vector<uint8_t> narrowed(const DlTensor& from) {
  const int64_t width = from.dtype.bits / 8;
  std::vector<uint8_t> bytes;
  bytes.reserve(static_cast<size_t>(from.shape[0] * from.shape[1]));
  for (int64_t b = 0; b < from.shape[0]; ++b) {
    for (int64_t j = 0; j < from.shape[1]; ++j) {
      const int64_t at = from.strides ? b * from.strides[0] + j * from.strides[1] : b * from.shape[1] + j;
      const auto* element = static_cast<const uint8_t*>(from.data) + from.byte_offset + at * width;
      bytes.push_back(std::any_of(element, element + width, [](uint8_t byte) { return byte != 0; }) ? 1 : 0);
    }
  }
  return bytes;
}

}  // namespace

MaskArgument::MaskArgument(nb::handle object, const char* name, Device device) {
  if (object.is_none()) return;
  held_ = with_tensor(object, name, Access::read, [&](const DlTensor& from) {
    const bool whole = from.dtype.lanes == 1 &&
                       (from.dtype.code == kDlBool || from.dtype.code == kDlUint || from.dtype.code == kDlInt);
    if (!whole || (from.dtype.bits != 8 && device != Device::cpu)) {
      fail_type(std::string(name) + ": expected bool or " + (device == Device::cpu ? "" : "8-bit ") + "integers, got " +
                dtype_of(from.dtype));
    }
    if (from.ndim != 2) check(bad_input(name, "[B, Skv]", std::to_string(from.ndim) + " dimensions"));
    if (from.device.device_type != dl_device(device)) {
      check(bad_input(name, "memory of the " + std::string(device_name(device)), "another device"));
    }
    view_.batch = from.shape[0];
    view_.keys = from.shape[1];
    if (from.dtype.bits == 8) {
      view_.data = static_cast<const uint8_t*>(from.data) + from.byte_offset;
      view_.batch_stride = from.strides ? from.strides[0] : from.shape[1];
      view_.key_stride = from.strides ? from.strides[1] : 1;
    } else {
      bytes_ = narrowed(from);
      view_.data = bytes_.data();
      view_.batch_stride = from.shape[1];
    }
    // A tensor without elements may be without memory (check_memory), which would say that there is no mask.
    static const uint8_t nothing = 0;
    if (from.data == nullptr || view_.data == nullptr) view_.data = &nothing;
  });
}

OutputTensor::OutputTensor(const TensorArgument& like, DType dtype, std::vector<int64_t> shape) {
  if (const DlExchange* exchange = exchange_of(like.object())) {
    DlTensor prototype{};
    prototype.device = {dl_device(like.view().device), 0};
    prototype.ndim = static_cast<int32_t>(shape.size());
    prototype.dtype = dl_dtype(dtype);
    prototype.shape = shape.data();
    DlManagedTensor* made = nullptr;
    if (exchange->allocate(&prototype, &made, nullptr, &set_error) != 0) throw nb::python_error();
    try {
      view_ = view_of(made->tensor, "out");
    } catch (...) {  // nobody else has it yet
      if (made->deleter != nullptr) made->deleter(made);
      throw;
    }
    void* object = nullptr;
    if (exchange->object_from_managed(made, &object) != 0) throw nb::python_error();
    object_ = nb::steal(static_cast<PyObject*>(object));
    return;
  }
  if (like.view().device != Device::cpu) {
    check(bad_input("out", "an output tensor, since this framework allocates none through DLPack", "none"));
  }
  std::vector<size_t> sizes(shape.begin(), shape.end());
  size_t bytes = dtype_bytes(dtype);
  for (const size_t size : sizes) bytes *= size;
  constexpr size_t kAlignment = 64;
  auto* memory = static_cast<uint8_t*>(operator new(bytes == 0 ? 1 : bytes, std::align_val_t(kAlignment)));
  nb::capsule owner(memory, [](void* p) noexcept { operator delete(p, std::align_val_t(kAlignment)); });
  const DlDataType type = dl_dtype(dtype);
  const nb::dlpack::dtype element{type.code, type.bits, type.lanes};
  view_.data = memory;
  view_.dtype = dtype;
  view_.rank = static_cast<int>(shape.size());
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    view_.shape[i] = shape[i];
    view_.strides[i] = stride;
    stride *= shape[i];
  }
  if (nb::ndarray_check(like.object()) && !nb::hasattr(like.object(), "__array_namespace__")) {
    object_ = nb::cast(nb::ndarray<nb::numpy>(memory, sizes.size(), sizes.data(), owner, nullptr, element));
    return;
  }
  namespace_ = nb::getattr(like.object(), "__array_namespace__")();
  const bool numpy = nb::cast<std::string>(nb::getattr(namespace_, "__name__")) == "numpy";
  if (numpy) {
    namespace_.reset();
    object_ = nb::cast(nb::ndarray<nb::numpy>(memory, sizes.size(), sizes.data(), owner, nullptr, element));
  } else {
    object_ = nb::cast(nb::ndarray<>(memory, sizes.size(), sizes.data(), owner, nullptr, element));
  }
}

OutputTensor::OutputTensor(nb::handle out, const char* name) : object_(nb::borrow(out)) {
  view_ = TensorArgument(out, name, Access::write).view();  // object_ keeps its memory
}

nb::object OutputTensor::take() {
  if (namespace_.is_valid()) return nb::getattr(namespace_, "from_dlpack")(object_);
  return std::move(object_);
}

namespace {

template <class T>
std::vector<T> list_of(nb::handle object, const char* name, const char* what) {
  if (object.is_none()) return {};
  refuse_gradients(object, name);
  nb::object list = nb::hasattr(object, "tolist") ? nb::getattr(object, "tolist")() : nb::borrow(object);
  std::vector<T> values;
  if (!nb::try_cast(list, values)) {
    fail_type(std::string(name) + ": expected a list or array of " + what + ", got " + class_name(object));
  }
  return values;
}

}  // namespace

std::vector<int64_t> integers(nb::handle object, const char* name) {
  return list_of<int64_t>(object, name, "integers");
}

std::vector<float> numbers(nb::handle object, const char* name) { return list_of<float>(object, name, "numbers"); }

}  // namespace kvass::python
