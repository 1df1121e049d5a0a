// Reads DeviceAttentionParams for both attention kernels: the rows of a block of device threads, the keys that they
// see, and the addresses of their queries, keys and results.
#pragma once

#include "device/code.h"
#include "device/lane.h"
#include "kernels/attention/device.h"

namespace kvass::KVASS_DEVICE {
namespace {

struct alignas(16) Four {
  float x[4];
};

KVASS_DEVICE_FN int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }
KVASS_DEVICE_FN int64_t greater(int64_t a, int64_t b) { return a > b ? a : b; }

// The storage types of keys and values.
struct StoredF32 {
  using T = float;
  static constexpr DType kType = DType::f32;
  KVASS_DEVICE_STATIC float load(const T* p) { return *p; }
};
struct StoredF16 {
  using T = uint16_t;
  static constexpr DType kType = DType::f16;
  KVASS_DEVICE_STATIC float load(const T* p) { return f16_to_float(*p); }
};
struct StoredBf16 {
  using T = uint16_t;
  static constexpr DType kType = DType::bf16;
  KVASS_DEVICE_STATIC float load(const T* p) { return bf16_to_float(*p); }
};
struct StoredQ8 {
  using T = int8_t;
  static constexpr DType kType = DType::q8;
  KVASS_DEVICE_STATIC float load(const T* p) { return static_cast<float>(*p); }
};

KVASS_DEVICE_FN float load_element(const void* data, DType dtype, int64_t at) {
  if (dtype == DType::f32) return static_cast<const float*>(data)[at];
  const uint16_t bits = static_cast<const uint16_t*>(data)[at];
  return dtype == DType::f16 ? f16_to_float(bits) : bf16_to_float(bits);
}
KVASS_DEVICE_FN void store_element(void* data, DType dtype, int64_t at, float x) {
  if (dtype == DType::f32) {
    static_cast<float*>(data)[at] = x;
  } else {
    static_cast<uint16_t*>(data)[at] = dtype == DType::f16 ? float_to_f16(x) : float_to_bf16(x);
  }
}

// Rows are (query, head of the group) pairs, heads fastest, as in AttentionBlock.
struct Item {
  int64_t run, kv_head;
  int64_t first;  // first row, counted within the run and KV head
  int64_t rows;   // at most the rows of a block; 0: nothing to do
};

// Item `index`, with `block_rows` rows in a block. The last rows of a causal run come first, because they see the most
// keys.
KVASS_DEVICE_FN Item item_at(const DeviceAttentionParams& p, int64_t index, int64_t blocks, int block_rows) {
  const int64_t group = p.heads / p.kv_heads;
  Item item;
  item.kv_head = index % p.kv_heads;
  item.run = index / p.kv_heads % p.run_count;
  item.first = (blocks - 1 - index / p.kv_heads / p.run_count) * block_rows;
  const int64_t all = (p.runs ? p.runs[item.run].rows : p.keys.queries) * group;
  item.rows = greater(0, lesser(block_rows, all - item.first));
  return item;
}

KVASS_DEVICE_FN int64_t first_position(const DeviceAttentionParams& p, int64_t run) {
  return p.keys.first_position ? p.keys.first_position[run] : 0;
}
KVASS_DEVICE_FN int64_t sinks_of(const DeviceAttentionParams& p, int64_t run) {
  return lesser(p.keys.sinks, p.keys.keys - first_position(p, run));
}

KVASS_DEVICE_FN RowVisibility visible_to(const DeviceAttentionParams& p, int64_t run, int64_t query) {
  if (p.runs) return p.visible[p.runs[run].first_row + query];
  const int64_t everything = int64_t{1} << 60;
  const int64_t length = p.keys.keys - first_position(p, run);
  const int64_t sinks = sinks_of(p, run);
  const int64_t position = length - p.keys.queries + query;
  const int64_t window = p.keys.window == 0 ? everything : lesser(p.keys.window, everything);
  const int64_t limit = p.keys.window_right < 0 ? everything : lesser(p.keys.window_right, everything);
  int64_t end = lesser(greater(position + (p.keys.causal ? 0 : limit) + 1, 0), length);
  int64_t begin = position - window + 1;
  if (p.keys.chunk > 0) {
    const int64_t chunk = greater(position, 0) / p.keys.chunk * p.keys.chunk;
    begin = greater(begin, chunk);
    end = position < 0 ? 0 : lesser(end, chunk + lesser(p.keys.chunk, everything));
  }
  RowVisibility row;
  row.sink_end = lesser(sinks, end);
  row.begin = greater(sinks, begin);
  row.end = greater(row.begin, end);
  return row;
}

// The sink keys of a run, or its other keys; `offset` of a key = position − origin.
struct Segment {
  const uint8_t* data = nullptr;  // the KV head's tiles
  int64_t tiles = 0;
  const uint64_t* valid = nullptr;
  int64_t origin = 0;
  int64_t first_key = 0;  // keys as rows: the row at offset 0
};

KVASS_DEVICE_FN Segment segment_of(const DeviceAttentionParams& p, const Item& item, bool in_sink, int64_t tile_bytes) {
  Segment segment;
  if (p.runs) {
    const KeySegment from = in_sink ? p.runs[item.run].sink : p.runs[item.run].body;
    segment.data = from.data + item.kv_head * from.tiles * tile_bytes;
    segment.tiles = from.tiles;
    segment.valid = in_sink ? p.runs[item.run].sink_valid : p.runs[item.run].body_valid;
    segment.origin = from.origin;
  } else {
    segment.origin = in_sink ? 0 : sinks_of(p, item.run);
    segment.first_key = first_position(p, item.run) + segment.origin;
    segment.tiles = 1;
  }
  return segment;
}

// True if the key at an offset is valid (not padding).
KVASS_DEVICE_FN bool valid_key(const DeviceAttentionParams& p, const Segment& segment, int64_t run, int64_t offset) {
  if (p.runs) {
    if (!segment.valid) return true;
    const int64_t tile = offset / kTileKeys % segment.tiles;
    return (segment.valid[tile] >> (offset % kTileKeys) & 1) != 0;
  }
  if (!p.keys.mask) return true;
  const int64_t key = segment.first_key + offset;
  return key < p.keys.keys && p.keys.mask[run * p.keys.mask_run + key * p.keys.mask_key] != 0;
}

// The offsets [low, high) that a row sees of a segment.
struct Seen {
  int64_t low, high;
};
KVASS_DEVICE_FN Seen seen_of(const DeviceAttentionParams& p, const Item& item, const Segment& segment, int64_t row,
                             bool in_sink) {
  if (segment.tiles == 0) return {0, 0};
  const RowVisibility visible = visible_to(p, item.run, row / (p.heads / p.kv_heads));
  const int64_t low = in_sink ? 0 : greater(visible.begin - segment.origin, 0);
  const int64_t high = (in_sink ? visible.sink_end : visible.end) - segment.origin;
  return {low, greater(low, high)};
}

// The first span of the body that a row of the block sees.
KVASS_DEVICE_FN int64_t first_body_span(const DeviceAttentionParams& p, const Item& item, const Segment& body) {
  int64_t first = INT64_MAX;
  for (int64_t r = 0; r < item.rows; ++r) {
    const Seen seen = seen_of(p, item, body, item.first + r, false);
    if (seen.low < seen.high) first = lesser(first, seen.low);
  }
  return first == INT64_MAX ? 0 : first / kSpanKeys;
}

template <class Rows>
KVASS_DEVICE_FN int64_t element_of(const DeviceAttentionParams& p, const Rows& rows, const Item& item, int64_t row) {
  const int64_t group = p.heads / p.kv_heads;
  const int64_t first = p.runs ? p.runs[item.run].first_row : 0;
  return item.run * rows.run + (first + row / group) * rows.row + (item.kv_head * group + row % group) * rows.head;
}

// Writes row `row`'s query, rotated for the keys of a segment, to `to`: channels [0, padded), +0 from head_dim on.
// `threads` threads share the work; this is number `thread`.
KVASS_DEVICE_FN void load_query(const DeviceAttentionParams& p, const Item& item, int64_t row, bool in_sink, int padded,
                                int thread, int threads, float* to) {
  const DeviceRows<const void>& from = in_sink && p.q_sink.data ? p.q_sink : p.q;
  const int64_t at = element_of(p, from, item, row);
  const int head_dim = static_cast<int>(p.head_dim);
  for (int d = head_dim + thread; d < padded; d += threads) to[d] = 0.0f;
  if (!p.cos) {
    for (int d = thread; d < head_dim; d += threads) to[d] = load_element(from.data, from.dtype, at + d * from.channel);
    return;
  }
  const int half = head_dim / 2;
  const int64_t query = (p.runs ? p.runs[item.run].first_row : 0) + row / (p.heads / p.kv_heads);
  const float* cos = (in_sink && p.sink_cos ? p.sink_cos : p.cos) + query * half;
  const float* sin = (in_sink && p.sink_sin ? p.sink_sin : p.sin) + query * half;
  for (int i = thread; i < half; i += threads) {
    const int a = p.interleaved ? 2 * i : i;
    const int b = p.interleaved ? 2 * i + 1 : i + half;
    const float x1 = load_element(from.data, from.dtype, at + a * from.channel);
    const float x2 = load_element(from.data, from.dtype, at + b * from.channel);
    to[a] = fma_rn(x1, cos[i], -mul_rn(x2, sin[i]));
    to[b] = fma_rn(x2, cos[i], mul_rn(x1, sin[i]));
  }
}

// The address of a key's or value's row of a KV head.
KVASS_DEVICE_FN const uint8_t* key_row(const DeviceKeyRows& keys, const DeviceRows<const uint8_t>* parts, int64_t run,
                                       int64_t kv_head, int64_t key, int64_t element_bytes) {
  const bool in_cache = key < keys.cached;
  const DeviceRows<const uint8_t>& part = parts[in_cache ? 0 : 1];
  const int64_t row = in_cache ? key : key - keys.cached;
  return part.data + (run * part.run + kv_head * part.head + row * part.row) * element_bytes;
}

// True if rows of keys can be copied 16 bytes at a time.
KVASS_DEVICE_FN bool sixteen_bytes(const DeviceRows<const uint8_t>* parts, int64_t cached, int64_t keys,
                                   int64_t element_bytes) {
  bool all = true;
  for (int i = 0; i < 2; ++i) {
    if (i == 0 ? cached == 0 : cached == keys) continue;
    const DeviceRows<const uint8_t>& part = parts[i];
    const int64_t strides = part.run | part.head | part.row;
    all = all && part.channel == 1 && strides * element_bytes % 16 == 0 &&
          reinterpret_cast<uintptr_t>(part.data) % 16 == 0;
  }
  return all;
}

// Floats of the partial of a row and a span: [m, l, unused × 14, o[padded]].
KVASS_BOTH_FN int64_t partial_floats(int64_t padded) { return padded + 16; }

}  // namespace
}  // namespace kvass::KVASS_DEVICE
