#include "kernels/argmax/device.h"

#include "device_memory.h"
#include "kernels/kernel_test.h"

namespace kvass {
namespace {

using testing::OnDevice;

TEST(DeviceArgmax, IsThatOfTheReference) {
  test::Random random(1);
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  constexpr size_t kRow = 20000;
  std::vector<std::vector<float>> rows = {test::random_row(random, kRow),      std::vector<float>(kRow, nan),
                                          std::vector<float>(kRow, -infinity), std::vector<float>(kRow, -2.0f),
                                          std::vector<float>(kRow, -1.0f),     std::vector<float>(kRow, -1.0f)};
  for (float& x : rows[0]) x = std::rint(x * 2.0f);  // many are equal
  rows[3][17] = nan;
  rows[4][19999] = -0.0f;  // equal to the +0 at a lower index
  rows[4][300] = 0.0f;
  rows[5][5] = infinity;
  std::vector<float> x;
  for (const std::vector<float>& row : rows) x.insert(x.end(), row.begin(), row.end());
  for (const DeviceKernels* device : testing::test_devices()) {
    SCOPED_TRACE(testing::name_of(device));
    for (const size_t n : {size_t{1}, size_t{255}, size_t{301}, kRow}) {
      std::vector<float> cut;
      for (const std::vector<float>& row : rows)
        cut.insert(cut.end(), row.begin(), row.begin() + static_cast<int64_t>(n));
      OnDevice<float> logits(*device, cut);
      OnDevice<uint64_t> parts(*device, std::vector<uint64_t>(rows.size() * kArgmaxParts));
      OnDevice<Argmax> result(*device, std::vector<Argmax>(rows.size()));
      const DeviceArgmaxParams params{logits.data(), static_cast<int64_t>(rows.size()), static_cast<int64_t>(n),
                                      parts.data(), result.data()};
      ASSERT_TRUE(device->argmax(params, nullptr).ok());
      const std::vector<Argmax> got = result.read();
      for (size_t row = 0; row < rows.size(); ++row) {
        const Argmax expected = scalar::argmax(rows[row].data(), static_cast<int64_t>(n));
        EXPECT_EQ(got[row].index, expected.index) << "row " << row << " of " << n;
        EXPECT_EQ(got[row].value, expected.value);
      }
    }
  }
}

}  // namespace
}  // namespace kvass
