#include "kernels/kernel_test.h"
#include "kernels/layer_norm/layer_norm.h"

namespace kvass {
namespace {

struct Case {
  LayerNormArgs args;
  std::vector<float> x, w, b, y;

  Case(test::Random& random, int64_t rows, int64_t n, bool awkward, float spread) {
    args.rows = rows;
    args.n = n;
    args.epsilon = 1e-5f;
    const auto size = static_cast<size_t>(n);
    x = awkward ? test::awkward_row(random, size * static_cast<size_t>(rows))
                : test::random_row(random, size * static_cast<size_t>(rows), spread);
    w = test::random_row(random, size);
    b = test::random_row(random, size);
  }
  const std::vector<float>& run(LayerNormKernel kernel) {
    y.assign(x.size(), -7.0f);
    args.x = x.data();
    args.w = w.data();
    args.b = b.data();
    args.y = y.data();
    kernel(args);
    return y;
  }
};

TEST(LayerNorm, EveryIsaHasTheBitsOfTheReference) {
  test::Random random(1);
  for (int64_t n = 1; n <= 300; n += n < 70 ? 1 : 23) {
    for (const bool awkward : {false, true}) {
      Case c(random, 3, n, awkward, 50.0f);
      const std::vector<float> expected = c.run(scalar::layer_norm);
      for (const Isa isa : test::fast_isas()) {
        EXPECT_TRUE(test::same_bits(c.run(layer_norm_for(isa)), expected)) << isa_name(isa) << " n " << n;
      }
    }
  }
}

TEST(LayerNorm, WorksInPlace) {
  test::Random random(2);
  Case c(random, 4, 77, false, 3.0f);
  const std::vector<float> expected = c.run(scalar::layer_norm);
  for (const Isa isa : test::fast_isas()) {
    std::vector<float> rows = c.x;
    LayerNormArgs args = c.args;
    args.x = args.y = rows.data();
    layer_norm_for(isa)(args);
    EXPECT_TRUE(test::same_bits(rows, expected)) << isa_name(isa);
  }
}

TEST(LayerNorm, IsCloseToFloat64AlsoFarFromZero) {
  test::Random random(3);
  for (const int64_t n : {1, 16, 384, 512, 1280}) {
    Case c(random, 1, n, false, 2.0f);
    for (float& x : c.x) x += 40.0f;  // a mean that is large compared with the spread
    c.run(scalar::layer_norm);
    double sum = 0.0, squares = 0.0;
    for (const float x : c.x) sum += static_cast<double>(x);
    const double mean = sum / static_cast<double>(n);
    for (const float x : c.x) squares += (x - mean) * (x - mean);
    const double r = 1.0 / std::sqrt(squares / static_cast<double>(n) + static_cast<double>(1e-5f));
    for (size_t k = 0; k < c.x.size(); ++k) {
      const double exact = (c.x[k] - mean) * r * static_cast<double>(c.w[k]) + static_cast<double>(c.b[k]);
      // The mean has an error of an epsilon of 40, which r amplifies.
      EXPECT_LE(std::abs(c.y[k] - exact), 0x1p-23 * (4.0 + 60.0 * r * std::abs(static_cast<double>(c.w[k]))))
          << "n " << n;
    }
  }
}

}  // namespace
}  // namespace kvass
