#include "kernels/argmax/argmax.h"
#include "kernels/kernel_test.h"

namespace kvass {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

void expect_same_everywhere(const std::vector<float>& x) {
  const Argmax expected = scalar::argmax(x.data(), static_cast<int64_t>(x.size()));
  for (const Isa isa : test::fast_isas()) {
    const Argmax got = argmax_for(isa)(x.data(), static_cast<int64_t>(x.size()));
    EXPECT_EQ(got.index, expected.index) << isa_name(isa) << " n " << x.size();
    EXPECT_EQ(std::memcmp(&got.value, &expected.value, sizeof(float)), 0) << isa_name(isa);
  }
}

TEST(Argmax, EveryIsaFindsWhatTheReferenceFinds) {
  test::Random random(1);
  for (size_t n = 0; n < 2200; n += n < 140 ? 1 : 61) {
    expect_same_everywhere(test::random_row(random, n));
    expect_same_everywhere(test::awkward_row(random, n));
    std::vector<float> few = test::random_row(random, n);
    for (float& x : few) x = std::rint(x);  // ties
    expect_same_everywhere(few);
  }
}

TEST(Argmax, TiesGoToTheLowerIndexAndNanIsNeverChosen) {
  std::vector<float> x(3000, -1.0f);
  x[2999] = x[1500] = x[1499] = 4.0f;
  x[0] = x[1498] = kNan;
  expect_same_everywhere(x);
  EXPECT_EQ(scalar::argmax(x.data(), 3000).index, 1499);
  std::vector<float> low(100, kNan);
  expect_same_everywhere(low);
  EXPECT_EQ(scalar::argmax(low.data(), 100).index, -1);
  low[70] = -kInfinity;
  expect_same_everywhere(low);
  EXPECT_EQ(scalar::argmax(low.data(), 100).index, 70);
  const std::vector<float> zeros = {-1.0f, -0.0f, 0.0f};
  expect_same_everywhere(zeros);
  EXPECT_EQ(scalar::argmax(zeros.data(), 3).index, 1);
}

}  // namespace
}  // namespace kvass
