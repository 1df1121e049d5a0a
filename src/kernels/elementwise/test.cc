#include "kernels/elementwise/elementwise.h"
#include "kernels/kernel_test.h"

namespace kvass {
namespace {

TEST(Elementwise, EveryIsaHasTheBitsOfTheReferenceAlsoInPlace) {
  test::Random random(1);
  for (size_t size = 0; size < 150; ++size) {
    const int64_t n = static_cast<int64_t>(size);
    const std::vector<float> a = test::awkward_row(random, size, 20.0f);
    const std::vector<float> b = test::awkward_row(random, size);
    std::vector<float> sum(size), scaled(size), capped(size), gelued(size);
    scalar::add(a.data(), b.data(), sum.data(), n);
    scalar::scale(a.data(), 25.25f, scaled.data(), n);
    scalar::softcap(a.data(), 30.0f, capped.data(), n);
    scalar::gelu(b.data(), gelued.data(), n);
    for (const Isa isa : test::fast_isas()) {
      std::vector<float> y = a;
      add_for(isa)(y.data(), b.data(), y.data(), n);
      EXPECT_TRUE(test::same_bits(y, sum)) << isa_name(isa) << " add " << n;
      y = a;
      scale_for(isa)(y.data(), 25.25f, y.data(), n);
      EXPECT_TRUE(test::same_bits(y, scaled)) << isa_name(isa) << " scale " << n;
      y = a;
      softcap_for(isa)(y.data(), 30.0f, y.data(), n);
      EXPECT_TRUE(test::same_bits(y, capped)) << isa_name(isa) << " softcap " << n;
      y = b;
      gelu_for(isa)(y.data(), y.data(), n);
      EXPECT_TRUE(test::same_bits(y, gelued)) << isa_name(isa) << " gelu " << n;
    }
  }
}

TEST(Elementwise, SoftcapIsWithinFourUlpOfFloat64) {
  for (float x = -200.0f; x <= 200.0f; x += 0.037f) {
    float y;
    scalar::softcap(&x, 30.0f, &y, 1);
    EXPECT_LE(test::ulps(y, 30.0 * std::tanh(x / 30.0)), 4.0) << x;
  }
}

TEST(Elementwise, GeluIsWithinAFewEpsilonOfFloat64) {
  for (float x = -12.0f; x <= 12.0f; x += 0x1.1p-10f) {
    float y;
    scalar::gelu(&x, &y, 1);
    const double exact = 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
    EXPECT_LE(std::abs(y - exact), 0x1p-23 * (1.5 * std::abs(x))) << x;
  }
}

}  // namespace
}  // namespace kvass
