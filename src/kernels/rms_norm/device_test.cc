#include "kernels/rms_norm/device.h"

#include "device_memory.h"
#include "kernels/kernel_test.h"

namespace kvass {
namespace {

using testing::OnDevice;

TEST(DeviceRmsNorm, HasTheBitsOfTheReferenceAlsoInPlace) {
  test::Random random(1);
  constexpr int64_t kRows = 3;
  for (const DeviceKernels* device : testing::test_devices()) {
    SCOPED_TRACE(testing::name_of(device));
    for (const int64_t n : {1, 15, 16, 17, 100, 256, 2048, 2049, 5000}) {
      for (const bool awkward : {false, true}) {
        const auto size = static_cast<size_t>(kRows * (n + 5));
        const std::vector<float> x = awkward ? test::awkward_row(random, size) : test::random_row(random, size, 1e4f);
        const std::vector<float> w = test::random_row(random, static_cast<size_t>(n));
        std::vector<float> expected = x;
        RmsNormArgs args{.rows = kRows, .n = n, .x_stride = n + 5, .y_stride = n + 5, .epsilon = 1e-6f};
        args.x = args.y = expected.data();
        args.w = w.data();
        scalar::rms_norm(args);
        OnDevice<float> rows(*device, x), weight(*device, w);
        args.x = args.y = rows.data();
        args.w = weight.data();
        ASSERT_TRUE(device->rms_norm(args, nullptr).ok());
        EXPECT_TRUE(test::same_bits(rows.read(), expected)) << "n " << n;
      }
    }
  }
}

}  // namespace
}  // namespace kvass
