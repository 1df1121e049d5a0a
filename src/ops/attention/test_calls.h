// Random calls of the attention operators for their tests: tensors, options, and the arrays to which options point.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "ops/attention/test_tensors.h"

namespace kvass {

// One call. Owns its tensors and the arrays to which its options point.
struct Call {
  TestTensor q, k, v, q_sink;
  AttentionOptions options;
  std::vector<uint8_t> mask;
  std::vector<int64_t> first, documents_q, documents_k;
  std::vector<float> logits;

  Call() = default;
  Call(DType dtype, int64_t batch, int64_t heads, int64_t kv_heads, int64_t rows, int64_t keys, int64_t head_dim,
       testing::Random& random)
      : q(dtype, {batch, heads, rows, head_dim}, random, 3.0f),
        k(dtype, {batch, kv_heads, keys, head_dim}, random),
        v(dtype, {batch, kv_heads, keys, head_dim}, random) {}

  int64_t batch() const { return q.shape()[0]; }
  int64_t rows() const { return q.shape()[2]; }
  int64_t keys() const { return k.shape()[2]; }
  AttentionOptions all_options() const {
    AttentionOptions all = options;
    if (!mask.empty()) all.key_padding_mask = {mask.data(), batch(), keys(), keys(), 1};
    all.first_position = first;
    all.cu_seqlens_q = documents_q;
    all.cu_seqlens_k = documents_k;
    all.sink_logits = logits;
    if (q_sink.elements() > 1) all.q_sink = q_sink.view();
    return all;
  }
  TestTensor run(OpContext& context) const {
    TestTensor out(DType::f32, q.shape());
    const Status status = attention_fp32(context, q.view(), k.view(), v.view(), all_options(), out.view());
    EXPECT_TRUE(status.ok()) << status.message();
    return out;
  }
  // Keys [0, cached) as the cache; queries from row cached − (keys − rows) on.
  TestTensor run_cached(OpContext& context, int64_t cached) const {
    const int64_t first_row = cached - (keys() - rows());
    const TestTensor suffix = q.slice(2, first_row, rows());
    AttentionOptions all = all_options();
    TestTensor sinks;
    if (all.q_sink.data) {
      sinks = q_sink.slice(2, first_row, rows());
      all.q_sink = std::as_const(sinks).view();
    }
    TestTensor out(DType::f32, suffix.shape());
    const CachedKeys parts{k.view().slice(2, 0, cached), v.view().slice(2, 0, cached),
                           k.view().slice(2, cached, keys()), v.view().slice(2, cached, keys())};
    const Status status = kv_cache_attention_fp32(context, suffix.view(), parts, all, out.view());
    EXPECT_TRUE(status.ok()) << status.message();
    return out;
  }
  std::string describe() const {
    return std::string(dtype_name(q.dtype())) + " q [" + std::to_string(batch()) + ", " + std::to_string(q.shape()[1]) +
           ", " + std::to_string(rows()) + ", " + std::to_string(q.shape()[3]) + "] kv heads " +
           std::to_string(k.shape()[1]) + " keys " + std::to_string(keys()) + " window " +
           std::to_string(options.window) + " right " + std::to_string(options.window_right.value_or(-1)) + " chunk " +
           std::to_string(options.attention_chunk) + " sinks " + std::to_string(options.sinks) +
           (options.causal ? " causal" : "") + (mask.empty() ? "" : " mask") + (first.empty() ? "" : " first") +
           (q_sink.elements() > 1 ? " q_sink" : "");
  }
};

inline constexpr DType kTypes[] = {DType::f32, DType::f16, DType::bf16};

// The trial number chooses the type, so that a few trials cover all types.
inline Call random_call(testing::Random& random, int trial) {
  const int64_t head_dims[] = {16, 20, 64, 80, 128, 7, 256};
  const int64_t kv_heads = random.integer(1, 3);
  const int64_t rows = random.integer(0, 3) == 0 ? random.integer(1, 60) : random.integer(1, 5);
  const int64_t keys = random.integer(0, 4) == 0 ? random.integer(1, 30) : rows + random.integer(0, 700);
  Call call(kTypes[trial % 3], random.integer(1, 3), kv_heads * random.integer(1, 5), kv_heads, rows, keys,
            head_dims[random.integer(0, 6)], random);
  call.options.causal = random.integer(0, 3) != 0;
  if (random.integer(0, 2) == 0) call.options.window = random.integer(1, 300);
  if (random.integer(0, 1) == 0) call.options.sinks = random.integer(1, 100);
  if (random.integer(0, 3) == 0) call.options.softcap = 4.0f;
  if (random.integer(0, 3) == 0) {
    for (int64_t h = 0; h < call.q.shape()[1]; ++h) call.logits.push_back(random.real());
  }
  if (random.integer(0, 2) == 0) {
    for (int64_t i = 0; i < call.batch() * keys; ++i) call.mask.push_back(random.integer(0, 5) != 0);
  }
  if (random.integer(0, 2) == 0) {
    for (int64_t b = 0; b < call.batch(); ++b) call.first.push_back(random.integer(0, keys));
  }
  if (random.integer(0, 2) == 0) call.q_sink = TestTensor(call.q.dtype(), call.q.shape(), random);
  if (random.integer(0, 3) == 0) call.options.window_right = random.integer(0, 80);
  if (call.options.sinks == 0 && random.integer(0, 2) == 0) call.options.attention_chunk = random.integer(1, 200);
  return call;
}

// Rows and keys of each batch row as up to four documents, some of them empty. Needs at least one row and one key.
inline void add_documents(Call& call, testing::Random& random) {
  call.first.clear();
  call.documents_q = call.documents_k = {0};
  for (int64_t b = 0; b < call.batch(); ++b) {
    int64_t row = 0, key = 0;
    for (int i = 0; i < 3; ++i) {
      row = random.integer(0, 2) == 0 ? row : random.integer(row, call.rows());
      key = random.integer(0, 2) == 0 ? key : random.integer(key, call.keys());
      call.documents_q.push_back(b * call.rows() + row);
      call.documents_k.push_back(b * call.keys() + key);
    }
    call.documents_q.push_back((b + 1) * call.rows());
    call.documents_k.push_back((b + 1) * call.keys());
  }
}

// Document n of batch row b, [b · 4 + n], as a call of its own; without rows or keys it has none.
inline Call document_of(const Call& call, size_t n) {
  const int64_t b = static_cast<int64_t>(n) / 4;
  const int64_t row = call.documents_q[n] - b * call.rows(), rows = call.documents_q[n + 1] - call.documents_q[n];
  const int64_t key = call.documents_k[n] - b * call.keys(), keys = call.documents_k[n + 1] - call.documents_k[n];
  Call one = call;
  one.documents_q.clear();
  one.documents_k.clear();
  one.q = call.q.slice(0, b, b + 1).slice(2, row, row + rows);
  one.k = call.k.slice(0, b, b + 1).slice(2, key, key + keys);
  one.v = call.v.slice(0, b, b + 1).slice(2, key, key + keys);
  if (call.q_sink.elements() > 1) one.q_sink = call.q_sink.slice(0, b, b + 1).slice(2, row, row + rows);
  if (!call.mask.empty()) {
    one.mask.assign(call.mask.begin() + b * call.keys() + key, call.mask.begin() + b * call.keys() + key + keys);
  }
  return one;
}

}  // namespace kvass
