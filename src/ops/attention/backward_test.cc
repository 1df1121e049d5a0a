// attention_backward: bits that must not depend on the division of the work, keys that no row sees, refused arguments.
// goldens_test.cc compares with float64.
#include <gtest/gtest.h>

#include "effort.h"
#include "ops/attention/test_calls.h"

namespace kvass {
namespace {

struct Gradients {
  TestTensor dq, dk, dv;
  bool same_bits(const Gradients& o) const { return dq.same_bits(o.dq) && dk.same_bits(o.dk) && dv.same_bits(o.dv); }
};

// Without a `dlse` of its own a call has none.
Gradients backward(const Call& call, const TestTensor& dout, OpContext& context, const TestTensor& dlse = {}) {
  Gradients g{TestTensor(DType::f32, call.q.shape()), TestTensor(DType::f32, call.k.shape()),
              TestTensor(DType::f32, call.k.shape())};
  AttentionOptions options = call.all_options();
  options.q_sink = {};
  const Status status =
      attention_backward(context, call.q.view(), call.k.view(), call.v.view(), dout.view(), options,
                         {g.dq.view(), g.dk.view(), g.dv.view()}, dlse.shape().empty() ? ConstTensor() : dlse.view());
  EXPECT_TRUE(status.ok()) << status.message();
  return g;
}

TEST(AttentionBackward, EveryBackendThreadCountAndBatchGivesTheBitsOfTheReference) {
  testing::Random random;
  OpContext reference = test_context(1, "reference");
  std::vector<OpContext> contexts;
  for (const std::string& backend : test_backends()) {
    for (const int threads : {1, 2, 3, 8}) contexts.push_back(test_context(threads, backend));
  }
  for (int trial = 0; trial < testing::effort(15, 6); ++trial) {
    const Call call = random_call(random, trial);
    const TestTensor dout(kTypes[(trial + trial / 3) % 3], call.q.shape(), random);
    const Gradients expected = backward(call, dout, reference);
    for (OpContext& context : contexts) {
      ASSERT_TRUE(backward(call, dout, context).same_bits(expected)) << call.describe();
    }
    for (int64_t b = 0; b < call.batch(); ++b) {
      Call one = call;
      one.q = call.q.slice(0, b, b + 1);
      one.k = call.k.slice(0, b, b + 1);
      one.v = call.v.slice(0, b, b + 1);
      if (!call.first.empty()) one.first = {call.first[static_cast<size_t>(b)]};
      if (!call.mask.empty()) {
        one.mask.assign(call.mask.begin() + b * call.keys(), call.mask.begin() + (b + 1) * call.keys());
      }
      const Gradients slice = backward(one, dout.slice(0, b, b + 1), contexts.back());
      ASSERT_TRUE(slice.dq.same_bits(expected.dq.slice(0, b, b + 1))) << call.describe();
      ASSERT_TRUE(slice.dk.same_bits(expected.dk.slice(0, b, b + 1))) << call.describe();
      ASSERT_TRUE(slice.dv.same_bits(expected.dv.slice(0, b, b + 1))) << call.describe();
    }
  }
}

TEST(AttentionBackward, GradientsThroughTheLseHaveTheBitsOfTheReference) {
  testing::Random random;
  OpContext reference = test_context(1, "reference");
  for (int trial = 0; trial < testing::effort(8, 4); ++trial) {
    Call call = random_call(random, trial);
    call.q_sink = TestTensor();
    const TestTensor dout(DType::f32, call.q.shape(), random);
    const TestTensor dlse(DType::f32, {call.batch(), call.q.shape()[1], call.rows()}, random);
    const Gradients expected = backward(call, dout, reference, dlse);
    for (const std::string& backend : test_backends()) {
      OpContext context = test_context(2, backend);
      ASSERT_TRUE(backward(call, dout, context, dlse).same_bits(expected)) << call.describe() << " " << backend;
    }
    const TestTensor none(DType::f32, dlse.shape(), std::vector<float>(dlse.elements()).data());
    ASSERT_TRUE(backward(call, dout, reference, none).same_bits(backward(call, dout, reference))) << call.describe();
  }
}

TEST(AttentionBackward, PackedDocumentsHaveTheBitsOfCallsOfTheirOwn) {
  testing::Random random;
  OpContext context = test_context(2, "");
  for (int trial = 0; trial < testing::effort(10, 5); ++trial) {
    Call call = random_call(random, trial);
    call.q_sink = TestTensor();
    add_documents(call, random);
    const TestTensor dout(DType::f32, call.q.shape(), random);
    const Gradients whole = backward(call, dout, context);
    for (size_t n = 0; n + 1 < call.documents_q.size(); ++n) {
      const Call one = document_of(call, n);
      const int64_t b = static_cast<int64_t>(n) / 4;
      const auto rows = [&](const TestTensor& t, const std::vector<int64_t>& offsets, int64_t each) {
        return t.slice(0, b, b + 1).slice(2, offsets[n] - b * each, offsets[n + 1] - b * each);
      };
      const Gradients part = backward(one, rows(dout, call.documents_q, call.rows()), context);
      ASSERT_TRUE(part.dq.same_bits(rows(whole.dq, call.documents_q, call.rows()))) << call.describe() << " " << n;
      ASSERT_TRUE(part.dk.same_bits(rows(whole.dk, call.documents_k, call.keys()))) << call.describe() << " " << n;
      ASSERT_TRUE(part.dv.same_bits(rows(whole.dv, call.documents_k, call.keys()))) << call.describe() << " " << n;
    }
  }
}

TEST(AttentionBackward, KeysThatNoRowSeesAreNotReadAndHaveGradientZero) {
  testing::Random random;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const std::string& backend : test_backends()) {
    OpContext context = test_context(2, backend);
    Call call(DType::f32, 1, 2, 1, 4, 200, 32, random);
    call.options.window = 20;
    call.mask.assign(200, 1);
    call.mask[190] = 0;
    for (const int64_t key : {0, 100, 175, 190}) {
      for (int64_t d = 0; d < 32; ++d) {
        call.k.set(call.k.index(0, 0, key, d), nan);
        call.v.set(call.v.index(0, 0, key, d), nan);
      }
    }
    const Gradients g = backward(call, TestTensor(DType::f32, call.q.shape(), random), context);
    for (size_t i = 0; i < g.dq.elements(); ++i) ASSERT_FALSE(std::isnan(g.dq.get(i)));
    for (size_t i = 0; i < g.dk.elements(); ++i) ASSERT_FALSE(std::isnan(g.dk.get(i)) || std::isnan(g.dv.get(i)));
    for (const int64_t key : {0, 100, 175, 190}) {
      for (int64_t d = 0; d < 32; ++d) {
        EXPECT_EQ(std::bit_cast<uint32_t>(g.dk.at(0, 0, key, d)), 0u);
        EXPECT_EQ(std::bit_cast<uint32_t>(g.dv.at(0, 0, key, d)), 0u);
      }
    }
  }
}

TEST(AttentionBackward, WrongArgumentsAreNamed) {
  testing::Random random;
  OpContext context = test_context(1, "");
  Call call(DType::f32, 1, 2, 1, 4, 6, 32, random);
  TestTensor dout(DType::f32, call.q.shape(), random), dq(DType::f32, call.q.shape()), dk(DType::f32, call.k.shape());
  const auto message = [&](const TestTensor& cotangent, Tensor to_dq, Tensor to_dk, Tensor to_dv) {
    return attention_backward(context, call.q.view(), call.k.view(), call.v.view(), cotangent.view(), {},
                              {to_dq, to_dk, to_dv})
        .message();
  };
  TestTensor half(DType::f16, call.q.shape());
  EXPECT_NE(message(call.k, dq.view(), dk.view(), dk.view()).find("attention_backward: dout:"), std::string::npos);
  EXPECT_NE(message(dout, dq.view(), dk.view(), dk.view()).find("overlaps dv"), std::string::npos);
  EXPECT_NE(message(dout, half.view(), dk.view(), dk.view()).find("dq: expected f32"), std::string::npos);
  EXPECT_NE(message(dout, dout.view(), dk.view(), dk.view()).find("overlaps dout"), std::string::npos);
}

}  // namespace
}  // namespace kvass
