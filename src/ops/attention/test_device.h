// Calls of the attention operators on device tensors: on the emulation, and on the devices of this machine.
#pragma once

#include <utility>
#include <vector>

#include "device_memory.h"
#include "ops/attention/test_calls.h"
#include "ops/context.h"

namespace kvass {

// A context that uses `kernels` for device tensors. `numerics` of its backends: "exact" or "fast".
inline OpContext device_context(const DeviceKernels& kernels, const std::string& numerics) {
  const Device device = kernels.runtime->device;
  std::string list;
  for (const char* op : {"attention", "kv_cache_attention"}) {
    list += (list.empty() ? "" : ",") + std::string(op) + "=" + std::string(device_name(device)) + "_" + numerics;
  }
  OpContext context = OpContext::create({1, list}).value();
  const Status status = context.state()->use(device, kernels);
  EXPECT_TRUE(status.ok()) << status.message();
  return context;
}

// A tensor on a device: a copy of a test's tensor, or new.
class DeviceTensor {
 public:
  DeviceTensor(const DeviceKernels& kernels, const TestTensor& from)
      : kernels_(&kernels), form_(from), memory_(kernels, bytes_of(from)) {}

  Tensor view() {
    Tensor view = form_.view();
    view.data = memory_.data();
    view.device = kernels_->runtime->device;
    return view;
  }
  TestTensor read() {
    const std::vector<uint8_t> bytes = memory_.read();
    return TestTensor(form_.dtype(), form_.shape(), bytes.data());
  }

 private:
  static std::vector<uint8_t> bytes_of(const TestTensor& t) {
    if (t.shape().empty()) return {};  // no tensor
    const auto* data = static_cast<const uint8_t*>(t.view().data);
    return {data, data + t.elements() * dtype_bytes(t.dtype())};
  }

  const DeviceKernels* kernels_;
  TestTensor form_;
  testing::OnDevice<uint8_t> memory_;
};

// The call's float32 result. If `cached` is not -1, keys [0, cached) are passed as the cache.
inline TestTensor run_on(const DeviceKernels& kernels, OpContext& context, const Call& call, int64_t cached = -1) {
  DeviceTensor q(kernels, call.q), k(kernels, call.k), v(kernels, call.v), q_sink(kernels, call.q_sink);
  DeviceTensor out(kernels, TestTensor(DType::f32, call.q.shape()));
  testing::OnDevice<uint8_t> mask(kernels, call.mask);
  AttentionOptions options = call.all_options();
  if (options.q_sink.data) options.q_sink = q_sink.view();
  if (options.key_padding_mask.data) options.key_padding_mask.data = mask.data();
  Status status;
  if (cached < 0) {
    status = attention_fp32(context, q.view(), k.view(), v.view(), options, out.view());
  } else {
    const int64_t keys = call.keys();
    const CachedKeys parts{k.view().slice(2, 0, cached), v.view().slice(2, 0, cached), k.view().slice(2, cached, keys),
                           v.view().slice(2, cached, keys)};
    status = kv_cache_attention_fp32(context, q.view(), parts, options, out.view());
  }
  EXPECT_TRUE(status.ok()) << status.message();
  return out.read();
}

}  // namespace kvass
