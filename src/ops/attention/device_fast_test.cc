// attention_fast on devices: near float64, and the same bits in any chunking and batch.
#include <gtest/gtest.h>

#include <cmath>

#include "ops/attention/test_device.h"

namespace kvass {
namespace {

// A random call of a form that tensor cores support.
Call fast_call(testing::Random& random) {
  const int64_t head_dims[] = {16, 64, 80, 128, 20, 256};
  Call call = random_call(random, 0);
  const int64_t dim = head_dims[random.integer(0, 5)];
  const DType dtype = random.integer(0, 1) == 0 ? DType::f16 : DType::bf16;
  const auto resized = [&](const TestTensor& t, float factor) {
    std::vector<int64_t> shape = t.shape();
    shape[3] = dim;
    return TestTensor(dtype, shape, random, factor);
  };
  call.q = resized(call.q, 3.0f);
  call.k = resized(call.k, 1.0f);
  call.v = resized(call.v, 1.0f);
  if (call.q_sink.elements() > 1) call.q_sink = resized(call.q_sink, 3.0f);
  return call;
}

// The weights p, at most 1, are rounded to eight (bf16) or eleven bits before they are multiplied by v: this bounds the
// error of a weighted mean by half a unit in either direction.
double tolerance_of(DType dtype) { return dtype == DType::bf16 ? 0x1p-8 : 0x1p-11; }

TEST(DeviceAttentionFast, IsNearTheReference) {
  testing::Random random;
  OpContext reference = test_context(1, "reference");
  for (const DeviceKernels* kernels : testing::test_devices()) {
    OpContext context = device_context(*kernels, "fast");
    for (int trial = 0; trial < 20; ++trial) {
      const Call call = fast_call(random);
      const TestTensor expected = call.run(reference), found = run_on(*kernels, context, call);
      for (size_t i = 0; i < found.elements(); ++i) {
        ASSERT_NEAR(found.get(i), expected.get(i), tolerance_of(call.q.dtype())) << call.describe() << " element " << i;
      }
    }
  }
}

TEST(DeviceAttentionFast, DecodeIsPrefillAndABatchIsItsSlicesBitwise) {
  testing::Random random;
  for (const DeviceKernels* kernels : testing::test_devices()) {
    OpContext context = device_context(*kernels, "fast");
    for (int trial = 0; trial < 4; ++trial) {
      const DType dtype = trial % 2 == 0 ? DType::bf16 : DType::f16;
      Call call(dtype, 2, 3, 1, 560, 560, trial < 3 ? 64 : 128, random);
      call.options.window = trial % 3 * 100;
      call.options.sinks = trial % 2 * 5;
      const TestTensor whole = run_on(*kernels, context, call);
      for (const int64_t i : {0, 1, 63, 64, 200, 511, 512, 517, 559}) {
        for (int64_t b = 0; b < 2; ++b) {
          Call step = call;
          step.q = call.q.slice(2, i, i + 1).slice(0, b, b + 1);
          step.k = call.k.slice(2, 0, i + 1).slice(0, b, b + 1);
          step.v = call.v.slice(2, 0, i + 1).slice(0, b, b + 1);
          ASSERT_TRUE(run_on(*kernels, context, step, i).same_bits(whole.slice(2, i, i + 1).slice(0, b, b + 1)))
              << call.describe() << " step " << i << " of " << b;
        }
      }
    }
  }
}

TEST(DeviceAttentionFast, WhatNoRowSeesMayBeNaN) {
  testing::Random random;
  for (const DeviceKernels* kernels : testing::test_devices()) {
    OpContext context = device_context(*kernels, "fast");
    Call call(DType::bf16, 1, 2, 1, 4, 200, 64, random);
    call.options.window = 20;
    call.mask.assign(200, 1);
    call.mask[190] = 0;
    const TestTensor clean = run_on(*kernels, context, call);
    for (const int64_t key : {0, 100, 175, 190}) {
      for (int64_t d = 0; d < 64; ++d) {
        call.k.set(call.k.index(0, 0, key, d), std::numeric_limits<float>::quiet_NaN());
        call.v.set(call.v.index(0, 0, key, d), std::numeric_limits<float>::quiet_NaN());
      }
    }
    EXPECT_TRUE(run_on(*kernels, context, call).same_bits(clean));
  }
}

TEST(DeviceAttentionFast, WhatTensorCoresDoNotTakeIsExact) {
  testing::Random random;
  for (const DeviceKernels* kernels : testing::test_devices()) {
    OpContext fast = device_context(*kernels, "fast"), exact = device_context(*kernels, "exact");
    for (const Call& call :
         {Call(DType::f32, 1, 2, 1, 4, 90, 64, random), Call(DType::bf16, 1, 2, 1, 4, 90, 512, random)}) {
      EXPECT_TRUE(run_on(*kernels, fast, call).same_bits(run_on(*kernels, exact, call)));
    }
  }
}

}  // namespace
}  // namespace kvass
