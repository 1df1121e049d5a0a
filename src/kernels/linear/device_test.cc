// The device's quantisers, products and lookups against the reference, bit for bit.
#include "kernels/linear/device.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/float16.h"
#include "device_memory.h"
#include "kernels/kernel_test.h"
#include "ops/linear/weight.h"

namespace kvass {
namespace {

using testing::OnDevice;
using testing::test_devices;

// Those that devices have.
std::vector<WeightType> device_types() {
  std::vector<WeightType> types;
  for (const WeightType type : kWeightTypes) {
    if (whole_type(type) == type) types.push_back(type);
  }
  return types;
}

// Panels of random bits with scales that are numbers.
std::vector<uint8_t> random_panels(WeightType type, int64_t n, int64_t k, test::Random& random) {
  const PanelFormat format = panel_format(type);
  std::vector<uint8_t> bytes(static_cast<size_t>(panel_count(n) * panel_bytes(type, k)));
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  std::uniform_real_distribution<float> number(-0.5f, 0.5f);
  const auto put_halves = [&](size_t begin, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      const float value = number(random);
      const bool bf16 = type == WeightType::BF16 || format.scales == Scales::bf16;
      const uint16_t half = bf16 ? float_to_bf16(value) : float_to_f16(value);
      std::memcpy(&bytes[begin + 2 * i], &half, 2);
    }
  };
  const auto put_floats = [&](size_t begin, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      const float value = number(random);
      std::memcpy(&bytes[begin + 4 * i], &value, 4);
    }
  };
  if (type == WeightType::F32) {
    put_floats(0, bytes.size() / 4);
  } else if (!format.quantised) {
    put_halves(0, bytes.size() / 2);
  } else {
    const auto cell = static_cast<size_t>(format.cell_bytes());
    for (size_t at = 0; at < bytes.size(); at += cell) {
      if (format.scales == Scales::bytes || format.scales == Scales::one) {
        put_floats(at, kPanelOutputs);
      } else if (format.scales != Scales::e4m3) {
        put_halves(at,
                   static_cast<size_t>(format.whole_cells() ? (format.minimum ? 32 : 16) : format.header_bytes / 2));
      }
    }
  }
  return bytes;
}

std::vector<uint8_t> quantised(QuantiseFunction quantise, const std::vector<float>& x, int64_t rows, int64_t k,
                               size_t block_bytes) {
  std::vector<uint8_t> blocks(static_cast<size_t>(rows * activation_blocks(k)) * block_bytes);
  quantise({x.data(), k, rows, k, blocks.data()});
  return blocks;
}

TEST(DeviceQuantise, HasTheBitsOfTheReference) {
  test::Random random(1);
  for (const DeviceKernels* device : test_devices()) {
    SCOPED_TRACE(testing::name_of(device));
    for (const int64_t k : {1, 31, 32, 100, 640}) {
      constexpr int64_t kRows = 5;
      for (const bool awkward : {false, true}) {
        const std::vector<float> x = awkward ? test::awkward_row(random, static_cast<size_t>(kRows * k))
                                             : test::random_row(random, static_cast<size_t>(kRows * k), 100.0f);
        OnDevice<float> input(*device, x);
        const auto check = [&](auto kernel, QuantiseFunction reference, size_t block_bytes) {
          const std::vector<uint8_t> expected = quantised(reference, x, kRows, k, block_bytes);
          OnDevice<uint8_t> blocks(*device, std::vector<uint8_t>(expected.size()));
          ASSERT_TRUE(kernel({input.data(), k, kRows, k, blocks.data()}, nullptr).ok());
          EXPECT_EQ(blocks.read(), expected) << "k " << k << ", blocks of " << block_bytes;
        };
        check(device->quantise_a8, scalar::quantise_a8, sizeof(ActivationBlock8));
        check(device->quantise_a16, scalar::quantise_a16, sizeof(ActivationBlock16));
      }
    }
  }
}

struct Sizes {
  int64_t n, k, rows;
};

class DeviceLinear : public ::testing::TestWithParam<WeightType> {};

// Two weights that share their input, by `kernel` and by `reference`; x holds floats or activation blocks.
void compare(const DeviceKernels& device, Status (*kernel)(const DeviceLinearParams&, DeviceStream),
             LinearFunction reference, WeightType type, const Sizes& sizes, const std::vector<uint8_t>& x,
             int64_t x_stride, test::Random& random) {
  const int64_t outputs[2] = {sizes.n, 17};
  OnDevice<uint8_t> input(device, x);
  DeviceLinearParams params;
  params.type = type;
  params.targets_count = 2;
  params.k = sizes.k;
  params.rows = sizes.rows;
  params.x = input.data();
  params.x_stride = x_stride;
  std::vector<OnDevice<uint8_t>> panels;
  std::vector<OnDevice<float>> results;
  std::vector<std::vector<float>> expected;
  for (int i = 0; i < 2; ++i) {
    const int64_t n = outputs[i], y_stride = n + 3;
    const std::vector<uint8_t> bytes = random_panels(type, n, sizes.k, random);
    std::vector<float> y(static_cast<size_t>(sizes.rows * y_stride), -7.0f);
    panels.emplace_back(device, bytes);
    results.emplace_back(device, y);
    params.targets[i] = {panels.back().data(), n, results.back().data(), y_stride};
    reference({type, bytes.data(), n, sizes.k, 0, panel_count(n), x.data(), x_stride, sizes.rows, y.data(), y_stride});
    expected.push_back(y);
  }
  ASSERT_TRUE(kernel(params, nullptr).ok());
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(test::same_bits(results[i].read(), expected[i]))
        << "output " << i << " of " << sizes.n << " x " << sizes.k << ", " << sizes.rows << " rows";
  }
}

TEST_P(DeviceLinear, HasTheBitsOfTheReference) {
  test::Random random(2);
  const WeightType type = GetParam();
  const int64_t step = panel_format(type).k_multiple() == 1 ? 37 : panel_format(type).k_multiple();
  for (const DeviceKernels* device : test_devices()) {
    SCOPED_TRACE(testing::name_of(device));
    for (const Sizes& sizes : {Sizes{1, step, 1}, Sizes{40, 3 * step, 1}, Sizes{33, 5 * step, 1}, Sizes{20, step, 3},
                               Sizes{16, 3 * step, 8}, Sizes{45, 3 * step, 9}, Sizes{30, step, 70}}) {
      const std::vector<float> x = test::random_row(random, static_cast<size_t>(sizes.rows * sizes.k), 3.0f);
      std::vector<uint8_t> bytes(x.size() * sizeof(float));
      std::memcpy(bytes.data(), x.data(), bytes.size());
      compare(*device, device->linear_f32, scalar::linear_f32, type, sizes, bytes, sizes.k, random);
      if (!panel_format(type).quantised) continue;
      compare(*device, device->linear_a8, scalar::linear_a8, type, sizes,
              quantised(scalar::quantise_a8, x, sizes.rows, sizes.k, sizeof(ActivationBlock8)),
              activation_blocks(sizes.k), random);
      compare(*device, device->linear_a16, scalar::linear_a16, type, sizes,
              quantised(scalar::quantise_a16, x, sizes.rows, sizes.k, sizeof(ActivationBlock16)),
              activation_blocks(sizes.k), random);
    }
  }
}

TEST_P(DeviceLinear, WithoutMatrixUnitsItHasTheBitsOfTheReference) {
  test::Random random(5);
  const WeightType type = GetParam();
  if (!panel_format(type).quantised) return;
  const int64_t step = panel_format(type).k_multiple();
  for (const Sizes& sizes : {Sizes{45, 5 * step, 9}, Sizes{30, step, 70}}) {
    const std::vector<float> x = test::random_row(random, static_cast<size_t>(sizes.rows * sizes.k), 3.0f);
    compare(emulated::device_kernels, &emulated::linear_a8_without_matrices, scalar::linear_a8, type, sizes,
            quantised(scalar::quantise_a8, x, sizes.rows, sizes.k, sizeof(ActivationBlock8)),
            activation_blocks(sizes.k), random);
    compare(emulated::device_kernels, &emulated::linear_a16_without_matrices, scalar::linear_a16, type, sizes,
            quantised(scalar::quantise_a16, x, sizes.rows, sizes.k, sizeof(ActivationBlock16)),
            activation_blocks(sizes.k), random);
  }
}

// More blocks than one chunk of the kernel for a single row holds.
TEST_P(DeviceLinear, LongRowsHaveTheBitsOfTheReference) {
  test::Random random(3);
  const WeightType type = GetParam();
  if (!panel_format(type).quantised) return;
  const Sizes sizes{16, 64 * 32 + 256, 1};
  const std::vector<float> x = test::random_row(random, static_cast<size_t>(sizes.k), 3.0f);
  for (const DeviceKernels* device : test_devices()) {
    SCOPED_TRACE(testing::name_of(device));
    compare(*device, device->linear_a16, scalar::linear_a16, type, sizes,
            quantised(scalar::quantise_a16, x, 1, sizes.k, sizeof(ActivationBlock16)), activation_blocks(sizes.k),
            random);
  }
}

TEST_P(DeviceLinear, RowsOfAWeightAreThoseOfTheFileTimesAFactor) {
  test::Random random(4);
  const WeightType type = GetParam();
  const int64_t n = 37, k = 512;
  const std::vector<uint8_t> bytes = random_panels(type, n, k, random);
  const std::vector<int32_t> ids = {0, 36, 15, 16, 15};
  constexpr float kFactor = 25.3f;
  std::vector<float> expected;
  std::vector<float> row(static_cast<size_t>(k));
  for (const int32_t id : ids) {
    unpack_row({type, n, k, bytes.data()}, id, row.data());
    for (const float value : row) expected.push_back(value * kFactor);
  }
  for (const DeviceKernels* device : test_devices()) {
    SCOPED_TRACE(testing::name_of(device));
    OnDevice<uint8_t> panels(*device, bytes);
    OnDevice<int32_t> wanted(*device, ids);
    OnDevice<float> y(*device, std::vector<float>(expected.size()));
    const DeviceEmbedParams params{type,    panels.data(), k, wanted.data(), static_cast<int64_t>(ids.size()),
                                   kFactor, y.data()};
    ASSERT_TRUE(device->embed(params, nullptr).ok());
    EXPECT_TRUE(test::same_bits(y.read(), expected));
  }
}

std::string type_name(const ::testing::TestParamInfo<WeightType>& info) {
  return std::string(weight_type_name(info.param));
}
INSTANTIATE_TEST_SUITE_P(Types, DeviceLinear, ::testing::ValuesIn(device_types()), type_name);

}  // namespace
}  // namespace kvass
