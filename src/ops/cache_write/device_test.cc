// What a device writes into caches against what the CPU does, byte for byte.
#include "ops/cache_write/device.h"

#include <cstring>

#include "device_memory.h"
#include "kernels/kernel_test.h"

namespace kvass {
namespace {

using testing::OnDevice;

constexpr int64_t kHeads = 2, kHeadDim = 48;
constexpr int64_t kSinkTiles = 1, kRingTiles = 2;

// Two runs of two sequences: one in sinks and the beginning of its ring, one that wraps.
struct Streams {
  TileShape shape;
  std::vector<uint8_t> memory;  // [2][sink | ring]

  explicit Streams(DType dtype) : shape{dtype, kHeads, kHeadDim} { memory.assign(2 * stream_bytes(), 0xa5); }
  size_t sink_bytes() const { return shape.segment_bytes(kSinkTiles); }
  size_t stream_bytes() const { return shape.segment_bytes(kSinkTiles + kRingTiles); }
  std::vector<CacheWriteRun> runs(uint8_t* base) const {
    constexpr int64_t kSinks = 5;
    const auto run = [&](size_t stream, int64_t first_row, int64_t rows, int64_t start) {
      uint8_t* sink = base + stream * stream_bytes();
      return CacheWriteRun{first_row, rows, start, {sink, kSinkTiles, 0}, {sink + sink_bytes(), kRingTiles, kSinks}};
    };
    return {run(0, 0, 20, 0), run(1, 20, 30, 120)};
  }
};

TEST(DeviceCacheWrite, WritesTheBytesOfTheCpu) {
  test::Random random(1);
  constexpr int64_t kRows = 50, kWidth = kHeads * kHeadDim;
  std::vector<float> k = test::random_row(random, kRows * kWidth, 3.0f);
  std::vector<float> v = test::random_row(random, kRows * kWidth, 3.0f);
  std::fill_n(v.begin(), kHeadDim, 0.0f);
  for (size_t i = 100; i < v.size(); i += 331) v[i] = i % 2 == 0 ? 1e30f : std::numeric_limits<float>::infinity();
  for (size_t i = 200; i < v.size(); i += 77) v[i] = 1e-6f;  // no normal number of 16 bits
  const std::vector<float> cos = test::random_row(random, kRows * kHeadDim / 2);
  const std::vector<float> sin = test::random_row(random, kRows * kHeadDim / 2);
  std::vector<int32_t> run_of(kRows, 1);
  std::fill_n(run_of.begin(), 20, 0);
  ThreadPool pool(1);
  for (const DeviceKernels* device : testing::test_devices()) {
    SCOPED_TRACE(testing::name_of(device));
    for (const DType dtype : kDTypes) {
      for (const int rotation : {0, 1, 2}) {  // none, halves, neighbours
        SCOPED_TRACE(::testing::Message() << dtype_name(dtype) << ", rotation " << rotation);
        Streams expected(dtype);
        std::vector<float> rotated = k;
        CacheWriteArgs args;
        args.k = rotated.data();
        args.v = v.data();
        args.cos = rotation > 0 ? cos.data() : nullptr;
        args.sin = rotation > 0 ? sin.data() : nullptr;
        args.interleaved = rotation == 2;
        args.shape = expected.shape;
        const std::vector<CacheWriteRun> runs = expected.runs(expected.memory.data());
        args.runs = runs;
        cache_write(args, pool, Isa::scalar);

        const Streams streams(dtype);
        OnDevice<uint8_t> memory(*device, streams.memory);
        OnDevice<float> keys(*device, k), values(*device, v), cosines(*device, cos), sines(*device, sin);
        OnDevice<CacheWriteRun> device_runs(*device, streams.runs(memory.data()));
        OnDevice<int32_t> device_run_of(*device, run_of);
        DeviceCacheWriteParams params;
        params.k = keys.data();
        params.v = values.data();
        params.cos = rotation > 0 ? cosines.data() : nullptr;
        params.sin = rotation > 0 ? sines.data() : nullptr;
        params.interleaved = rotation == 2;
        params.dtype = dtype;
        params.kv_heads = kHeads;
        params.head_dim = kHeadDim;
        params.rows = kRows;
        params.runs = device_runs.data();
        params.run_of = device_run_of.data();
        ASSERT_TRUE(device->cache_write_rows(params, nullptr).ok());
        EXPECT_TRUE(memory.read() == expected.memory);
      }
    }
  }
}

}  // namespace
}  // namespace kvass
