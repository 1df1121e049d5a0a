#include "exec/device/weights.h"

#include "ops/device_kernels.h"

namespace kvass {
namespace {

constexpr size_t kAlignment = 256;  // bytes

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Devices have whole types only.
size_t uploaded_bytes(const PackedWeight& weight) {
  return static_cast<size_t>(matrix_bytes(whole_type(weight.type), weight.n, weight.k));
}

Status upload_split(const DeviceRuntime& runtime, const PackedWeight& weight, uint8_t* to) {
  std::vector<uint8_t> whole(uploaded_bytes(weight));
  const int64_t panel = panel_bytes(whole_type(weight.type), weight.k);
  for (int64_t index = 0; index < panel_count(weight.n); ++index) {
    whole_panel(weight, index, whole.data() + index * panel);
  }
  KVASS_RETURN_IF_ERROR(runtime.copy(to, whole.data(), whole.size(), CopyKind::to_device, nullptr));
  return runtime.synchronise(nullptr);
}

}  // namespace

Result<std::shared_ptr<const DeviceWeights>> DeviceWeights::upload(const DeviceKernels& kernels,
                                                                   const WeightStore& store,
                                                                   const std::vector<int64_t>& widths) {
  const DeviceRuntime& runtime = *kernels.runtime;
  const size_t count = store.matrices.size();
  const auto bytes_of = [&](size_t i) {
    return store.vectors[i] ? static_cast<size_t>(widths[i]) * sizeof(float) : uploaded_bytes(store.matrices[i]);
  };
  size_t bytes = 0;
  for (size_t i = 0; i < count; ++i) bytes += aligned(bytes_of(i));
  auto weights = std::make_shared<DeviceWeights>();
  weights->kernels = &kernels;
  KVASS_ASSIGN_OR_RETURN(weights->block, DeviceBlock::map(runtime, bytes, "weights"));
  weights->matrices = store.matrices;
  weights->vectors = store.vectors;
  uint8_t* at = weights->block.data();
  for (size_t i = 0; i < count; ++i) {
    const PackedWeight& matrix = store.matrices[i];
    const bool split = !store.vectors[i] && whole_type(matrix.type) != matrix.type;
    if (split) {
      KVASS_RETURN_IF_ERROR(upload_split(runtime, matrix, at));
    } else {
      const void* from = store.vectors[i] ? static_cast<const void*>(store.vectors[i]) : matrix.data;
      KVASS_RETURN_IF_ERROR(runtime.copy(at, from, bytes_of(i), CopyKind::to_device, nullptr));
    }
    if (store.vectors[i]) {
      weights->vectors[i] = reinterpret_cast<const float*>(at);
    } else {
      weights->matrices[i] = {whole_type(matrix.type), matrix.n, matrix.k, at};
    }
    at += aligned(bytes_of(i));
  }
  KVASS_RETURN_IF_ERROR(runtime.synchronise(nullptr));
  return std::shared_ptr<const DeviceWeights>(std::move(weights));
}

}  // namespace kvass
