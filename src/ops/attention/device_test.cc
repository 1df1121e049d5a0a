// Attention on devices: cuda_exact has the bits of the CPU's reference. Without a device the same device code runs on
// the CPU (device/emulate.h).
#include <gtest/gtest.h>

#include "ops/attention/test_device.h"

namespace kvass {
namespace {

TEST(DeviceAttention, ExactIsTheReferenceBitwise) {
  testing::Random random;
  OpContext reference = test_context(1, "reference");
  for (const DeviceKernels* kernels : testing::test_devices()) {
    OpContext context = device_context(*kernels, "exact");
    for (int trial = 0; trial < 25; ++trial) {
      const Call call = random_call(random, trial);
      ASSERT_TRUE(run_on(*kernels, context, call).same_bits(call.run(reference)))
          << call.describe() << " on " << testing::name_of(kernels);
    }
  }
}

TEST(DeviceAttention, PackedDocumentsAreTheReferenceBitwise) {
  testing::Random random;
  OpContext reference = test_context(1, "reference");
  for (const DeviceKernels* kernels : testing::test_devices()) {
    OpContext context = device_context(*kernels, "exact");
    for (int trial = 0; trial < 8; ++trial) {
      Call call = random_call(random, trial);
      add_documents(call, random);
      ASSERT_TRUE(run_on(*kernels, context, call).same_bits(call.run(reference)))
          << call.describe() << " on " << testing::name_of(kernels);
    }
  }
}

TEST(DeviceAttention, EveryStrideGivesTheBitsOfTheReference) {
  testing::Random random;
  OpContext reference = test_context(1, "reference");
  for (const DeviceKernels* kernels : testing::test_devices()) {
    OpContext context = device_context(*kernels, "exact");
    for (const DType dtype : kTypes) {
      const Call call(dtype, 2, 4, 4, 70, 70, 20, random);
      // Heads and rows are exchanged; channels are 1, then 2 elements apart.
      for (const int64_t apart : {1, 2}) {
        const auto turned = [&](const TestTensor& t) {
          TestTensor wide(dtype, {2, 70, 4, 20 * apart});
          for (int64_t b = 0; b < 2; ++b)
            for (int64_t h = 0; h < 4; ++h)
              for (int64_t i = 0; i < 70; ++i)
                for (int64_t d = 0; d < 20; ++d) wide.set(wide.index(b, i, h, d * apart), t.at(b, h, i, d));
          return DeviceTensor(*kernels, wide);
        };
        const auto view = [&](DeviceTensor& t) {
          Tensor v = t.view();
          std::swap(v.shape[1], v.shape[2]);
          std::swap(v.strides[1], v.strides[2]);
          v.shape[3] = 20;
          v.strides[3] = apart;
          return v;
        };
        DeviceTensor q = turned(call.q), k = turned(call.k), v = turned(call.v);
        TestTensor nothing(dtype, {2, 70, 4, 20 * apart});
        DeviceTensor out(*kernels, nothing);
        const Status status = attention(context, view(q), view(k), view(v), {}, view(out));
        ASSERT_TRUE(status.ok()) << status.message();
        const TestTensor expected = call.run(reference).rounded(dtype), found = out.read();
        for (int64_t b = 0; b < 2; ++b)
          for (int64_t h = 0; h < 4; ++h)
            for (int64_t i = 0; i < 70; ++i)
              for (int64_t d = 0; d < 20; ++d) {
                ASSERT_EQ(std::bit_cast<uint32_t>(found.at(b, i, h, d * apart)),
                          std::bit_cast<uint32_t>(expected.at(b, h, i, d)));
                if (apart == 2) {
                  ASSERT_TRUE(std::isnan(found.at(b, i, h, 2 * d + 1))) << "between the channels";
                }
              }
      }
    }
  }
}

TEST(DeviceAttention, EverySplitOfCacheAndNewIsTheReferencesPlainCall) {
  testing::Random random;
  OpContext reference = test_context(1, "reference");
  for (const DeviceKernels* kernels : testing::test_devices()) {
    OpContext context = device_context(*kernels, "exact");
    for (int trial = 0; trial < 8; ++trial) {
      Call call = random_call(random, trial);
      const int64_t cached = call.keys() - call.rows();
      if (cached < 0) continue;
      ASSERT_TRUE(run_on(*kernels, context, call, cached).same_bits(call.run(reference))) << call.describe();
    }
  }
}

TEST(DeviceAttention, GradientsAreTheReferenceBitwise) {
  testing::Random random;
  OpContext reference = test_context(1, "reference");
  for (const DeviceKernels* kernels : testing::test_devices()) {
    OpContext context = device_context(*kernels, "exact");
    for (int trial = 0; trial < 12; ++trial) {
      Call call = random_call(random, trial);
      call.q_sink = TestTensor();
      const TestTensor dout(kTypes[trial % 3], call.q.shape(), random);
      TestTensor dq(DType::f32, call.q.shape()), dk(DType::f32, call.k.shape()), dv(DType::f32, call.k.shape());
      ASSERT_TRUE(attention_backward(reference, call.q.view(), call.k.view(), call.v.view(), dout.view(),
                                     call.all_options(), {dq.view(), dk.view(), dv.view()})
                      .ok());
      DeviceTensor q(*kernels, call.q), k(*kernels, call.k), v(*kernels, call.v), cotangent(*kernels, dout);
      DeviceTensor to_q(*kernels, TestTensor(DType::f32, call.q.shape()));
      DeviceTensor to_k(*kernels, TestTensor(DType::f32, call.k.shape()));
      DeviceTensor to_v(*kernels, TestTensor(DType::f32, call.k.shape()));
      testing::OnDevice<uint8_t> mask(*kernels, call.mask);
      AttentionOptions options = call.all_options();
      if (options.key_padding_mask.data) options.key_padding_mask.data = mask.data();
      const Status status = attention_backward(context, q.view(), k.view(), v.view(), cotangent.view(), options,
                                               {to_q.view(), to_k.view(), to_v.view()});
      ASSERT_TRUE(status.ok()) << status.message();
      ASSERT_TRUE(to_q.read().same_bits(dq)) << "dq " << call.describe();
      ASSERT_TRUE(to_k.read().same_bits(dk)) << "dk " << call.describe();
      ASSERT_TRUE(to_v.read().same_bits(dv)) << "dv " << call.describe();
    }
  }
}

TEST(DeviceAttention, NoKeysGivePositiveZeroAndNoRowsNothing) {
  testing::Random random;
  for (const DeviceKernels* kernels : testing::test_devices()) {
    OpContext context = device_context(*kernels, "exact");
    const TestTensor out = run_on(*kernels, context, Call(DType::f32, 2, 4, 2, 3, 0, 64, random));
    for (size_t i = 0; i < out.elements(); ++i) ASSERT_EQ(std::bit_cast<uint32_t>(out.get(i)), 0u);
    run_on(*kernels, context, Call(DType::f32, 0, 4, 2, 3, 5, 64, random));
  }
}

TEST(DeviceAttention, TensorsOfTwoDevicesAreRefused) {
  testing::Random random;
  for (const DeviceKernels* kernels : testing::test_devices()) {
    OpContext context = device_context(*kernels, "exact");
    const Call call(DType::f32, 1, 2, 1, 3, 5, 16, random);
    DeviceTensor q(*kernels, call.q);
    TestTensor out(DType::f32, call.q.shape());
    const Status status = attention(context, q.view(), call.k.view(), call.v.view(), {}, out.view());
    EXPECT_NE(status.message().find("k: expected memory on"), std::string::npos) << status.message();
  }
}

TEST(DeviceUpdateCrossAttnCache, CopiesTheBitsAndLeavesTheRestAlone) {
  testing::Random random;
  for (const DeviceKernels* kernels : testing::test_devices()) {
    OpContext context = device_context(*kernels, "exact");
    for (const DType dtype : kTypes) {
      TestTensor value(dtype, {2, 3, 5, 7}, random), cache(dtype, {2, 3, 9, 7}, random);
      value.set(3, std::numeric_limits<float>::quiet_NaN());
      DeviceTensor from(*kernels, value), to(*kernels, cache);
      const Result<Tensor> result = update_cross_attn_cache(context, from.view(), to.view());
      ASSERT_TRUE(result.ok()) << result.status().message();
      EXPECT_TRUE(to.read().slice(2, 0, 5).same_bits(value));
      EXPECT_TRUE(to.read().slice(2, 5, 9).same_bits(cache.slice(2, 5, 9)));
    }
  }
}

TEST(DeviceAttention, RunsOnARealDevice) {
  if (testing::test_devices().size() == 1) {
    const auto why = [](Device device) {
      const std::string& reason = why_no_device(device);
      return std::string(device_name(device)) + ": " + (reason.empty() ? "emulated" : reason);
    };
    GTEST_SKIP() << "SKIPPED: no GPU (" << why(Device::cuda) << "; " << why(Device::rocm) << ")";
  }
}

}  // namespace
}  // namespace kvass
