#include "session/device_weights.h"

#include "ops/device_kernels.h"

namespace kvass {
namespace {

constexpr size_t kAlignment = 256;  // bytes

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

size_t matrix_bytes(const PackedWeight& weight) {
  return static_cast<size_t>(panel_count(weight.n) * panel_bytes(weight.type, weight.k));
}

}  // namespace

Result<std::shared_ptr<const DeviceWeights>> DeviceWeights::upload(const DeviceKernels& kernels,
                                                                   const WeightStore& store,
                                                                   const std::vector<int64_t>& widths) {
  const DeviceRuntime& runtime = *kernels.runtime;
  const size_t count = store.matrices.size();
  const auto bytes_of = [&](size_t i) {
    return store.vectors[i] ? static_cast<size_t>(widths[i]) * sizeof(float) : matrix_bytes(store.matrices[i]);
  };
  size_t bytes = 0;
  for (size_t i = 0; i < count; ++i) bytes += aligned(bytes_of(i));
  auto weights = std::make_shared<DeviceWeights>();
  weights->kernels = &kernels;
  KVASS_ASSIGN_OR_RETURN(weights->block, DeviceBlock::map(runtime, bytes));
  weights->matrices = store.matrices;
  weights->vectors = store.vectors;
  uint8_t* at = weights->block.data();
  for (size_t i = 0; i < count; ++i) {
    const void* from = store.vectors[i] ? static_cast<const void*>(store.vectors[i]) : store.matrices[i].data;
    KVASS_RETURN_IF_ERROR(runtime.copy(at, from, bytes_of(i), CopyKind::to_device, nullptr));
    if (store.vectors[i]) {
      weights->vectors[i] = reinterpret_cast<const float*>(at);
    } else {
      weights->matrices[i].data = at;
    }
    at += aligned(bytes_of(i));
  }
  KVASS_RETURN_IF_ERROR(runtime.synchronise(nullptr));
  return std::shared_ptr<const DeviceWeights>(std::move(weights));
}

}  // namespace kvass
