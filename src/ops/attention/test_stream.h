// A random stream for the attention tests. Keys, values and queries are functions of (seed, position, element), so a
// test can fill any cache from any position on and compute any rows again in another form.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "base/float16.h"
#include "kernels/quantise_q8/quantise_q8.h"
#include "ops/attention/attention.h"

namespace kvass {

// A cache of one layer. Elements that are never written are NaN.
class TestCache {
 public:
  TestCache(TileShape shape, int64_t sinks, int64_t ring_tiles)
      : shape_(shape), sinks_(sinks), sink_tiles_((sinks + kTileKeys - 1) / kTileKeys), ring_tiles_(ring_tiles) {
    sink_.resize(shape.segment_bytes(sink_tiles_) + 64, 0xff);  // 0xff… is a NaN in every storage type
    ring_.resize(shape.segment_bytes(ring_tiles_) + 64, 0xff);
  }

  KeySegment sink() { return {align(sink_), sink_tiles_, 0}; }
  KeySegment ring() { return {align(ring_), ring_tiles_, sinks_}; }

  // k, v: [kv_heads][head_dim]
  void write(int64_t position, const float* k, const float* v) {
    const KeySegment segment = position < sinks_ ? sink() : ring();
    const int64_t lane = KeySegment::lane_of(position - segment.origin);
    for (int64_t head = 0; head < shape_.kv_heads; ++head) {
      uint8_t* tile =
          segment.data + static_cast<size_t>(head * segment.tiles + segment.tile_of(position)) * shape_.tile_bytes();
      if (shape_.dtype == DType::q8) {
        store_q8(tile, lane, k + head * shape_.head_dim, true);
        store_q8(tile + shape_.key_bytes(), lane, v + head * shape_.head_dim, false);
        continue;
      }
      for (int64_t d = 0; d < shape_.head_dim; ++d) {
        store(tile, d * kTileKeys + lane, k[head * shape_.head_dim + d]);
        store(tile + shape_.key_bytes(), lane * shape_.head_dim + d, v[head * shape_.head_dim + d]);
      }
    }
  }

  // A key or value of one head, [head_dim], rounded to the storage type and read back.
  std::vector<double> rounded(const std::vector<float>& x) const {
    std::vector<double> result(x.begin(), x.end());
    if (shape_.dtype == DType::q8) {
      std::vector<int8_t> q(x.size());
      const float scale = scalar::quantise_q8(x.data(), shape_.head_dim, q.data());
      for (size_t d = 0; d < x.size(); ++d) result[d] = static_cast<double>(q[d]) * static_cast<double>(scale);
    } else if (shape_.dtype != DType::f32) {
      const bool f16 = shape_.dtype == DType::f16;
      for (size_t d = 0; d < x.size(); ++d) {
        result[d] = f16 ? f16_to_float(float_to_f16_saturating(x[d])) : bf16_to_float(float_to_bf16(x[d]));
      }
    }
    return result;
  }

 private:
  static uint8_t* align(std::vector<uint8_t>& bytes) {
    return reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(bytes.data()) + 63) / 64 * 64);
  }
  // Keys are stored as [head_dim / 4][64][4], values as [64][head_dim], each followed by 64 scales.
  void store_q8(uint8_t* half, int64_t lane, const float* x, bool key) const {
    std::vector<int8_t> q(static_cast<size_t>(shape_.head_dim));
    const float scale = scalar::quantise_q8(x, shape_.head_dim, q.data());
    for (int64_t d = 0; d < shape_.head_dim; ++d) {
      half[key ? d / 4 * 256 + lane * 4 + d % 4 : lane * shape_.head_dim + d] = static_cast<uint8_t>(q[d]);
    }
    std::memcpy(half + 64 * shape_.head_dim + 4 * lane, &scale, 4);
  }
  void store(uint8_t* data, int64_t index, float x) const {
    if (shape_.dtype == DType::f32) {
      reinterpret_cast<float*>(data)[index] = x;
    } else {
      reinterpret_cast<uint16_t*>(data)[index] =
          shape_.dtype == DType::f16 ? float_to_f16_saturating(x) : float_to_bf16(x);
    }
  }

  TileShape shape_;
  int64_t sinks_, sink_tiles_, ring_tiles_;
  std::vector<uint8_t> sink_, ring_;
};

struct TestStream {
  uint64_t seed = 0;
  TileShape shape{DType::f32, 1, 64};
  int64_t heads = 1;
  int64_t sinks = 0;
  int64_t window = 0;  // 0: everything
  float softcap = 0.0f;
  bool rotary = false;       // random rotations at each position
  bool sink_rotary = false;  // other angles for sink keys
  bool sink_logits = false;

  float value(uint64_t stream, int64_t position, int64_t element) const {
    uint64_t x = seed * 0x9e3779b97f4a7c15u + stream * 0xd1342543de82ef95u +
                 static_cast<uint64_t>(position) * 0xaf251af3b0f025b5u +
                 static_cast<uint64_t>(element) * 0x2545f4914f6cdd1du;
    float sum = 0.0f;  // sum of three uniform numbers: close to a normal distribution of variance 1
    for (int i = 0; i < 3; ++i) {
      x += 0x9e3779b97f4a7c15u;
      uint64_t z = x;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
      sum += static_cast<float>((z ^ (z >> 31)) >> 40) * 0x1p-23f - 1.0f;
    }
    return sum;
  }
  std::vector<float> values(uint64_t stream, int64_t position, int64_t count) const {
    std::vector<float> result(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) result[static_cast<size_t>(i)] = value(stream, position, i);
    return result;
  }
  // Key (stream 1) or value (2) of one head.
  std::vector<float> head(uint64_t stream, int64_t position, int64_t kv_head) const {
    std::vector<float> result;
    for (int64_t d = 0; d < shape.head_dim; ++d) {
      result.push_back(value(stream, position, kv_head * shape.head_dim + d));
    }
    return result;
  }
  std::vector<float> key(int64_t position) const { return values(1, position, shape.kv_heads * shape.head_dim); }
  std::vector<float> channel(int64_t position) const { return values(2, position, shape.kv_heads * shape.head_dim); }
  std::vector<float> query(int64_t position) const { return values(3, position, heads * shape.head_dim); }

  RowVisibility visible(int64_t position) const {
    RowVisibility row;
    row.sink_end = std::min(sinks, position + 1);
    row.begin = window == 0 ? sinks : std::max(sinks, position - window + 1);
    row.end = std::max(row.begin, position + 1);
    return row;
  }

  void fill(TestCache& cache, int64_t begin, int64_t end) const {
    for (int64_t position = begin; position < end; ++position)
      cache.write(position, key(position).data(), channel(position).data());
  }
};

// Rows of one or more streams with equal shapes, as arguments of attention.
class TestRows {
 public:
  explicit TestRows(const TestStream& form) : form_(form) {
    if (form.sink_logits) logits_ = form.values(6, 0, form.heads);
  }

  // Rows at positions [begin, end) of `stream`, whose keys are in `cache`.
  void add(const TestStream& stream, TestCache& cache, int64_t begin, int64_t end) {
    AttentionRun run;
    run.first_row = rows_;
    run.rows = end - begin;
    run.sink = cache.sink();
    run.body = cache.ring();
    std::vector<RowVisibility> visible;
    for (int64_t position = begin; position < end; ++position) {
      append(q_, stream.query(position));
      for (int table = 0; table < 2; ++table) {
        for (int64_t i = 0; i < stream.shape.head_dim / 2; ++i) {
          const float angle = 3.0f * stream.value(4 + static_cast<uint64_t>(table), position, i);
          cos_[table].push_back(std::cos(angle));
          sin_[table].push_back(std::sin(angle));
        }
      }
      visible.push_back(stream.visible(position));
    }
    rows_ += run.rows;
    visible_.push_back(std::move(visible));
    run.visible = visible_.back().data();
    runs_.push_back(run);
  }

  std::vector<float> attend(Isa isa, int threads) const {
    ThreadPool pool(threads);
    std::vector<float> out(q_.size(), std::numeric_limits<float>::quiet_NaN());
    AttentionArgs args = this->args();
    args.out = out.data();
    const size_t bytes =
        attention_scratch_bytes(rows_, form_.heads, form_.shape.kv_heads, form_.shape.head_dim, threads);
    std::vector<uint8_t> scratch(bytes + 128, 0xff);
    uint8_t* aligned = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64);
    attention(args, aligned, pool, isa);
    for (const uint8_t* p = aligned + bytes; p < scratch.data() + scratch.size(); ++p) EXPECT_EQ(*p, 0xff);
    return out;
  }

  AttentionArgs args() const {
    AttentionArgs args;
    args.q = q_.data();
    args.q_stride = args.out_stride = form_.heads * form_.shape.head_dim;
    args.heads = form_.heads;
    args.shape = form_.shape;
    args.scale = 1.0f / std::sqrt(static_cast<float>(form_.shape.head_dim));
    args.softcap = form_.softcap;
    if (form_.sink_logits) args.sink_logits = logits_.data();
    if (form_.rotary) {
      args.cos = cos_[0].data();
      args.sin = sin_[0].data();
    }
    if (form_.sink_rotary) {
      args.sink_cos = cos_[1].data();
      args.sink_sin = sin_[1].data();
    }
    args.runs = runs_;
    return args;
  }

  std::vector<AttentionRun>& runs() { return runs_; }
  std::vector<RowVisibility>& visible(size_t run) { return visible_[run]; }
  int64_t rows() const { return rows_; }
  std::vector<float>& q() { return q_; }

 private:
  static void append(std::vector<float>& to, const std::vector<float>& from) {
    to.insert(to.end(), from.begin(), from.end());
  }

  TestStream form_;
  int64_t rows_ = 0;
  std::vector<float> q_, logits_;
  std::vector<float> cos_[2], sin_[2];  // [0] at the own positions, [1] for sink keys
  std::vector<std::vector<RowVisibility>> visible_;
  std::vector<AttentionRun> runs_;
};

inline std::vector<Isa> available_isas() {
  std::vector<Isa> isas;
  for (Isa isa : kIsas) {
    if (isa_available(isa, detect_cpu_features())) isas.push_back(isa);
  }
  return isas;
}

inline Isa best_isa() { return choose_isa(detect_cpu_features(), "").value(); }

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace kvass
