// Attention on devices over a cache's tiles (full; ring; sinks and ring; every storage type; separate angles for sink
// keys) against the CPU's reference on the same bytes.
#include <gtest/gtest.h>

#include <deque>

#include "device_memory.h"
#include "kernels/attention/device.h"
#include "ops/attention/test_stream.h"
#include "seed.h"

namespace kvass {
namespace {

TestStream random_stream(testing::Random& random) {
  const int64_t head_dims[] = {16, 32, 64, 80, 96, 128, 256, 512};
  TestStream stream;
  stream.seed = static_cast<uint64_t>(random.integer(0, 1 << 30));
  stream.shape.dtype = kDTypes[random.integer(0, 3)];
  stream.shape.head_dim = head_dims[random.integer(0, 7)];
  stream.shape.kv_heads = random.integer(1, 3);
  stream.heads = stream.shape.kv_heads * random.integer(1, 5);
  stream.sinks = random.integer(0, 1) == 0 ? 0 : random.integer(1, random.integer(0, 3) == 0 ? 600 : 70);
  stream.window = random.integer(0, 2) == 0 ? 0 : random.integer(1, 300);
  stream.softcap = random.integer(0, 3) == 0 ? 5.0f : 0.0f;
  stream.rotary = random.integer(0, 1) == 0;
  stream.sink_rotary = stream.rotary && random.integer(0, 1) == 0;
  stream.sink_logits = random.integer(0, 3) == 0;
  return stream;
}

std::string describe(const TestStream& s) {
  return "seed " + std::to_string(s.seed) + " " + std::string(dtype_name(s.shape.dtype)) + " heads " +
         std::to_string(s.heads) + "/" + std::to_string(s.shape.kv_heads) + " head_dim " +
         std::to_string(s.shape.head_dim) + " sinks " + std::to_string(s.sinks) + " window " +
         std::to_string(s.window) + (s.rotary ? " rotary" : "") + (s.sink_rotary ? " sink rotary" : "") +
         (s.sink_logits ? " logits" : "") + (s.softcap != 0.0f ? " softcap" : "");
}

using Attend = Status (*)(const DeviceAttentionParams&, DeviceStream);

// Computes the rows of `args` on a device, to which it copies all inputs. `processors` changes the division of the
// work.
std::vector<float> attend_on(const DeviceKernels& kernels, Attend attend, const AttentionArgs& args, int processors) {
  std::deque<testing::OnDevice<uint8_t>> memory;
  const auto copy = [&](const auto* from, size_t count) {
    using T = std::remove_cv_t<std::remove_pointer_t<decltype(from)>>;
    if (from == nullptr) return static_cast<T*>(nullptr);
    memory.emplace_back(kernels, std::span(reinterpret_cast<const uint8_t*>(from), count * sizeof(T)));
    return reinterpret_cast<T*>(memory.back().data());
  };
  const int64_t head_dim = args.shape.head_dim;
  size_t rows = 0;
  DeviceAttentionParams p;
  std::vector<DeviceAttentionRun> runs;
  std::vector<RowVisibility> visible;
  for (const AttentionRun& run : args.runs) {
    const auto segment = [&](KeySegment host) {
      host.data = copy(host.data, args.shape.segment_bytes(host.tiles));
      return host;
    };
    runs.push_back({run.first_row, run.rows, segment(run.sink), segment(run.body),
                    copy(run.sink_valid, static_cast<size_t>(run.sink.tiles)),
                    copy(run.body_valid, static_cast<size_t>(run.body.tiles))});
    visible.insert(visible.end(), run.visible, run.visible + run.rows);
    rows += static_cast<size_t>(run.rows);
    p.most_rows = std::max(p.most_rows, run.rows);
    int64_t begin = INT64_MAX, end = 0;
    for (int64_t i = 0; i < run.rows; ++i) {
      p.sink_spans = std::max(p.sink_spans, spans_between(0, run.visible[i].sink_end));
      begin = std::min(begin, std::max(run.visible[i].begin, run.body.origin) - run.body.origin);
      end = std::max(end, run.visible[i].end - run.body.origin);
    }
    p.body_spans = std::max(p.body_spans, spans_between(begin, end));
  }
  const size_t width = static_cast<size_t>(args.heads * head_dim);
  const size_t half = static_cast<size_t>(head_dim / 2);
  p.q = {copy(args.q, rows * width), DType::f32, 0, args.q_stride, head_dim, 1};
  std::vector<float> out(rows * width, std::numeric_limits<float>::quiet_NaN());
  testing::OnDevice<float> result(kernels, out);
  p.out = {result.data(), DType::f32, 0, args.out_stride, head_dim, 1};
  p.heads = args.heads;
  p.kv_heads = args.shape.kv_heads;
  p.head_dim = head_dim;
  p.dtype = args.shape.dtype;
  p.scale = args.scale;
  p.softcap = args.softcap;
  p.sink_logits = copy(args.sink_logits, static_cast<size_t>(args.heads));
  p.cos = copy(args.cos, rows * half);
  p.sin = copy(args.sin, rows * half);
  p.sink_cos = copy(args.sink_cos, rows * half);
  p.sink_sin = copy(args.sink_sin, rows * half);
  p.runs = copy(runs.data(), runs.size());
  p.visible = copy(visible.data(), visible.size());
  p.run_count = static_cast<int64_t>(runs.size());
  p.processors = processors;
  const size_t bytes = device_attention_scratch_bytes(static_cast<int64_t>(rows), p.run_count, p.heads, p.kv_heads,
                                                      head_dim, p.sink_spans + p.body_spans, processors);
  testing::OnDevice<uint8_t> scratch(kernels, std::vector<uint8_t>(bytes, 0xff));
  p.scratch = scratch.data();
  const Status status = attend(p, nullptr);
  EXPECT_TRUE(status.ok()) << status.message();
  return result.read();
}

TestCache flat_cache(const TestStream& stream, int64_t length) {
  TestCache cache(stream.shape, stream.sinks, (length + kTileKeys) / kTileKeys + 1);
  stream.fill(cache, 0, length);
  return cache;
}

TEST(DeviceAttentionOverCaches, ExactIsTheReferenceBitwiseHoweverTheWorkIsCut) {
  testing::Random random;
  for (const DeviceKernels* kernels : testing::test_devices()) {
    for (int trial = 0; trial < 30; ++trial) {
      const TestStream stream = random_stream(random);
      const int64_t start = random.integer(0, 900);
      const int64_t rows = random.integer(1, trial % 3 == 0 ? 40 : 5);
      TestCache cache = flat_cache(stream, start + rows);
      TestRows batch(stream);
      batch.add(stream, cache, start, start + rows);
      const std::vector<float> expected = batch.attend(Isa::scalar, 1);
      for (const int processors : {1, 100}) {
        ASSERT_TRUE(same_bits(attend_on(*kernels, kernels->attention_exact, batch.args(), processors), expected))
            << describe(stream) << " rows " << rows << " at " << start << " on " << testing::name_of(kernels);
      }
    }
  }
}

TEST(DeviceAttentionOverCaches, AWrappedRingAndKeyPaddingAreTheReferenceBitwise) {
  testing::Random random;
  for (const DeviceKernels* kernels : testing::test_devices()) {
    for (int trial = 0; trial < 10; ++trial) {
      TestStream stream = random_stream(random);
      stream.window = random.integer(1, 300);
      const int64_t rows = random.integer(1, 20);
      const int64_t start = random.integer(1500, 2000);
      TestCache ring(stream.shape, stream.sinks, (stream.window + rows - 1 + 2 * (kTileKeys - 1)) / kTileKeys);
      stream.fill(ring, 0, start + rows);
      TestRows wrapped(stream);
      wrapped.add(stream, ring, start, start + rows);
      std::vector<uint64_t> sink_valid(static_cast<size_t>(ring.sink().tiles + 1)),
          body_valid(static_cast<size_t>(ring.ring().tiles));
      for (auto* words : {&sink_valid, &body_valid}) {
        for (uint64_t& word : *words) {
          for (int bit = 0; bit < 64; ++bit) word |= uint64_t{random.integer(0, 3) != 0} << bit;
        }
      }
      if (trial % 2 == 1) {
        wrapped.runs()[0].sink_valid = sink_valid.data();
        wrapped.runs()[0].body_valid = body_valid.data();
      }
      ASSERT_TRUE(same_bits(attend_on(*kernels, kernels->attention_exact, wrapped.args(), 1 + trial * 20),
                            wrapped.attend(Isa::scalar, 1)))
          << describe(stream) << " rows " << rows << " at " << start;
    }
  }
}

TEST(DeviceAttentionOverCaches, ABatchOfRunsIsEachAlone) {
  testing::Random random;
  for (const DeviceKernels* kernels : testing::test_devices()) {
    for (int trial = 0; trial < 4; ++trial) {
      const TestStream form = random_stream(random);
      const int64_t starts[] = {0, 700, 5, 1300};
      const int64_t counts[] = {20, 1, 0, 3};
      TestRows batch(form);
      std::vector<TestCache> caches;
      caches.reserve(4);
      for (size_t i = 0; i < 4; ++i) {
        TestStream stream = form;
        stream.seed = i;
        caches.push_back(flat_cache(stream, starts[i] + counts[i]));
        batch.add(stream, caches.back(), starts[i], starts[i] + counts[i]);
      }
      ASSERT_TRUE(
          same_bits(attend_on(*kernels, kernels->attention_exact, batch.args(), 8), batch.attend(Isa::scalar, 1)))
          << describe(form);
    }
  }
}

TEST(DeviceAttentionOverCaches, RowsWithoutKeysArePositiveZeroAndNaNStaysWithItsRows) {
  for (const DeviceKernels* kernels : testing::test_devices()) {
    TestStream stream;
    stream.heads = 2;
    stream.sinks = 4;
    TestCache cache = flat_cache(stream, 200);
    const std::vector<float> nan(64, std::numeric_limits<float>::quiet_NaN());
    cache.write(195, nan.data(), nan.data());
    TestRows rows(stream);
    rows.add(stream, cache, 190, 200);
    for (size_t i = 2; i < 5; ++i) rows.visible(0)[i] = {0, 150, 150};
    const std::vector<float> out = attend_on(*kernels, kernels->attention_exact, rows.args(), 4);
    for (size_t i = 0; i < out.size(); ++i) {
      const size_t row = i / 128;
      ASSERT_EQ(std::isnan(out[i]), row >= 5) << "element " << i;
      ASSERT_EQ(std::bit_cast<uint32_t>(out[i]) == 0, row >= 2 && row < 5) << "element " << i;
    }
  }
}

// Queries are also rounded to the keys' type; otherwise as in device_fast_test.cc.
TEST(DeviceAttentionOverCaches, FastIsNearTheReferenceAndItsChunksAreItsPrefillBitwise) {
  testing::Random random;
  for (const DeviceKernels* kernels : testing::test_devices()) {
    for (int trial = 0; trial < 12; ++trial) {
      TestStream stream = random_stream(random);
      stream.shape.dtype = trial % 2 == 0 ? DType::bf16 : DType::f16;
      stream.shape.head_dim = std::min<int64_t>(stream.shape.head_dim, 256);
      const int64_t start = random.integer(0, 900), rows = random.integer(2, 40);
      TestCache cache = flat_cache(stream, start + rows);
      TestRows all(stream);
      all.add(stream, cache, start, start + rows);
      const std::vector<float> found = attend_on(*kernels, kernels->attention_fast, all.args(), 1);
      const std::vector<float> expected = all.attend(Isa::scalar, 1);
      const float tolerance = stream.shape.dtype == DType::bf16 ? 0x1p-5f : 0x1p-8f;
      for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], tolerance) << describe(stream);

      std::vector<float> pieces;
      for (int64_t at = start; at < start + rows;) {
        const int64_t count = std::min(start + rows - at, random.integer(1, 20));
        TestRows chunk(stream);
        chunk.add(stream, cache, at, at + count);
        const std::vector<float> out = attend_on(*kernels, kernels->attention_fast, chunk.args(), 100);
        pieces.insert(pieces.end(), out.begin(), out.end());
        at += count;
      }
      ASSERT_TRUE(same_bits(pieces, found)) << describe(stream);
    }
  }
}

}  // namespace
}  // namespace kvass
