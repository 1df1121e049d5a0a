#include <gtest/gtest.h>

#include "ops/attention/test_tensors.h"

namespace kvass {
namespace {

constexpr DType kTypes[] = {DType::f32, DType::f16, DType::bf16};

TEST(Alias, GivesTheSameTwoTensorsWithoutACopy) {
  TestTensor a(DType::f32, {1, 2, 3, 4}), b(DType::f16, {2, 2});
  const auto [x, y] = alias(a.view(), b.view());
  EXPECT_EQ(x.data, a.view().data);
  EXPECT_EQ(x.shape, a.view().shape);
  EXPECT_EQ(y.data, b.view().data);
  EXPECT_EQ(y.dtype, DType::f16);
}

TEST(UpdateCrossAttnCache, CopiesTheBitsAndLeavesTheRestAlone) {
  testing::Random random;
  for (const DType dtype : kTypes) {
    for (const int threads : {1, 3}) {
      OpContext context = OpContext::create({threads, ""}).value();
      TestTensor value(dtype, {2, 3, 5, 7}, random), cache(dtype, {2, 3, 9, 7}, random);
      value.set(3, std::numeric_limits<float>::quiet_NaN());
      const TestTensor before = cache;
      const Result<Tensor> result = update_cross_attn_cache(context, value.view(), cache.view());
      ASSERT_TRUE(result.ok()) << result.status().message();
      EXPECT_EQ(result.value().data, cache.view().data);
      EXPECT_TRUE(cache.slice(2, 0, 5).same_bits(value));
      EXPECT_TRUE(cache.slice(2, 5, 9).same_bits(before.slice(2, 5, 9)));
    }
  }
}

TEST(UpdateCrossAttnCache, StridedViewsAreCopiedAsTheyAreSeen) {
  testing::Random random;
  OpContext context = OpContext::create({1, ""}).value();
  TestTensor value(DType::bf16, {1, 4, 3, 2}, random), cache(DType::bf16, {1, 3, 4, 2});
  ConstTensor turned = value.view();  // [1, 3, 4, 2]
  std::swap(turned.shape[1], turned.shape[2]);
  std::swap(turned.strides[1], turned.strides[2]);
  ASSERT_TRUE(update_cross_attn_cache(context, turned, cache.view()).ok());
  for (int64_t h = 0; h < 3; ++h) {
    for (int64_t s = 0; s < 4; ++s) {
      for (int64_t d = 0; d < 2; ++d) EXPECT_EQ(cache.at(0, h, s, d), value.at(0, s, h, d));
    }
  }
}

TEST(UpdateCrossAttnCache, WrongArgumentsAreErrorsThatWriteNothing) {
  testing::Random random;
  OpContext context = OpContext::create({1, ""}).value();
  TestTensor cache(DType::f32, {2, 3, 8, 4}, random);
  const TestTensor before = cache;
  const auto message = [&](const TestTensor& value) {
    return update_cross_attn_cache(context, value.view(), cache.view()).status().message();
  };
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{3, 8, 4}, {1, 3, 8, 4}, {2, 2, 8, 4}, {2, 3, 8, 5}, {2, 3, 9, 4}}) {
    const std::string text = message(TestTensor(DType::f32, shape, random));
    EXPECT_NE(text.find("update_cross_attn_cache: value: expected "), std::string::npos) << text;
  }
  EXPECT_NE(message(TestTensor(DType::f32, {2, 3, 9, 4}, random)).find("S_max = 8, got [2, 3, 9, 4]"),
            std::string::npos);
  EXPECT_NE(message(TestTensor(DType::f16, {2, 3, 8, 4}, random)).find("expected f32"), std::string::npos);
  EXPECT_FALSE(update_cross_attn_cache(context, cache.view(), cache.view()).ok()) << "onto itself";
  EXPECT_TRUE(update_cross_attn_cache(context, cache.view().slice(2, 4, 8), cache.view()).ok())
      << "its own later rows, which it does not write";
  EXPECT_FALSE(cache.same_bits(before));
}

}  // namespace
}  // namespace kvass
