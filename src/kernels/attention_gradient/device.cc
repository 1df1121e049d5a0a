#include "kernels/attention_gradient/device.h"

#include <algorithm>

namespace kvass {

// Scores and dp [rows][tiles · 64], masks [rows][tiles].
size_t device_gradient_workspace_bytes(int64_t tiles) {
  const size_t cells = static_cast<size_t>(kDeviceGradientRows * std::max<int64_t>(tiles, 1));
  return (cells * (2 * kTileKeys * sizeof(float) + sizeof(uint64_t)) + 63) / 64 * 64;
}

int64_t device_gradient_workspaces(int64_t tiles, int processors, size_t most_bytes) {
  const auto fit = static_cast<int64_t>(most_bytes / device_gradient_workspace_bytes(tiles));
  return std::clamp<int64_t>(fit, 1, 4 * processors);
}

}  // namespace kvass
