#include "ops/linear/device.h"

#include <cassert>

namespace kvass {
namespace {

bool quantises(Math math, WeightType type) { return math != Math::f32 && panel_format(type).quantised; }

}  // namespace

Status linear(const float* x, int64_t x_stride, int64_t rows, int64_t k, std::span<const LinearTarget> targets,
              Math math, void* activation_scratch, const DeviceKernels& kernels, DeviceStream stream) {
  assert(targets.size() <= static_cast<size_t>(DeviceLinearParams::kMostTargets));
  if (rows <= 0) return {};
  bool quantised = false;
  for (const LinearTarget& target : targets) quantised |= quantises(math, target.weight.type);
  if (quantised) {
    const auto quantise = math == Math::a16 ? kernels.quantise_a16 : kernels.quantise_a8;
    KVASS_RETURN_IF_ERROR(quantise({x, x_stride, rows, k, activation_scratch}, stream));
  }
  // Weights of one type are one launch.
  bool done[DeviceLinearParams::kMostTargets] = {};
  for (size_t first = 0; first < targets.size(); ++first) {
    if (done[first]) continue;
    DeviceLinearParams params;
    params.type = targets[first].weight.type;
    params.k = k;
    params.rows = rows;
    for (size_t i = first; i < targets.size(); ++i) {
      const LinearTarget& target = targets[i];
      if (target.weight.type != params.type) continue;
      assert(target.weight.k == k);
      params.targets[params.targets_count++] = {target.weight.data, target.weight.n, target.y, target.y_stride};
      done[i] = true;
    }
    if (!quantises(math, params.type)) {
      params.x = x;
      params.x_stride = x_stride;
      KVASS_RETURN_IF_ERROR(kernels.linear_f32(params, stream));
    } else {
      params.x = activation_scratch;
      params.x_stride = activation_blocks(k);
      KVASS_RETURN_IF_ERROR((math == Math::a16 ? kernels.linear_a16 : kernels.linear_a8)(params, stream));
    }
  }
  return {};
}

}  // namespace kvass
