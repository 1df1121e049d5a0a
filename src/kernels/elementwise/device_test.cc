#include "kernels/elementwise/device.h"

#include "device_memory.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/gate/gate.h"
#include "kernels/kernel_test.h"

namespace kvass {
namespace {

using testing::OnDevice;
using testing::test_devices;

TEST(DeviceElementwise, PairsHaveTheBitsOfTheReference) {
  test::Random random(1);
  for (const DeviceKernels* device : test_devices()) {
    SCOPED_TRACE(testing::name_of(device));
    for (const size_t n : {size_t{1}, size_t{255}, size_t{257}, size_t{3000}}) {
      const std::vector<float> a = test::awkward_row(random, n, 5.0f), b = test::awkward_row(random, n);
      const auto check = [&](auto kernel, auto reference) {
        std::vector<float> expected(n);
        reference(a.data(), b.data(), expected.data(), static_cast<int64_t>(n));
        OnDevice<float> first(*device, a), second(*device, b);
        const DevicePairParams params{first.data(), second.data(), first.data(), static_cast<int64_t>(n)};
        ASSERT_TRUE(kernel(params, nullptr).ok());
        EXPECT_TRUE(test::same_bits(first.read(), expected));
      };
      check(device->add, scalar::add);
      check(device->gelu_gate, scalar::gelu_gate);
      check(device->silu_gate, scalar::silu_gate);
    }
  }
}

TEST(DeviceElementwise, SoftcapHasTheBitsOfTheReference) {
  test::Random random(2);
  const std::vector<float> x = test::awkward_row(random, 1000, 40.0f);
  std::vector<float> expected(x.size());
  scalar::softcap(x.data(), 30.0f, expected.data(), static_cast<int64_t>(x.size()));
  for (const DeviceKernels* device : test_devices()) {
    SCOPED_TRACE(testing::name_of(device));
    OnDevice<float> row(*device, x);
    ASSERT_TRUE(device->softcap({row.data(), row.data(), static_cast<int64_t>(x.size()), 30.0f}, nullptr).ok());
    EXPECT_TRUE(test::same_bits(row.read(), expected));
  }
}

TEST(DeviceElementwise, BiasesAreAddedToEveryRowAndRowsAreSelected) {
  test::Random random(3);
  constexpr size_t kWidth = 77;
  const std::vector<float> x = test::random_row(random, 4 * kWidth), b = test::random_row(random, kWidth);
  const std::vector<int32_t> ids = {3, 0, 3};
  std::vector<float> biased, selected;
  for (size_t row = 0; row < 4; ++row) {
    for (size_t i = 0; i < kWidth; ++i) biased.push_back(x[row * kWidth + i] + b[i]);
  }
  for (const int32_t id : ids) {
    for (size_t i = 0; i < kWidth; ++i) selected.push_back(x[static_cast<size_t>(id) * kWidth + i]);
  }
  for (const DeviceKernels* device : test_devices()) {
    SCOPED_TRACE(testing::name_of(device));
    OnDevice<float> rows(*device, x), bias(*device, b), y(*device, std::vector<float>(selected.size()));
    OnDevice<int32_t> wanted(*device, ids);
    ASSERT_TRUE(device->select_rows({rows.data(), wanted.data(), y.data(), 3, kWidth}, nullptr).ok());
    EXPECT_TRUE(test::same_bits(y.read(), selected));
    ASSERT_TRUE(device->bias({rows.data(), bias.data(), rows.data(), 4, kWidth}, nullptr).ok());
    EXPECT_TRUE(test::same_bits(rows.read(), biased));
  }
}

}  // namespace
}  // namespace kvass
