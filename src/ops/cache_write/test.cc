// Keys are rotated on their way into the cache: what else reads k finds it as it was.
#include <gtest/gtest.h>

#include <vector>

#include "base/block.h"
#include "kernels/rotary/rotate_row.h"
#include "ops/cache_write/cache_write.h"
#include "seed.h"

namespace kvass {
namespace {

using testing::Random;

TEST(CacheWrite, TwoReadersOfKSeeTheSameKeys) {
  constexpr int64_t kRows = 70, kHeads = 3, kDim = 32, kWidth = kHeads * kDim;
  Random random;
  std::vector<float> k(kRows * kWidth), v(kRows * kWidth), cos(kRows * kDim / 2), sin(kRows * kDim / 2);
  for (std::vector<float>* values : {&k, &v, &cos, &sin}) {
    for (float& value : *values) value = random.real();
  }
  ThreadPool pool(2);
  for (const DType dtype : kDTypes) {
    for (const bool interleaved : {false, true}) {
      SCOPED_TRACE(::testing::Message() << dtype_name(dtype) << ", " << interleaved);
      const TileShape shape{dtype, kHeads, kDim};
      std::vector<Block> caches;
      const auto write = [&](const std::vector<float>& keys, bool rotates) {
        caches.push_back(Block::map(shape.segment_bytes(2)).value());
        CacheWriteArgs args;
        args.k = keys.data();
        args.v = v.data();
        args.cos = rotates ? cos.data() : nullptr;
        args.sin = rotates ? sin.data() : nullptr;
        args.interleaved = interleaved;
        args.shape = shape;
        const CacheWriteRun run{0, kRows, 0, {}, {caches.back().data(), 2, 0}};
        args.runs = std::span(&run, 1);
        cache_write(args, pool, Isa::scalar);
      };
      const std::vector<float> before = k;
      write(k, true);
      EXPECT_TRUE(k == before);
      write(k, true);  // the second reader: a second layer that shares the keys
      std::vector<float> rotated(k.size());
      for (int64_t row = 0; row < kRows; ++row) {
        rotation_for(Isa::scalar, interleaved)(k.data() + row * kWidth, cos.data() + row * kDim / 2,
                                               sin.data() + row * kDim / 2, rotated.data() + row * kWidth, kHeads,
                                               kDim);
      }
      write(rotated, false);
      const auto bytes = [&](size_t i) {
        return std::vector<uint8_t>(caches[i].data(), caches[i].data() + caches[i].bytes());
      };
      EXPECT_TRUE(bytes(0) == bytes(1));
      EXPECT_TRUE(bytes(0) == bytes(2));
    }
  }
}

}  // namespace
}  // namespace kvass
