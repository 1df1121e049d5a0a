// attention_with_lse and merge_attention: bits, and refused arguments. The Python package's tests compare with float64.
#include <gtest/gtest.h>

#include <utility>

#include "effort.h"
#include "ops/attention/test_calls.h"

namespace kvass {
namespace {

TEST(AttentionLse, ItHasTheBitsOfTheReferenceAndChangesNone) {
  testing::Random random;
  OpContext reference = test_context(1, "reference");
  const auto run = [](const Call& call, OpContext& context, TestTensor& lse) {
    TestTensor out(DType::f32, call.q.shape());
    const Status status = attention_with_lse(context, call.q.view(), call.k.view(), call.v.view(), call.all_options(),
                                             out.view(), lse.view());
    EXPECT_TRUE(status.ok()) << status.message();
    return out;
  };
  for (int trial = 0; trial < testing::effort(12, 6); ++trial) {
    Call call = random_call(random, trial);
    if (trial % 3 == 0) add_documents(call, random);
    const std::vector<int64_t> rows{call.batch(), call.q.shape()[1], call.rows()};
    TestTensor expected(DType::f32, rows);
    ASSERT_TRUE(run(call, reference, expected).same_bits(call.run(reference))) << call.describe();
    for (size_t i = 0; i < expected.elements(); ++i) ASSERT_FALSE(std::isnan(expected.get(i))) << call.describe();
    for (const std::string& backend : test_backends()) {
      OpContext context = test_context(1 + trial % 3, backend);
      TestTensor lse(DType::f32, rows);
      run(call, context, lse);
      ASSERT_TRUE(lse.same_bits(expected)) << call.describe() << " " << backend;
    }
  }
  const Call call(DType::f32, 1, 2, 1, 3, 5, 16, random);
  TestTensor out(DType::f32, call.q.shape()), wrong(DType::f32, {1, 2, 4});
  const auto message = [&](Tensor lse) {
    return attention_with_lse(reference, call.q.view(), call.k.view(), call.v.view(), {}, out.view(), lse).message();
  };
  EXPECT_NE(message(wrong.view()).find("attention: lse: expected"), std::string::npos);
  EXPECT_NE(message({}).find("attention: lse: expected [B, Hq, Sq], got none"), std::string::npos);
  Tensor nowhere = TestTensor(DType::f32, {1, 2, 3}).view();
  nowhere.data = nullptr;
  EXPECT_NE(message(nowhere).find("attention: lse: expected elements, got a null pointer"), std::string::npos);
}

TEST(AttentionLse, MergedPartsAreRefusedWhereTheyDoNotFit) {
  testing::Random random;
  OpContext context = test_context(2, "");
  const TestTensor one(DType::f32, {1, 2, 3, 16}, random), other(DType::f32, {1, 2, 4, 16}, random);
  const TestTensor sums(DType::f32, {1, 2, 3}, random);
  TestTensor out(DType::f32, one.shape()), lse(DType::f32, sums.shape());
  const auto message = [&](std::vector<ConstTensor> outs, std::vector<ConstTensor> lses) {
    return merge_attention(context, outs, lses, out.view(), lse.view()).message();
  };
  EXPECT_EQ(message({one.view(), one.view()}, {sums.view(), sums.view()}), "");
  EXPECT_NE(message({}, {}).find("merge_attention: lses: expected as many as outs, at least one, got 0 for 0"),
            std::string::npos);
  EXPECT_NE(message({one.view(), other.view()}, {sums.view(), sums.view()}).find("merge_attention: outs: expected"),
            std::string::npos);
  EXPECT_NE(message({one.view()}, {one.view()}).find("merge_attention: lses: expected"), std::string::npos);
  EXPECT_NE(message({std::as_const(out).view()}, {sums.view()}).find("memory apart from the inputs"),
            std::string::npos);
}

}  // namespace
}  // namespace kvass
