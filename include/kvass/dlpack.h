// DLPack tensors as kvass views and back, without a copy. A template over the DLTensor struct, which it knows by its
// field names only: any header that defines one fits (dlpack/dlpack.h, nanobind's, a framework's own), and kvass needs
// none. Nothing is owned: the tensor's memory must outlive the view.
#pragma once

#include <cstdint>
#include <string>

#include "kvass/status.h"
#include "kvass/tensor.h"

namespace kvass {

namespace dlpack_detail {

// Codes of the DLPack specification, version 0.6 and later.
inline constexpr int kCpu = 1, kCuda = 2, kCudaHost = 3, kRocm = 10, kRocmHost = 11, kCudaManaged = 13;
inline constexpr int kFloat = 2, kBfloat = 4;

}  // namespace dlpack_detail

// `name` of the argument is for the message. Pinned host memory is memory of the CPU.
template <class DLTensorT>
Result<Tensor> from_dlpack(const DLTensorT& from, std::string_view name = "tensor") {
  namespace dl = dlpack_detail;
  Tensor to;
  const int device = static_cast<int>(from.device.device_type);
  if (device == dl::kCpu || device == dl::kCudaHost || device == dl::kRocmHost) {
    to.device = Device::cpu;
  } else if (device == dl::kCuda || device == dl::kCudaManaged) {
    to.device = Device::cuda;
  } else if (device == dl::kRocm) {
    to.device = Device::rocm;
  } else {
    return bad_input(name, "memory of a cpu, cuda or rocm device", "DLPack device type " + std::to_string(device));
  }
  const int code = static_cast<int>(from.dtype.code);
  const int bits = static_cast<int>(from.dtype.bits);
  if (code == dl::kFloat && bits == 32 && from.dtype.lanes == 1) {
    to.dtype = DType::f32;
  } else if (code == dl::kFloat && bits == 16 && from.dtype.lanes == 1) {
    to.dtype = DType::f16;
  } else if (code == dl::kBfloat && bits == 16 && from.dtype.lanes == 1) {
    to.dtype = DType::bf16;
  } else {
    return bad_input(name, "float32, float16 or bfloat16",
                     "DLPack type code " + std::to_string(code) + " of " + std::to_string(bits) + " bits");
  }
  if (from.ndim < 0 || from.ndim > kMaxRank) {
    return bad_input(name, "at most " + std::to_string(kMaxRank) + " dimensions", std::to_string(from.ndim));
  }
  to.rank = static_cast<int>(from.ndim);
  int64_t stride = 1;
  for (int i = to.rank - 1; i >= 0; --i) {
    const auto at = static_cast<size_t>(i);
    to.shape[at] = from.shape[i];
    to.strides[at] = from.strides ? from.strides[i] : stride;
    stride *= from.shape[i];
  }
  to.data = static_cast<uint8_t*>(from.data) + from.byte_offset;
  return to;
}

// The view as a DLTensor on the first device of its kind; shape and strides point into `view`, which must outlive it.
// DLPack has no type for q8, whose values are bytes with scales of their own: an error. `name` of the tensor
// is for the message.
template <class DLTensorT>
Result<DLTensorT> to_dlpack(Tensor& view, std::string_view name = "tensor") {
  namespace dl = dlpack_detail;
  if (view.dtype != DType::f32 && view.dtype != DType::f16 && view.dtype != DType::bf16) {
    return bad_input(name, "float32, float16 or bfloat16", dtype_name(view.dtype));
  }
  DLTensorT to{};
  to.data = view.data;
  to.device.device_type = static_cast<decltype(to.device.device_type)>(view.device == Device::cpu    ? dl::kCpu
                                                                       : view.device == Device::cuda ? dl::kCuda
                                                                                                     : dl::kRocm);
  to.ndim = view.rank;
  to.dtype.code = static_cast<decltype(to.dtype.code)>(view.dtype == DType::bf16 ? dl::kBfloat : dl::kFloat);
  to.dtype.bits = static_cast<decltype(to.dtype.bits)>(8 * dtype_bytes(view.dtype));
  to.dtype.lanes = 1;
  to.shape = view.shape.data();
  to.strides = view.strides.data();
  return to;
}

}  // namespace kvass
