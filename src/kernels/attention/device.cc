#include "kernels/attention/device.h"

#include <algorithm>

#include "kernels/attention/device_division.h"

namespace kvass {

size_t device_attention_scratch_bytes(int64_t rows, int64_t runs, int64_t heads, int64_t kv_heads, int64_t head_dim,
                                      int64_t spans, int processors) {
  if (spans <= 1) return 0;
  const int64_t padded = (head_dim + 15) / 16 * 16;
  constexpr int64_t kMostBlockRows = 64;  // some are unused in the last block of a run and KV head
  const int64_t cells = kv_heads * (rows * (heads / kv_heads) + runs * (kMostBlockRows - 1));
  const int64_t most = kItemsPerProcessor * processors * kMostBlockRows;
  return static_cast<size_t>(std::min(std::min(cells, most) * spans * (padded + 16) * 4, kPartialBytes));
}

}  // namespace kvass
