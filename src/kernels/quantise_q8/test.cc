#include <algorithm>

#include "kernels/kernel_test.h"
#include "kernels/quantise_q8/quantise_q8.h"

namespace kvass {
namespace {

struct Quantised {
  std::vector<int8_t> q;
  float scale;
};

Quantised quantise(QuantiseQ8Kernel kernel, const std::vector<float>& x) {
  Quantised result{std::vector<int8_t>(x.size()), 0.0f};
  result.scale = kernel(x.data(), static_cast<int64_t>(x.size()), result.q.data());
  return result;
}

TEST(QuantiseQ8, EveryIsaHasTheBitsOfTheReferenceAlsoInPlace) {
  test::Random random(1);
  for (size_t n = 16; n <= 512; n += 16) {
    for (int kind = 0; kind < 4; ++kind) {
      std::vector<float> x = test::random_row(random, n, kind == 2 ? 1e-31f : 3.0f);
      if (kind == 1) x = test::awkward_row(random, n);
      if (kind == 3) std::fill(x.begin(), x.end(), 0.0f);
      const Quantised expected = quantise(scalar::quantise_q8, x);
      for (const Isa isa : test::fast_isas()) {
        const Quantised got = quantise(quantise_q8_for(isa), x);
        EXPECT_EQ(got.q, expected.q) << isa_name(isa) << " n " << n;
        EXPECT_TRUE(test::same_bits({got.scale}, {expected.scale})) << isa_name(isa) << " n " << n;
        std::vector<float> row = x;
        int8_t* place = reinterpret_cast<int8_t*>(row.data());
        quantise_q8_for(isa)(row.data(), static_cast<int64_t>(n), place);
        EXPECT_TRUE(std::equal(place, place + n, expected.q.begin())) << isa_name(isa) << " n " << n;
      }
    }
  }
}

TEST(QuantiseQ8, IsWithinHalfAStepAndTheLargestIs127) {
  test::Random random(2);
  const std::vector<float> x = test::random_row(random, 256);
  const Quantised result = quantise(scalar::quantise_q8, x);
  int most = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_LE(std::abs(x[i] - static_cast<float>(result.q[i]) * result.scale), 0.50001f * result.scale);
    most = std::max(most, std::abs(static_cast<int>(result.q[i])));
  }
  EXPECT_EQ(most, 127);
}

TEST(QuantiseQ8, ARowThatIsNotFiniteHasAScaleOfNaNAndATinyOneIsZero) {
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> x(32, 1.0f);
    x[17] = bad;
    EXPECT_TRUE(std::isnan(quantise(scalar::quantise_q8, x).scale));
  }
  const Quantised tiny = quantise(scalar::quantise_q8, std::vector<float>(16, 0x1p-101f));
  EXPECT_EQ(tiny.scale, 0.0f);
  EXPECT_EQ(tiny.q, std::vector<int8_t>(16, 0));
}

}  // namespace
}  // namespace kvass
