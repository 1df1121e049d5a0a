// Attention on devices: cuda_exact has the bits of the CPU's reference. The device code itself runs, on the CPU where there
// is no device (device/emulate.h).
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
      const Call call = random_call(random);
      ASSERT_TRUE(run_on(*kernels, context, call).same_bits(call.run(reference)))
          << call.describe() << " on " << testing::name_of(kernels);
    }
  }
}

}  // namespace
}  // namespace kvass
