// The attention operators on the caller's tensors: bits that must not depend on chunks, batches or strides, closed
// forms, and refused arguments. goldens_test.cc compares with float64.
#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "effort.h"
#include "ops/attention/test_calls.h"
#include "ops/attention/test_stream.h"

namespace kvass {
namespace {

TEST(AttentionOperators, EveryBackendAndThreadCountGivesTheBitsOfTheReference) {
  testing::Random random;
  OpContext reference = test_context(1, "reference");
  std::vector<OpContext> contexts;
  for (const std::string& backend : test_backends()) {
    for (const int threads : {1, 2, 3, 8}) contexts.push_back(test_context(threads, backend));
  }
  for (int trial = 0; trial < testing::effort(25, 6); ++trial) {
    const Call call = random_call(random, trial);
    const TestTensor expected = call.run(reference);
    for (OpContext& context : contexts) ASSERT_TRUE(call.run(context).same_bits(expected)) << call.describe();
  }
}

// The same keys are written into a cache's tiles and attended to as in a model.
TEST(AttentionOperators, RowMajorKeysGiveTheBitsOfACache) {
  testing::Random random;
  for (int trial = 0; trial < 12; ++trial) {
    const DType dtype = kTypes[trial % 3];
    const int64_t kv_heads = 2, heads = 6, head_dim = trial % 2 == 0 ? 64 : 128;
    const int64_t rows = trial % 4 == 0 ? 40 : 1;
    Call call(dtype, 1, heads, kv_heads, rows, 640 + random.integer(0, 90), head_dim, random);
    call.options.sinks = trial % 3 * 5;
    call.options.window = trial % 2 * 200;
    const TileShape shape{dtype, kv_heads, head_dim};
    TestCache cache(shape, call.options.sinks, (call.keys() + kTileKeys) / kTileKeys);
    for (int64_t j = 0; j < call.keys(); ++j) {
      std::vector<float> k, v;
      for (int64_t h = 0; h < kv_heads; ++h) {
        for (int64_t d = 0; d < head_dim; ++d) {
          k.push_back(call.k.at(0, h, j, d));
          v.push_back(call.v.at(0, h, j, d));
        }
      }
      cache.write(j, k.data(), v.data());
    }
    TestStream form;
    form.shape = shape;
    form.heads = heads;
    form.sinks = call.options.sinks;
    form.window = call.options.window;
    TestRows through(form);
    through.add(form, cache, call.keys() - rows, call.keys());
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t d = 0; d < head_dim; ++d) {
          through.q()[static_cast<size_t>((i * heads + h) * head_dim + d)] = call.q.at(0, h, i, d);
        }
      }
    }
    OpContext context = test_context(2, "");
    const TestTensor out = call.run(context);
    const std::vector<float> expected = through.attend(best_isa(), 2);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t d = 0; d < head_dim; ++d) {
          ASSERT_EQ(std::bit_cast<uint32_t>(out.at(0, h, i, d)),
                    std::bit_cast<uint32_t>(expected[static_cast<size_t>((i * heads + h) * head_dim + d)]))
              << call.describe();
        }
      }
    }
  }
}

TEST(AttentionOperators, StepwiseDecodeIsOnePrefill) {
  testing::Random random;
  OpContext context = test_context(2, "");
  for (const DType dtype : kTypes) {
    Call call(dtype, 2, 4, 2, 150, 150, 64, random);
    call.options.window = 70;
    call.options.sinks = 3;
    const TestTensor whole = call.run(context);
    for (int64_t i = 0; i < 150; ++i) {
      Call step = call;
      step.q = call.q.slice(2, i, i + 1);
      step.k = call.k.slice(2, 0, i + 1);
      step.v = call.v.slice(2, 0, i + 1);
      ASSERT_TRUE(step.run_cached(context, i).same_bits(whole.slice(2, i, i + 1))) << "step " << i;
    }
  }
}

TEST(AttentionOperators, EverySplitOfCacheAndNewIsThePlainCall) {
  testing::Random random;
  OpContext context = test_context(2, "");
  for (int trial = 0; trial < 4; ++trial) {
    Call call = random_call(random, trial);
    call.k = TestTensor(call.q.dtype(), {call.batch(), call.k.shape()[1], 140, call.q.shape()[3]}, random);
    call.v = TestTensor(call.q.dtype(), call.k.shape(), random);
    call.q = TestTensor(call.q.dtype(), {call.batch(), call.q.shape()[1], 140, call.q.shape()[3]}, random);
    call.mask.clear();
    call.first.clear();
    if (call.q_sink.elements() > 1) call.q_sink = TestTensor(call.q.dtype(), call.q.shape(), random);
    const TestTensor whole = call.run(context);
    for (int64_t cached = 0; cached <= 140; cached += trial == 0 ? 1 : 7) {
      ASSERT_TRUE(call.run_cached(context, cached).same_bits(whole.slice(2, cached, 140)))
          << call.describe() << " cached " << cached;
    }
  }
}

TEST(AttentionOperators, ABatchIsItsSlices) {
  testing::Random random;
  OpContext context = test_context(3, "");
  for (int trial = 0; trial < testing::effort(15, 6); ++trial) {
    const Call call = random_call(random, trial);
    const TestTensor whole = call.run(context);
    for (int64_t b = 0; b < call.batch(); ++b) {
      Call one = call;
      one.q = call.q.slice(0, b, b + 1);
      one.k = call.k.slice(0, b, b + 1);
      one.v = call.v.slice(0, b, b + 1);
      if (call.q_sink.elements() > 1) one.q_sink = call.q_sink.slice(0, b, b + 1);
      if (!call.first.empty()) one.first = {call.first[static_cast<size_t>(b)]};
      if (!call.mask.empty()) {
        one.mask.assign(call.mask.begin() + b * call.keys(), call.mask.begin() + (b + 1) * call.keys());
      }
      ASSERT_TRUE(one.run(context).same_bits(whole.slice(0, b, b + 1))) << call.describe();
    }
  }
}

TEST(AttentionOperators, PackedDocumentsHaveTheBitsOfCallsOfTheirOwn) {
  testing::Random random;
  OpContext context = test_context(3, "");
  for (int trial = 0; trial < testing::effort(20, 8); ++trial) {
    Call call = random_call(random, trial);
    add_documents(call, random);
    const TestTensor whole = call.run(context);
    for (size_t n = 0; n + 1 < call.documents_q.size(); ++n) {
      const Call one = document_of(call, n);
      if (one.rows() == 0) continue;
      const int64_t b = static_cast<int64_t>(n) / 4, row = call.documents_q[n] - b * call.rows();
      const TestTensor part = whole.slice(0, b, b + 1).slice(2, row, row + one.rows());
      ASSERT_TRUE(one.run(context).same_bits(part)) << call.describe() << " document " << n;
    }
  }
}

// The rule of kvass/ops.h, key by key: a row's bits are those of a call in which a mask hides what the rule hides.
TEST(AttentionOperators, RightWindowsAndChunksHideWhatTheirRuleSays) {
  testing::Random random;
  OpContext context = test_context(2, "");
  for (int trial = 0; trial < testing::effort(12, 6); ++trial) {
    Call call(kTypes[trial % 3], 1, 4, 2, 1, 1 + random.integer(0, 300), 32, random);
    call.options.causal = trial % 2 == 0;
    if (trial % 3 != 0) call.options.window_right = random.integer(0, 40);
    if (trial % 4 != 0) call.options.attention_chunk = random.integer(1, 150);
    if (trial % 5 == 0) call.options.window = random.integer(1, 100);
    const int64_t rows = std::min<int64_t>(call.keys(), 40);
    call.q = TestTensor(call.q.dtype(), {1, 4, rows, 32}, random, 3.0f);
    const int64_t first = random.integer(0, 20);
    call.first = {std::min(first, call.keys())};
    const TestTensor whole = call.run(context);
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t p = call.keys() - rows + i;
      Call row = call;
      row.q = call.q.slice(2, i, i + 1);
      row.options = {};
      row.options.causal = false;
      row.mask.clear();
      for (int64_t j = 0; j < call.keys(); ++j) {
        const int64_t chunk = call.options.attention_chunk, from = call.first[0];
        const bool together = chunk == 0 || (p >= from && (p - from) / chunk == (j - from) / chunk);
        const bool seen = (!call.options.causal || j <= p) && j >= from && together &&
                          (call.options.window == 0 || p - j < call.options.window) &&
                          j - p <= call.options.window_right.value_or(call.keys());
        row.mask.push_back(seen ? 1 : 0);
      }
      ASSERT_TRUE(row.run(context).same_bits(whole.slice(2, i, i + 1))) << call.describe() << " row " << i;
    }
  }
}

TEST(AttentionOperators, PaddingIsAsIfItWereNotThere) {
  testing::Random random;
  OpContext context = test_context(2, "");
  for (const int64_t sinks : {0, 5}) {
    Call plain(DType::f32, 1, 4, 2, 90, 90, 64, random);
    plain.options.sinks = sinks;
    plain.options.window = sinks == 0 ? 0 : 40;
    const TestTensor expected = plain.run(context);
    const auto padded = [&](const TestTensor& t, int64_t left, int64_t right) {
      TestTensor result(t.dtype(), {1, t.shape()[1], left + 90 + right, 64});  // NaN around it
      for (int64_t h = 0; h < t.shape()[1]; ++h) {
        for (int64_t i = 0; i < 90; ++i) {
          for (int64_t d = 0; d < 64; ++d) result.set(result.index(0, h, left + i, d), t.at(0, h, i, d));
        }
      }
      return result;
    };
    for (const int64_t left : {0, 1, 37, 64}) {
      Call call = plain;
      const int64_t right = left == 0 ? 21 : 0;
      call.q = padded(plain.q, left, right);
      call.k = padded(plain.k, left, right);
      call.v = padded(plain.v, left, right);
      for (int64_t j = 0; j < call.keys(); ++j) call.mask.push_back(j >= left && j < left + 90);
      call.first = {left};
      EXPECT_TRUE(call.run(context).slice(2, left, left + 90).same_bits(expected)) << left << " to the left";
      call.mask.clear();
      if (right == 0) {
        EXPECT_TRUE(call.run(context).slice(2, left, left + 90).same_bits(expected)) << left << " without a mask";
      }
      if (sinks != 0 || right != 0) continue;
      call.mask.assign(static_cast<size_t>(call.keys()), 1);
      std::fill(call.mask.begin(), call.mask.begin() + left, uint8_t{0});
      call.first.clear();  // another origin: other bits, the same values
      const TestTensor near = call.run(context).slice(2, left, left + 90);
      for (size_t i = 0; i < near.elements(); ++i) ASSERT_NEAR(near.get(i), expected.get(i), 2e-6);
    }
  }
}

TEST(AttentionOperators, AnyStridesGiveTheSameBits) {
  testing::Random random;
  OpContext context = test_context(2, "");
  for (const DType dtype : kTypes) {
    for (const int64_t head_dim : {64, 20}) {
      Call call(dtype, 2, 4, 2, 9, 150, head_dim, random);
      const TestTensor expected = call.run(context);
      // The same elements in a larger tensor whose dimensions have the order `order`, outermost first.
      const auto strided = [&](const TestTensor& t, std::array<size_t, 4> order, std::vector<uint8_t>& memory) {
        ConstTensor view = t.view();
        int64_t stride = 2;
        for (size_t i = 4; i-- > 0;) {
          if (i == 3 && order[3] == 3) stride = 1;
          view.strides[order[i]] = stride;
          stride *= view.shape[order[i]] + 1;
        }
        memory.assign(static_cast<size_t>(stride) * dtype_bytes(dtype), 0xff);
        const auto at = [&](int64_t a, int64_t b, int64_t c, int64_t d) {
          return (a * view.strides[0] + b * view.strides[1] + c * view.strides[2] + d * view.strides[3]) *
                 static_cast<int64_t>(dtype_bytes(dtype));
        };
        for (int64_t a = 0; a < view.shape[0]; ++a)
          for (int64_t b = 0; b < view.shape[1]; ++b)
            for (int64_t c = 0; c < view.shape[2]; ++c)
              for (int64_t d = 0; d < view.shape[3]; ++d)
                std::memcpy(memory.data() + at(a, b, c, d),
                            static_cast<const uint8_t*>(t.view().data) + t.index(a, b, c, d) * dtype_bytes(dtype),
                            dtype_bytes(dtype));
        view.data = memory.data();
        return view;
      };
      for (const std::array<size_t, 4>& order : {std::array<size_t, 4>{0, 1, 2, 3}, {0, 2, 1, 3}, {3, 2, 1, 0}}) {
        std::vector<uint8_t> q, k, v;
        TestTensor out(DType::f32, call.q.shape());
        const ConstTensor keys = strided(call.k, order, k), values = strided(call.v, {2, 0, 1, 3}, v);
        ASSERT_TRUE(attention_fp32(context, strided(call.q, order, q), keys, values, {}, out.view()).ok());
        EXPECT_TRUE(out.same_bits(expected));
        // A cache and new keys whose strides differ.
        const CachedKeys parts{keys.slice(2, 0, 141), values.slice(2, 0, 141), call.k.view().slice(2, 141, 150),
                               call.v.view().slice(2, 141, 150)};
        ASSERT_TRUE(kv_cache_attention_fp32(context, call.q.view(), parts, {}, out.view()).ok());
        EXPECT_TRUE(out.same_bits(expected));
      }
    }
  }
}

TEST(AttentionOperators, UniformScoresGiveTheMeanAndOneHotKeysTheirValue) {
  testing::Random random;
  OpContext context = test_context(2, "");
  Call mean(DType::f32, 1, 2, 1, 3, 16, 64, random);
  mean.options.causal = false;
  for (size_t i = 0; i < mean.q.elements(); ++i) mean.q.set(i, 0.0f);
  const TestTensor out = mean.run(context);
  for (int64_t d = 0; d < 64; ++d) {
    double sum = 0.0;
    for (int64_t j = 0; j < 16; ++j) sum += mean.v.at(0, 0, j, d);
    EXPECT_NEAR(out.at(0, 1, 2, d), sum / 16, 1e-6);
  }
  Call hot(DType::f32, 1, 1, 1, 64, 64, 64, random);
  hot.options.causal = false;
  hot.options.scale = 1.0f;
  for (int64_t i = 0; i < 64; ++i) {
    for (int64_t d = 0; d < 64; ++d) {
      hot.q.set(hot.q.index(0, 0, i, d), i == d ? 1000.0f : 0.0f);
      hot.k.set(hot.k.index(0, 0, i, d), i == d ? 1.0f : 0.0f);
    }
  }
  EXPECT_TRUE(hot.run(context).same_bits(hot.v)) << "all other weights are exp(−1000) = 0";
}

TEST(AttentionOperators, LowPrecisionIsNearFloat32) {
  testing::Random random;
  OpContext context = test_context(2, "");
  Call wide(DType::f32, 2, 8, 2, 5, 300, 128, random);
  const TestTensor truth = wide.run(context);
  std::vector<double> exact;
  for (size_t i = 0; i < truth.elements(); ++i) exact.push_back(truth.get(i));
  for (const auto& [dtype, tolerance] : {std::pair{DType::f16, 4e-3}, std::pair{DType::bf16, 3e-2}}) {
    Call call = wide;
    call.q = wide.q.rounded(dtype);
    call.k = wide.k.rounded(dtype);
    call.v = wide.v.rounded(dtype);
    TestTensor out(dtype, call.q.shape());
    ASSERT_TRUE(attention(context, call.q.view(), call.k.view(), call.v.view(), {}, out.view()).ok());
    EXPECT_LE(out.peak_relative_error(exact.data()), tolerance) << dtype_name(dtype);
  }
}

TEST(AttentionOperators, InputsStayAsTheyWere) {
  testing::Random random;
  OpContext context = test_context(2, "");
  for (int trial = 0; trial < 5; ++trial) {
    const Call call = random_call(random, trial);
    const Call before = call;
    const TestTensor first = call.run(context);
    EXPECT_TRUE(call.run(context).same_bits(first)) << "a second call is the first";
    EXPECT_TRUE(call.q.same_bits(before.q) && call.k.same_bits(before.k) && call.v.same_bits(before.v));
    EXPECT_EQ(call.mask, before.mask);
  }
}

TEST(AttentionOperators, ManyThreadsMayCallAtOnce) {
  testing::Random random;
  std::vector<Call> calls;
  std::vector<TestTensor> expected;
  OpContext shared = test_context(2, "");
  for (int i = 0; i < 6; ++i) {
    calls.push_back(random_call(random, i));
    expected.push_back(calls.back().run(shared));
  }
  std::vector<int> wrong(6);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 6; ++i) {
    threads.emplace_back([&, i] {
      OpContext own = test_context(2, "");
      for (int round = 0; round < 3; ++round) {
        wrong[i] += !calls[i].run(shared).same_bits(expected[i]);
        wrong[i] += !calls[i].run(own).same_bits(expected[i]);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(6));
}

TEST(AttentionOperators, QwenSizedDecodeIsTheReferenceAndItsOwnPrefill) {
  testing::Random random;
  OpContext context = test_context(2, ""), reference = test_context(2, "reference");
  Call call(DType::bf16, 1, 32, 8, 12, 1200, 128, random);
  const TestTensor whole = call.run(context);
  EXPECT_TRUE(call.run_cached(context, 1199).same_bits(whole.slice(2, 11, 12)));
  EXPECT_TRUE(call.run_cached(reference, 1199).same_bits(whole.slice(2, 11, 12)));
}

TEST(AttentionOperators, NoKeysGivePositiveZeroAndNoRowsNothing) {
  testing::Random random;
  OpContext context = test_context(2, "");
  const Call none(DType::f32, 2, 4, 2, 3, 0, 64, random);
  const TestTensor out = none.run(context);
  for (size_t i = 0; i < out.elements(); ++i) EXPECT_EQ(std::bit_cast<uint32_t>(out.get(i)), 0u);
  const Call empty(DType::f32, 0, 4, 2, 3, 5, 64, random);
  empty.run(context);
}

TEST(AttentionOperators, WhatIsWrongIsNamedAndNothingIsWritten) {
  testing::Random random;
  OpContext context = test_context(1, "");
  Call call(DType::f32, 1, 4, 2, 3, 9, 32, random);
  TestTensor out(DType::f32, call.q.shape());
  const TestTensor before = out;
  const auto refused = [&](const std::string& part, const std::function<void(AttentionOptions&, Tensor&)>& change) {
    AttentionOptions options;
    Tensor to = out.view();
    change(options, to);
    const Status status = attention(context, call.q.view(), call.k.view(), call.v.view(), options, to);
    EXPECT_NE(status.message().find(part), std::string::npos) << part << " is not in: " << status.message();
    EXPECT_TRUE(out.same_bits(before));
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> logits(3);
  const std::vector<int64_t> firsts{10};
  refused("attention: scale: expected a finite number, got nan", [&](auto& o, auto&) { o.scale = nan; });
  refused("attention: softcap:", [&](auto& o, auto&) { o.softcap = -1.0f; });
  refused("attention: window: expected at least 0 keys, got -1", [&](auto& o, auto&) { o.window = -1; });
  refused("attention: sinks:", [&](auto& o, auto&) { o.sinks = -5; });
  refused("attention: sink_logits: expected [Hq] = [4], got [3]", [&](auto& o, auto&) { o.sink_logits = logits; });
  const std::vector<float> unlimited(4, std::numeric_limits<float>::infinity());
  refused("attention: sink_logits: expected finite numbers, got inf",
          [&](auto& o, auto&) { o.sink_logits = unlimited; });
  refused("attention: window_right: expected at least 0 keys, got -2", [&](auto& o, auto&) { o.window_right = -2; });
  refused("attention: attention_chunk:", [&](auto& o, auto&) { o.attention_chunk = -1; });
  refused("attention: sinks: expected 0 keys with attention_chunk, got 2", [&](auto& o, auto&) {
    o.attention_chunk = 4;
    o.sinks = 2;
  });
  const std::vector<int64_t> rows{0, 2, 3}, keys{0, 7, 9}, back{0, 8, 7, 9}, short_of{0, 2}, three{0, 1, 2, 9};
  const std::vector<int64_t> firsts_of_documents{0};
  const auto documents = [&](const std::string& part, const std::vector<int64_t>& q, const std::vector<int64_t>& k) {
    refused(part, [&](auto& o, auto&) {
      o.cu_seqlens_q = q;
      o.cu_seqlens_k = k;
    });
  };
  documents("cu_seqlens_k: expected offsets, because Sq and Skv differ, got none", rows, {});
  documents("cu_seqlens_q: expected offsets, as cu_seqlens_k, got none", {}, keys);
  documents("cu_seqlens_k: expected offsets from 0 to 9, none below the one before it, got 7 after 8", rows, back);
  documents("cu_seqlens_q: expected offsets from 0 to 3, none below the one before it, got a last one of 2", short_of,
            keys);
  documents("cu_seqlens_k: expected 3 offsets, as cu_seqlens_q, got 4", rows, three);
  refused("first_position: expected none with cu_seqlens_q", [&](auto& o, auto&) {
    o.cu_seqlens_q = rows;
    o.cu_seqlens_k = keys;
    o.first_position = firsts_of_documents;
  });
  refused("attention: first_position: expected 0 to Skv = 9, got 10",
          [&](auto& o, auto&) { o.first_position = firsts; });
  refused("attention: q_sink:", [&](auto& o, auto&) { o.q_sink = call.k.view(); });
  refused("attention: out: expected f32 (as q), got bf16", [&](auto&, Tensor& to) { to.dtype = DType::bf16; });
  refused("attention: out: expected memory on cpu", [&](auto&, Tensor& to) { to.device = Device::cuda; });
  refused("attention: out: expected 4 dimensions, got [1, 4, 3]", [&](auto&, Tensor& to) { to.rank = 3; });
  refused("[1, 4, 2, 32]", [&](auto&, Tensor& to) { to.shape[2] = 2; });
  refused("attention: out: expected elements that do not overlap", [&](auto&, Tensor& to) { to.strides[2] = 0; });
  refused("that overlaps q [1, 4, 3, 32]", [&](auto&, Tensor& to) { to.data = call.q.view().data; });
  refused("that overlaps v [1, 2, 9, 32]",
          [&](auto&, Tensor& to) { to.data = static_cast<uint8_t*>(call.v.view().data) + 64; });
  refused("null pointer", [&](auto&, Tensor& to) { to.data = nullptr; });
  refused("aligned", [&](auto&, Tensor& to) { to.data = static_cast<uint8_t*>(to.data) + 1; });
  refused("fits in memory", [&](auto&, Tensor& to) { to.strides[0] = to.strides[1] = INT64_MIN; });
  ConstTensor on_device = call.q.view();
  on_device.device = Device::cuda;
  EXPECT_FALSE(attention(context, on_device, call.k.view(), call.v.view(), {}, out.view()).ok());
}

TEST(AttentionOperators, ADocumentInTwoBatchRowsAndDocumentsOverACacheAreRefused) {
  testing::Random random;
  OpContext context = test_context(1, "");
  const Call call(DType::f32, 2, 2, 1, 4, 4, 16, random);
  TestTensor out(DType::f32, call.q.shape());
  const std::vector<int64_t> across{0, 5, 8}, whole{0, 4, 8}, moved{0, 0, 4, 8}, moved_keys{0, 4, 8, 8};
  AttentionOptions options;
  const auto message = [&](std::span<const int64_t> q, std::span<const int64_t> k) {
    options.cu_seqlens_q = q;
    options.cu_seqlens_k = k;
    return attention(context, call.q.view(), call.k.view(), call.v.view(), options, out.view()).message();
  };
  EXPECT_NE(message(across, across).find("documents that lie in one batch row each, got document 0 in two"),
            std::string::npos);
  EXPECT_NE(message(moved, moved_keys).find("got document 1 in two"), std::string::npos);
  EXPECT_EQ(message(whole, whole), "");
  const CachedKeys parts{call.k.view(), call.v.view(), call.k.view(), call.v.view()};
  const Status status = kv_cache_attention(context, call.q.view(), parts, options, out.view());
  EXPECT_NE(status.message().find("kv_cache_attention: cu_seqlens_q: expected none with a cache"), std::string::npos);
}

TEST(AttentionOperators, OutMayBeASliceBesideTheInputs) {
  testing::Random random;
  OpContext context = test_context(1, "");
  // One tensor [1, rows, (q, k, v, out), 64]: the four are interleaved and share no byte.
  TestTensor all(DType::f32, {1, 10, 4, 64}, random);
  const auto part = [&](int64_t i) {
    Tensor view = all.view().slice(2, i, i + 1);
    std::swap(view.shape[1], view.shape[2]);
    std::swap(view.strides[1], view.strides[2]);
    return view;
  };
  const Status status = attention(context, part(0), part(1), part(2), {}, part(3));
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_FALSE(attention(context, part(0), part(1), part(2), {}, part(2)).ok());
}

}  // namespace
}  // namespace kvass
