// The operators from C have the bits of the C++ operators, with every option.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "test_c_operators.h"

namespace kvass {
namespace {

using testing::sized;
using testing::Values;
using COperators = testing::COperators;

TEST_F(COperators, EveryOptionHasTheBitsOfTheOneOfCpp) {
  mask_[4] = mask_[10] = 0;
  const kvass_tensor rotated = rotated_.c();
  const kvass_key_padding_mask mask{mask_.data(), 2, 9, 9, 1};
  Values turned = rotated_;
  using Set = std::function<void(kvass_attention_options&, AttentionOptions&)>;
  const auto not_causal = [](auto& c, auto& cc) {
    c.not_causal = 1;
    cc.causal = false;
  };
  const std::pair<const char*, Set> cases[] = {
      {"not_causal", not_causal},
      {"scale", [&](auto& c, auto& cc) { cc.scale = *(c.scale = &scale_); }},
      {"softcap", [](auto& c, auto& cc) { cc.softcap = c.softcap = 0.25f; }},
      {"window", [](auto& c, auto& cc) { cc.window = c.window = 3; }},
      {"sinks",
       [](auto& c, auto& cc) {
         cc.window = c.window = 3;
         cc.sinks = c.sinks = 2;
       }},
      {"q_sink",
       [&](auto& c, auto& cc) {
         cc.window = c.window = 3;
         cc.sinks = c.sinks = 2;
         c.q_sink = &rotated;
         cc.q_sink = turned.cc();
       }},
      {"key_padding_mask",
       [&](auto& c, auto& cc) {
         c.key_padding_mask = &mask;
         cc.key_padding_mask = {mask_.data(), 2, 9, 9, 1};
       }},
      {"first_position",
       [&](auto& c, auto& cc) {
         c.first_position = first_.data();
         c.first_position_count = first_.size();
         cc.first_position = first_;
       }},
      {"sink_logits",
       [&](auto& c, auto& cc) {
         c.sink_logits = logits_.data();
         c.sink_logit_count = logits_.size();
         cc.sink_logits = logits_;
       }},
      {"window_right",
       [&](auto& c, auto& cc) {
         not_causal(c, cc);
         cc.window_right = *(c.window_right = &right_);
       }},
      {"attention_chunk", [](auto& c, auto& cc) { cc.attention_chunk = c.attention_chunk = 4; }},
      {"cu_seqlens",
       [&](auto& c, auto& cc) {
         c.cu_seqlens_q = cu_q_.data();
         c.cu_seqlens_k = cu_k_.data();
         c.cu_seqlens_q_count = c.cu_seqlens_k_count = cu_q_.size();
         cc.cu_seqlens_q = cu_q_;
         cc.cu_seqlens_k = cu_k_;
       }},
  };
  ASSERT_EQ(attend(nullptr), KVASS_OK) << kvass_message();
  const Values plain = out_;
  for (const auto& [name, set] : cases) {
    kvass_attention_options c = sized<kvass_attention_options>();
    AttentionOptions cc;
    set(c, cc);
    ASSERT_EQ(attend(&c), KVASS_OK) << name << ": " << kvass_message();
    Values out({2, 4, 6, 16}), lse({2, 4, 6});
    const Status status = attention_with_lse(cc_, q_.cc(), k_.cc(), v_.cc(), cc, out.cc(), lse.cc());
    ASSERT_TRUE(status.ok()) << name << ": " << status.message();
    EXPECT_EQ(out_, out) << name;
    EXPECT_EQ(lse_, lse) << name;
    EXPECT_FALSE(out_ == plain) << name << " changes nothing";
  }
}

TEST_F(COperators, OutIsOfTheDtypeOfQOrFloat32) {
  Values q({1, 2, 3, 16}, random_, KVASS_DTYPE_BF16), k({1, 1, 5, 16}, random_, KVASS_DTYPE_BF16);
  Values narrow({1, 2, 3, 16}, KVASS_DTYPE_BF16), wide({1, 2, 3, 16}), same = narrow, exact = wide;
  const kvass_tensor cq = q.c(), ck = k.c(), to_narrow = narrow.c(), to_wide = wide.c();
  ASSERT_EQ(kvass_attention(context_, &cq, &ck, &ck, nullptr, &to_narrow, nullptr), KVASS_OK) << kvass_message();
  ASSERT_EQ(kvass_attention(context_, &cq, &ck, &ck, nullptr, &to_wide, nullptr), KVASS_OK) << kvass_message();
  ASSERT_TRUE(attention(cc_, q.cc(), k.cc(), k.cc(), {}, same.cc()).ok());
  ASSERT_TRUE(attention_fp32(cc_, q.cc(), k.cc(), k.cc(), {}, exact.cc()).ok());
  EXPECT_EQ(narrow, same);
  EXPECT_EQ(wide, exact);
  const Values half({1, 2, 3, 16}, KVASS_DTYPE_F16);
  const kvass_tensor to_half = half.c();
  EXPECT_EQ(kvass_attention(context_, &cq, &ck, &ck, nullptr, &to_half, nullptr), KVASS_BAD_INPUT);
  EXPECT_NE(std::strstr(kvass_message(), "attention: out: expected bf16 (as q), got f16"), nullptr) << kvass_message();
}

TEST_F(COperators, StridesMayBeAny) {
  ASSERT_EQ(attend(nullptr), KVASS_OK) << kvass_message();
  const Values expected = out_;
  // The heads of k beside each other, and its keys from the last to the first.
  Values turned({2, 9, 2, 16});
  for (int64_t row = 0; row < 36; ++row) {
    const int64_t b = row / 18, h = row / 9 % 2, j = row % 9;
    std::memcpy(turned.bytes.data() + ((b * 9 + 8 - j) * 2 + h) * 64, k_.bytes.data() + row * 64, 64);
  }
  kvass_tensor q = q_.c(), k = k_.c(), v = v_.c(), out = out_.c();
  k.data = turned.bytes.data() + 8 * 2 * 64;
  k.strides[0] = 9 * 2 * 16;
  k.strides[1] = 16;
  k.strides[2] = -2 * 16;
  ASSERT_EQ(kvass_attention(context_, &q, &k, &v, nullptr, &out, nullptr), KVASS_OK) << kvass_message();
  EXPECT_EQ(out_, expected);
}

TEST_F(COperators, CachedKeysAndNewOnesHaveTheBitsOfAll) {
  const Values q({2, 4, 2, 16}, random_), out({2, 4, 2, 16});
  Values expected({2, 4, 2, 16});
  kvass_attention_options options = sized<kvass_attention_options>();
  options.window = 5;
  options.sinks = 1;
  kvass_tensor cq = q.c(), k = k_.c(), v = v_.c(), to = expected.c();
  ASSERT_EQ(kvass_attention(context_, &cq, &k, &v, &options, &to, nullptr), KVASS_OK) << kvass_message();
  kvass_cached_keys keys{k, v, k, v};
  const auto rows = [](kvass_tensor tensor, int64_t begin, int64_t end) {
    tensor.data = static_cast<float*>(tensor.data) + begin * tensor.strides[2];
    tensor.shape[2] = end - begin;
    return tensor;
  };
  keys.k_cache = rows(k, 0, 7);
  keys.v_cache = rows(v, 0, 7);
  keys.k_new = rows(k, 7, 9);
  keys.v_new = rows(v, 7, 9);
  to = out.c();
  ASSERT_EQ(kvass_kv_cache_attention(context_, &cq, &keys, &options, &to), KVASS_OK) << kvass_message();
  EXPECT_EQ(out, expected);
  options.cu_seqlens_q = cu_q_.data();
  options.cu_seqlens_q_count = cu_q_.size();
  EXPECT_EQ(kvass_kv_cache_attention(context_, &cq, &keys, &options, &to), KVASS_BAD_INPUT);
  EXPECT_NE(std::strstr(kvass_message(), "kv_cache_attention: cu_seqlens_q: expected none with a cache"), nullptr)
      << kvass_message();
  keys.v_new.dtype = 0;
  EXPECT_EQ(kvass_kv_cache_attention(context_, &cq, &keys, nullptr, &to), KVASS_BAD_INPUT);
  EXPECT_NE(std::strstr(kvass_message(), "kv_cache_attention: v_new.dtype: expected KVASS_DTYPE_…, got 0"), nullptr)
      << kvass_message();
  EXPECT_EQ(kvass_kv_cache_attention(context_, &cq, nullptr, nullptr, &to), KVASS_BAD_INPUT);
  EXPECT_NE(std::strstr(kvass_message(), "kv_cache_attention: keys: expected a pointer, got NULL"), nullptr);
}

TEST_F(COperators, GradientsHaveTheBitsOfCpp) {
  Values dout({2, 4, 6, 16}, random_), dlse({2, 4, 6}, random_);
  Values dq(q_.shape), dk(k_.shape), dv(v_.shape), cc_dq = dq, cc_dk = dk, cc_dv = dv;
  kvass_attention_options options = sized<kvass_attention_options>();
  options.not_causal = 1;
  options.window_right = &right_;
  options.first_position = first_.data();
  options.first_position_count = first_.size();
  AttentionOptions cc;
  cc.causal = false;
  cc.window_right = right_;
  cc.first_position = first_;
  const kvass_tensor q = q_.c(), k = k_.c(), v = v_.c(), of_out = dout.c(), of_lse = dlse.c();
  kvass_attention_gradients to{dq.c(), dk.c(), dv.c()};
  for (const bool with_lse : {false, true}) {
    ASSERT_EQ(kvass_attention_backward(context_, &q, &k, &v, &of_out, with_lse ? &of_lse : nullptr, &options, &to),
              KVASS_OK)
        << kvass_message();
    const AttentionGradients cc_to{cc_dq.cc(), cc_dk.cc(), cc_dv.cc()};
    ASSERT_TRUE(attention_backward(cc_, q_.cc(), k_.cc(), v_.cc(), dout.cc(), cc, cc_to,
                                   with_lse ? ConstTensor(dlse.cc()) : ConstTensor())
                    .ok());
    EXPECT_EQ(dq, cc_dq);
    EXPECT_EQ(dk, cc_dk);
    EXPECT_EQ(dv, cc_dv);
  }
  kvass_tensor nothing = of_lse;
  nothing.data = nullptr;
  EXPECT_EQ(kvass_attention_backward(context_, &q, &k, &v, &of_out, &nothing, &options, &to), KVASS_BAD_INPUT);
  EXPECT_NE(std::strstr(kvass_message(), "attention_backward: dlse: expected elements"), nullptr) << kvass_message();
  options.q_sink = &q;
  EXPECT_EQ(kvass_attention_backward(context_, &q, &k, &v, &of_out, nullptr, &options, &to), KVASS_BAD_INPUT);
  EXPECT_NE(std::strstr(kvass_message(), "attention_backward: q_sink: expected none"), nullptr) << kvass_message();
  EXPECT_EQ(kvass_attention_backward(context_, &q, &k, &v, &of_out, nullptr, nullptr, nullptr), KVASS_BAD_INPUT);
  EXPECT_NE(std::strstr(kvass_message(), "attention_backward: gradients: expected a pointer"), nullptr);
}

TEST_F(COperators, PartsAreMergedAsInCpp) {
  Values outs[] = {Values({1, 2, 3, 16}, random_), Values({1, 2, 3, 16}, random_)};
  Values lses[] = {Values({1, 2, 3}, random_), Values({1, 2, 3}, random_)};
  Values out({1, 2, 3, 16}), lse({1, 2, 3}), cc_out = out, cc_lse = lse;
  const kvass_tensor parts[] = {outs[0].c(), outs[1].c()}, sums[] = {lses[0].c(), lses[1].c()};
  const kvass_tensor to = out.c(), to_lse = lse.c();
  ASSERT_EQ(kvass_merge_attention(context_, parts, sums, 2, &to, &to_lse), KVASS_OK) << kvass_message();
  const ConstTensor cc_parts[] = {outs[0].cc(), outs[1].cc()}, cc_sums[] = {lses[0].cc(), lses[1].cc()};
  ASSERT_TRUE(merge_attention(cc_, cc_parts, cc_sums, cc_out.cc(), cc_lse.cc()).ok());
  EXPECT_EQ(out, cc_out);
  EXPECT_EQ(lse, cc_lse);
  EXPECT_EQ(kvass_merge_attention(context_, parts, sums, 0, &to, &to_lse), KVASS_BAD_INPUT);
  EXPECT_NE(std::strstr(kvass_message(), "merge_attention: count: expected at least one part"), nullptr);
  EXPECT_EQ(kvass_merge_attention(context_, parts, nullptr, 2, &to, &to_lse), KVASS_BAD_INPUT);
  EXPECT_NE(std::strstr(kvass_message(), "merge_attention: lses: expected a pointer, got NULL"), nullptr);
  EXPECT_EQ(kvass_merge_attention(context_, parts, sums, SIZE_MAX, &to, &to_lse), KVASS_BAD_INPUT);
  EXPECT_EQ(kvass_merge_attention(context_, parts, parts, 2, &to, &to_lse), KVASS_BAD_INPUT);
  EXPECT_NE(std::strstr(kvass_message(), "merge_attention: lses: expected 3 dimensions"), nullptr) << kvass_message();
}

TEST_F(COperators, ACrossCacheIsWrittenInPlace) {
  const Values value({1, 2, 3, 16}, random_);
  Values cache({1, 2, 5, 16}, random_), expected = cache;
  for (size_t h = 0; h < 2; ++h) {
    std::memcpy(expected.bytes.data() + h * 5 * 64, value.bytes.data() + h * 3 * 64, 3 * 64);
  }
  const kvass_tensor from = value.c(), to = cache.c();
  ASSERT_EQ(kvass_update_cross_attn_cache(context_, &from, &to), KVASS_OK) << kvass_message();
  EXPECT_EQ(cache, expected);
  EXPECT_EQ(kvass_update_cross_attn_cache(context_, &to, &from), KVASS_BAD_INPUT);
  EXPECT_NE(std::strstr(kvass_message(), "update_cross_attn_cache: value: expected S of at most"), nullptr)
      << kvass_message();
}

}  // namespace
}  // namespace kvass
