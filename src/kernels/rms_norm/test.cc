#include "kernels/kernel_test.h"
#include "kernels/rms_norm/rms_norm.h"

namespace kvass {
namespace {

struct Case {
  RmsNormArgs args;
  std::vector<float> x, w, y;
};

void run(RmsNormKernel kernel, Case& c) {
  c.args.x = c.x.data();
  c.args.w = c.w.data();
  c.args.y = c.y.data();
  kernel(c.args);
}

TEST(RmsNorm, EveryIsaHasTheBitsOfTheReference) {
  test::Random random(1);
  for (int64_t n = 1; n <= 300; n += n < 70 ? 1 : 23) {
    Case c;
    c.args = {.rows = 3, .n = n, .x_stride = n + 5, .y_stride = n + 2, .epsilon = 1e-6f};
    for (const bool awkward : {false, true}) {
      c.x = awkward ? test::awkward_row(random, 3 * (n + 5)) : test::random_row(random, 3 * (n + 5), 1e4f);
      c.w = test::random_row(random, n);
      c.y.assign(3 * (n + 2), -7.0f);
      run(scalar::rms_norm, c);
      const std::vector<float> expected = c.y;
      for (const Isa isa : test::fast_isas()) {
        c.y.assign(3 * (n + 2), -7.0f);
        run(rms_norm_for(isa), c);
        EXPECT_TRUE(test::same_bits(c.y, expected)) << isa_name(isa) << " n " << n;
      }
    }
  }
}

TEST(RmsNorm, WorksInPlaceAndRowByRow) {
  test::Random random(2);
  const int64_t n = 77;
  Case c;
  c.args = {.rows = 4, .n = n, .x_stride = n, .y_stride = n, .epsilon = 1e-6f};
  c.x = test::random_row(random, 4 * n);
  c.w = test::random_row(random, n);
  c.y.resize(4 * n);
  run(scalar::rms_norm, c);
  for (const Isa isa : test::fast_isas()) {
    std::vector<float> rows = c.x;
    for (int64_t row = 3; row >= 0; --row) {
      RmsNormArgs one = c.args;
      one.x = one.y = rows.data() + row * n;
      one.w = c.w.data();
      one.rows = 1;
      rms_norm_for(isa)(one);
    }
    EXPECT_TRUE(test::same_bits(rows, c.y)) << isa_name(isa);
  }
}

TEST(RmsNorm, IsWithinFourEpsilonOfFloat64) {
  test::Random random(3);
  for (const int64_t n : {1, 16, 256, 640, 5376}) {
    Case c;
    c.args = {.rows = 1, .n = n, .x_stride = n, .y_stride = n, .epsilon = 1e-6f};
    c.x = test::random_row(random, n, 30.0f);
    c.w = test::random_row(random, n);
    c.y.resize(n);
    run(scalar::rms_norm, c);
    double sum = 0.0;
    for (const float x : c.x) sum += static_cast<double>(x) * x;
    const double r = 1.0 / std::sqrt(sum / static_cast<double>(n) + static_cast<double>(1e-6f));
    for (int64_t k = 0; k < n; ++k) {
      const double exact = c.x[k] * r * c.w[k];
      EXPECT_LE(std::abs(c.y[k] - exact), 4 * 0x1p-23 * std::abs(exact)) << "n " << n << " k " << k;
    }
  }
}

}  // namespace
}  // namespace kvass
