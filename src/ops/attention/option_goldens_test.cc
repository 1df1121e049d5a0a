// Packed documents, first positions, chunks and windows to both sides against float64 results, and their gradients:
// tests/data/make_attention_goldens.py has the definition and the inputs.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "ops/attention/test_tensors.h"

namespace kvass {
namespace {

using nlohmann::json;

TestTensor numbers(const std::vector<int64_t>& shape, int64_t seed) {
  TestTensor tensor(DType::f32, shape);
  for (size_t i = 0; i < tensor.elements(); ++i) {
    tensor.set(i, static_cast<float>((static_cast<int64_t>(i) * 7919 + seed * 104729) % 4093) / 2048.0f - 1.0f);
  }
  return tensor;
}

// A case: its tensors, and its options with what they point to.
struct Case {
  const json& golden;
  std::vector<int64_t> first, documents_q, documents_k;
  std::vector<float> sink_logits;
  AttentionOptions options;
  TestTensor q, k, v, dout, dlse;

  explicit Case(const json& from) : golden(from) {
    const json& given = from.at("options");
    first = given.at("first_position").get<std::vector<int64_t>>();
    documents_q = given.at("cu_seqlens_q").get<std::vector<int64_t>>();
    documents_k = given.at("cu_seqlens_k").get<std::vector<int64_t>>();
    sink_logits = given.at("sink_logits").get<std::vector<float>>();
    options.causal = given.at("causal");
    options.window = given.at("window");
    options.sinks = given.at("sinks");
    options.softcap = given.at("softcap");
    options.attention_chunk = given.at("attention_chunk");
    if (!given.at("window_right").is_null()) options.window_right = given.at("window_right").get<int64_t>();
    options.first_position = first;
    options.cu_seqlens_q = documents_q;
    options.cu_seqlens_k = documents_k;
    options.sink_logits = sink_logits;
    q = numbers({size("B"), size("Hq"), size("Sq"), size("D")}, 1);
    k = numbers({size("B"), size("Hkv"), size("Skv"), size("D")}, 2);
    v = numbers({size("B"), size("Hkv"), size("Skv"), size("D")}, 3);
    dout = numbers(q.shape(), 4);
    dlse = numbers({size("B"), size("Hq"), size("Sq")}, 5);
  }
  Case(const Case&) = delete;
  Case& operator=(const Case&) = delete;

  int64_t size(const char* name) const { return golden.at("sizes").at(name); }
  // The largest error over the largest magnitude, of what is finite.
  double error(const char* name, const TestTensor& got) const {
    const json& want = golden.at(name);
    double worst = 0.0, peak = 1e-30;
    for (size_t i = 0; i < want.size(); ++i) {
      const double difference = std::abs(static_cast<double>(got.get(i)) - want[i].get<double>());
      worst = difference <= worst ? worst : difference;  // keeps NaN
      peak = std::max(peak, std::abs(want[i].get<double>()));
    }
    return worst / peak;
  }
};

class OptionGoldens : public ::testing::TestWithParam<const char*> {
 protected:
  OptionGoldens() : context_(OpContext::create({2, GetParam()}).value()) {
    golden_ = json::parse(std::ifstream(std::string(KVASS_TEST_DATA_DIR) + "/attention_options.json"));
  }
  OpContext context_;
  json golden_;
};

constexpr double kTolerance = 2e-6;

TEST_P(OptionGoldens, EveryCaseIsWithinTheTolerance) {
  for (const json& each : golden_.at("cases")) {
    SCOPED_TRACE(each.at("name").get<std::string>());
    const Case one(each);
    TestTensor out(DType::f32, one.q.shape()), lse(DType::f32, one.dlse.shape()), with(DType::f32, one.q.shape());
    ASSERT_TRUE(attention_fp32(context_, one.q.view(), one.k.view(), one.v.view(), one.options, out.view()).ok());
    EXPECT_LE(one.error("out", out), kTolerance);
    ASSERT_TRUE(
        attention_with_lse(context_, one.q.view(), one.k.view(), one.v.view(), one.options, with.view(), lse.view())
            .ok());
    for (size_t i = 0; i < out.elements(); ++i) ASSERT_EQ(out.get(i), with.get(i));
    for (const json& row : each.at("rows_without_keys")) {
      for (int64_t h = 0; h < one.size("Hq"); ++h) {
        float& of_row = *(reinterpret_cast<float*>(lse.view().data) +
                          (row[0].get<int64_t>() * one.size("Hq") + h) * one.size("Sq") + row[1].get<int64_t>());
        ASSERT_TRUE(one.sink_logits.empty()) << "such a row has the logit as its lse";
        EXPECT_EQ(of_row, -INFINITY);
        of_row = 0.0f;  // as the golden has it
      }
    }
    EXPECT_LE(one.error("lse", lse), kTolerance);
  }
}

TEST_P(OptionGoldens, SoAreTheGradients) {
  for (const json& each : golden_.at("cases")) {
    SCOPED_TRACE(each.at("name").get<std::string>());
    const Case one(each);
    TestTensor dq(DType::f32, one.q.shape()), dk(DType::f32, one.k.shape()), dv(DType::f32, one.v.shape());
    ASSERT_TRUE(attention_backward(context_, one.q.view(), one.k.view(), one.v.view(), one.dout.view(), one.options,
                                   {dq.view(), dk.view(), dv.view()}, one.dlse.view())
                    .ok());
    EXPECT_LE(one.error("dq", dq), 2 * kTolerance);
    EXPECT_LE(one.error("dk", dk), 2 * kTolerance);
    EXPECT_LE(one.error("dv", dv), 2 * kTolerance);
  }
}

TEST_P(OptionGoldens, KeysInACacheAreTheSame) {
  for (const json& each : golden_.at("cases")) {
    SCOPED_TRACE(each.at("name").get<std::string>());
    const Case one(each);
    const int64_t all = one.size("Skv"), cached = all - one.size("Sq");
    const auto part = [](const TestTensor& of, int64_t begin, int64_t end) { return of.view().slice(2, begin, end); };
    TestTensor out(DType::f32, one.q.shape());
    const CachedKeys keys{part(one.k, 0, cached), part(one.v, 0, cached), part(one.k, cached, all),
                          part(one.v, cached, all)};
    const Status status = kv_cache_attention_fp32(context_, one.q.view(), keys, one.options, out.view());
    if (!one.documents_q.empty()) {  // not with a cache
      EXPECT_NE(status.message().find("cu_seqlens"), std::string::npos) << status.message();
      continue;
    }
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_LE(one.error("out", out), kTolerance);
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, OptionGoldens,
                         ::testing::Values("", "attention=reference,kv_cache_attention=reference"),
                         [](const auto& info) { return info.param[0] == '\0' ? "Best" : "Reference"; });

}  // namespace
}  // namespace kvass
