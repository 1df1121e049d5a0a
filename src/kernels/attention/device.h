// Attention on a device: the rows of any number of runs over their keys and values, in one call. A run is the
// consecutive rows of one sequence. Two kernels take the same parameters. attention_exact has the bits of attention.h
// (docs/numerics.md, 6). attention_fast uses tensor cores and has an order of its own: the same bits in prefill and
// decode, in any batch and chunking, with values near attention_exact's. Not the operator: nothing is validated or
// allocated. All pointers are to device memory.
//
// Keys have one of two forms. As tiles (kvass/tiles.h): `runs` has each sequence's tiles, `visible` the keys that a row
// sees. As rows: strided tensors of all sequences; the keys that a row sees follow from their sizes (kvass/ops.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "device/dispatch.h"
#include "kvass/tensor.h"
#include "kvass/tiles.h"

namespace kvass {

// The strides are in elements: index (i, j, h, c) is at data + i · run + j · row + h · head + c · channel.
template <class Void>
struct DeviceRows {
  Void* data = nullptr;
  DType dtype = DType::f32;
  int64_t run = 0, row = 0, head = 0, channel = 1;
};

// The rows and tiles of one sequence.
struct DeviceAttentionRun {
  int64_t first_row = 0;  // in q, out, visible and the rotary tables
  int64_t rows = 0;
  KeySegment sink;  // tiles = 0: none
  KeySegment body;
  const uint64_t* sink_valid = nullptr;  // [tiles] bit = lane: the key is not padding; null: every key
  const uint64_t* body_valid = nullptr;
};

// Keys and values of all runs as rows: `cached` rows of the first part, followed by the rows of the second.
struct DeviceKeyRows {
  DeviceRows<const uint8_t> k[2], v[2];
  int64_t cached = 0;
  int64_t keys = 0;     // rows of both parts
  int64_t queries = 0;  // query rows of every run; the last one has the position of the last key
  bool causal = true;
  int64_t window = 0;                       // 0: everything
  int64_t window_right = -1;                // keys after its own position that a row sees; -1: no limit
  int64_t chunk = 0;                        // a row sees its own chunk of so many positions; 0: no chunks
  int64_t sinks = 0;                        // at most the number of keys from the first position on
  const int64_t* first_position = nullptr;  // [runs]; null: 0
  const uint8_t* mask = nullptr;            // a byte for each run and key, 0 = padding; null: no padding
  int64_t mask_run = 0, mask_key = 1;
};

// Largest number of queries in one block of device threads.
inline constexpr int64_t kDeviceBlockQueries = 64;

struct DeviceAttentionParams {
  DeviceRows<const void> q;       // f32 for tiles; not rotated if `cos` is set
  DeviceRows<const void> q_sink;  // the query for sink keys, if the caller has rotated it; no data: q
  DeviceRows<void> out;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;      // channels of q, out and rows of keys
  DType dtype = DType::f16;  // storage type of keys and values
  float scale = 1.0f;
  float softcap = 0.0f;                // 0: none
  const float* sink_logits = nullptr;  // [heads]; null: none
  const float* cos = nullptr;          // [rows][head_dim / 2]; null: q is not rotated
  const float* sin = nullptr;
  const float* sink_cos = nullptr;  // the rotation for sink keys; null: cos and sin
  const float* sink_sin = nullptr;
  bool interleaved = false;  // rotary pairs are (2i, 2i + 1), not (i, i + head_dim / 2)

  const DeviceAttentionRun* runs = nullptr;  // [run_count]; null: rows of keys
  const RowVisibility* visible = nullptr;    // [rows of all runs]
  DeviceKeyRows keys;
  int64_t run_count = 0;
  int64_t most_rows = 0;  // rows of the longest run

  // Division of the work; it does not change a bit. The largest numbers of spans for a block of at most
  // kDeviceBlockQueries queries: spans of sink keys, and spans of other keys from the first to the last that its rows
  // see.
  int64_t sink_spans = 0;
  int64_t body_spans = 0;
  int64_t shared_bytes = 96 << 10;  // shared memory limit of a block of threads
  int processors = 1;               // multiprocessors of the device
  void* scratch = nullptr;          // device_attention_scratch_bytes, 64-byte aligned
};

// The scratch of attention_exact or attention_fast for at most so many runs, spans, and rows of all runs together. The
// launch divides the work by the same numbers.
size_t device_attention_scratch_bytes(int64_t rows, int64_t runs, int64_t heads, int64_t kv_heads, int64_t head_dim,
                                      int64_t spans, int processors);

KVASS_DECLARE_DEVICE_KERNEL(DeviceAttentionParams, attention_exact)
KVASS_DECLARE_DEVICE_KERNEL(DeviceAttentionParams, attention_fast)

// The number of spans that offsets [begin, end) touch, for sink_spans and ring_spans.
constexpr int64_t spans_between(int64_t begin, int64_t end) {
  return begin < end ? (end + kSpanKeys - 1) / kSpanKeys - begin / kSpanKeys : 0;
}

}  // namespace kvass
