// Attention on a device: rows of any number of runs over their keys and values, in one call. Two kernels take the same
// parameters: attention_exact, whose bits are those of attention.h (NUMERICS rule 6), and attention_fast, on tensor
// cores, which is its own order: the same bits in prefill and decode, in any batch and chunking, near attention_exact
// in value. Not the operator: nothing is validated or allocated. All pointers are to the device's memory.
//
// Keys come in one of two forms. As tiles (kvass/tiles.h): `runs` says for each sequence where they are, `visible` what
// a row sees. As rows: strided tensors of all sequences, from whose sizes a row's visible keys follow (kvass/ops.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "device/dispatch.h"
#include "kvass/tensor.h"
#include "kvass/tiles.h"

namespace kvass {

// Element (run, row, head, channel) is data + run · run + row · row + head · head + channel · channel elements.
template <class Void>
struct DeviceRows {
  Void* data = nullptr;
  DType dtype = DType::f32;
  int64_t run = 0, row = 0, head = 0, channel = 1;
};

// One sequence's rows and tiles.
struct DeviceAttentionRun {
  int64_t first_row = 0;  // in q, out, visible and the rotary tables
  int64_t rows = 0;
  KeySegment sink;  // tiles = 0: none
  KeySegment body;
  const uint64_t* sink_valid = nullptr;  // [tiles] bit = lane: may be seen at all; null: every key
  const uint64_t* body_valid = nullptr;
};

// Keys and values as rows, of all runs together: `cached` rows of the first part, then those of the second.
struct DeviceKeyRows {
  DeviceRows<const uint8_t> k[2], v[2];
  int64_t cached = 0;
  int64_t keys = 0;     // of both parts
  int64_t queries = 0;  // rows of every run; the last stands at the last key
  bool causal = true;
  int64_t window = 0;                       // 0: everything
  int64_t sinks = 0;                        // at most the keys behind the first position are
  const int64_t* first_position = nullptr;  // [runs]; null: 0
  const uint8_t* mask = nullptr;            // a byte a run and key, 0 = padding; null: every key
  int64_t mask_run = 0, mask_key = 1;
};

// Most queries that one block of device threads takes.
inline constexpr int64_t kDeviceBlockQueries = 64;

struct DeviceAttentionParams {
  DeviceRows<const void> q;       // f32 for tiles; not rotated where there are tables
  DeviceRows<const void> q_sink;  // the query as sink keys see it, where that is no rotation; no data: q
  DeviceRows<void> out;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;      // of q, out and rows of keys
  DType dtype = DType::f16;  // of keys and values
  float scale = 1.0f;
  float softcap = 0.0f;                // 0: none
  const float* sink_logits = nullptr;  // [heads]; null: none
  const float* cos = nullptr;          // [rows][head_dim / 2]; null: q is taken as it is
  const float* sin = nullptr;
  const float* sink_cos = nullptr;  // of the query as sink keys see it; null: cos and sin
  const float* sink_sin = nullptr;
  bool interleaved = false;  // rotary pairs are neighbours, not halves

  const DeviceAttentionRun* runs = nullptr;  // [run_count]; null: rows of keys
  const RowVisibility* visible = nullptr;    // [rows of all runs]
  DeviceKeyRows keys;
  int64_t run_count = 0;
  int64_t most_rows = 0;  // of a run

  // Division of the work, which is in no bit. Spans: of sink keys, and of other keys from the first that a row of a
  // block sees to the last; as many as any block of rows of at most kDeviceBlockQueries queries may have.
  int64_t sink_spans = 0;
  int64_t body_spans = 0;
  int64_t shared_bytes = 96 << 10;  // that a block of threads may have
  int processors = 1;               // of the device
  void* scratch = nullptr;          // device_attention_scratch_bytes, 64-byte aligned
};

// What attention_exact or attention_fast needs for at most so many rows of all runs, runs and spans; the least of both
// forms of division, which the launch chooses between by the same numbers.
size_t device_attention_scratch_bytes(int64_t rows, int64_t runs, int64_t heads, int64_t kv_heads, int64_t head_dim,
                                      int64_t spans, int processors);

KVASS_DECLARE_DEVICE_KERNEL(DeviceAttentionParams, attention_exact)
KVASS_DECLARE_DEVICE_KERNEL(DeviceAttentionParams, attention_fast)

// The spans that the rows of a run may see between them, for DeviceAttentionParams: of offsets [begin, end).
constexpr int64_t spans_between(int64_t begin, int64_t end) {
  return begin < end ? (end + kSpanKeys - 1) / kSpanKeys - begin / kSpanKeys : 0;
}

}  // namespace kvass
