// The weights of a program in a device's memory: brought there once, read by every session of the engine. The views are
// those of a WeightStore, into the device's block, which this owns.
#pragma once

#include <memory>
#include <vector>

#include "device/runtime.h"
#include "kvass/status.h"
#include "ops/linear/weight_store.h"

namespace kvass {

struct DeviceKernels;  // ops/device_kernels.h

struct DeviceWeights {
  const DeviceKernels* kernels = nullptr;
  DeviceBlock block;
  std::vector<PackedWeight> matrices;  // [weights of the program]; empty for vectors
  std::vector<const float*> vectors;   // [weights of the program]; null for matrices

  // Copies all of `store`; `widths` [weights]: floats of each vector.
  static Result<std::shared_ptr<const DeviceWeights>> upload(const DeviceKernels& kernels, const WeightStore& store,
                                                             const std::vector<int64_t>& widths);
};

}  // namespace kvass
