// Errors of the C operators: every mistake is a code with a message that names the field, and nothing is written.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "test_c_operators.h"

namespace kvass {
namespace {

using testing::sized;
using testing::Values;

class COperatorErrors : public testing::COperators {};

TEST_F(COperatorErrors, OptionsOutOfTheirRangeAreRefusedByName) {
  const int64_t negative = -1;
  const float no_number = std::numeric_limits<float>::quiet_NaN();
  refused([&](auto& o) { o.scale = &no_number; }, "attention: scale: expected a finite number");
  refused([](auto& o) { o.softcap = -1.0f; }, "attention: softcap: expected");
  refused([](auto& o) { o.window = -1; }, "attention: window: expected at least 0 keys, got -1");
  refused([](auto& o) { o.sinks = -1; }, "attention: sinks: expected at least 0 keys");
  refused([&](auto& o) { o.window_right = &negative; }, "attention: window_right: expected at least 0 keys");
  refused([](auto& o) { o.attention_chunk = -4; }, "attention: attention_chunk: expected at least 0 positions");
  refused(
      [](auto& o) {
        o.attention_chunk = 4;
        o.sinks = 2;
      },
      "attention: sinks: expected 0 keys with attention_chunk");
  const kvass_tensor keys = k_.c();
  refused([&](auto& o) { o.q_sink = &keys; }, "attention: q_sink: expected q's shape");
  kvass_tensor none = q_.c();
  none.data = nullptr;
  refused([&](auto& o) { o.q_sink = &none; }, "attention: q_sink.data: expected a pointer, got NULL");
  kvass_key_padding_mask mask{mask_.data(), 2, 8, 9, 1};
  refused([&](auto& o) { o.key_padding_mask = &mask; },
          "attention: key_padding_mask: expected [B, Skv] = [2, 9], got [2, 8]");
  mask.data = nullptr;
  refused([&](auto& o) { o.key_padding_mask = &mask; }, "attention: key_padding_mask.data: expected a pointer");
}

TEST_F(COperatorErrors, ListsThatDoNotFitAreRefusedByName) {
  refused(
      [&](auto& o) {
        o.first_position = first_.data();
        o.first_position_count = 1;
      },
      "attention: first_position: expected [B] = [2], got [1]");
  refused([&](auto& o) { o.first_position = first_.data(); }, "attention: first_position_count: expected at least 1");
  refused([](auto& o) { o.first_position_count = 2; }, "attention: first_position: expected a pointer, got NULL");
  refused([](auto& o) { o.first_position_count = SIZE_MAX; }, "attention: first_position: expected");
  refused([&](auto& o) { o.sink_logits = logits_.data(); }, "attention: sink_logit_count: expected at least 1");
  refused(
      [&](auto& o) {
        o.sink_logits = logits_.data();
        o.sink_logit_count = 3;
      },
      "attention: sink_logits: expected [Hq] = [4], got [3]");
  const auto documents = [&](kvass_attention_options& o) {
    o.cu_seqlens_q = cu_q_.data();
    o.cu_seqlens_k = cu_k_.data();
    o.cu_seqlens_q_count = o.cu_seqlens_k_count = cu_q_.size();
  };
  refused(
      [&](auto& o) {
        documents(o);
        o.cu_seqlens_q_count = 0;
      },
      "attention: cu_seqlens_q_count: expected at least 1");
  refused(
      [&](auto& o) {
        documents(o);
        o.cu_seqlens_q = nullptr;
        o.cu_seqlens_q_count = 0;
      },
      "attention: cu_seqlens_q: expected offsets, as cu_seqlens_k, got none");
  refused(
      [&](auto& o) {
        documents(o);
        o.cu_seqlens_k = nullptr;
        o.cu_seqlens_k_count = 0;
      },
      "attention: cu_seqlens_k: expected offsets, because Sq and Skv differ");
  refused(
      [&](auto& o) {
        documents(o);
        o.cu_seqlens_q_count = 3;
      },
      "attention: cu_seqlens_q: expected offsets from 0 to 12");
  refused(
      [&](auto& o) {
        documents(o);
        o.first_position = first_.data();
        o.first_position_count = 2;
      },
      "attention: first_position: expected none with cu_seqlens_q");
}

TEST_F(COperatorErrors, StructsOfAnotherSizeAreRefusedWhereTheyHideAField) {
  struct Newer {
    kvass_attention_options known;
    int64_t later;
  } newer{};
  newer.known.struct_size = sizeof newer;
  EXPECT_EQ(attend(&newer.known), KVASS_OK) << kvass_message();
  newer.later = 1;
  EXPECT_EQ(attend(&newer.known), KVASS_BAD_INPUT);
  EXPECT_NE(std::strstr(kvass_message(), "kvass_attention_options: expected zero in the fields"), nullptr)
      << kvass_message();
  newer.known.struct_size = 0;
  EXPECT_EQ(attend(&newer.known), KVASS_BAD_INPUT);
  EXPECT_NE(std::strstr(kvass_message(), "struct_size: expected sizeof(kvass_attention_options)"), nullptr)
      << kvass_message();
  // A caller that knows the first fields alone.
  newer.known.struct_size = offsetof(kvass_attention_options, window);
  newer.known.window = -1;
  EXPECT_EQ(attend(&newer.known), KVASS_OK) << kvass_message();
}

TEST_F(COperatorErrors, TensorsThatAreNoneAreRefusedByName) {
  const Values out = out_;
  const auto says = [&](const std::function<void(kvass_tensor&)>& change, const char* words) {
    kvass_tensor q = q_.c(), k = k_.c(), v = v_.c(), to = out_.c();
    change(k);
    EXPECT_EQ(kvass_attention(context_, &q, &k, &v, nullptr, &to, nullptr), KVASS_BAD_INPUT) << words;
    EXPECT_NE(std::strstr(kvass_message(), words), nullptr) << kvass_message();
  };
  says([](auto& t) { t.dtype = 0; }, "attention: k.dtype: expected KVASS_DTYPE_…, got 0");
  says([](auto& t) { t.dtype = 4; }, "attention: k.dtype: expected KVASS_DTYPE_…, got 4");
  says([](auto& t) { t.device = 3; }, "attention: k.device: expected KVASS_DEVICE_…, got 3");
  says([](auto& t) { t.device = -1; }, "attention: k.device: expected KVASS_DEVICE_…, got -1");
  says([](auto& t) { t.device = KVASS_DEVICE_CUDA; }, "attention: k: expected memory on cpu, got cuda");
  says([](auto& t) { t.reserved = 7; }, "attention: k.reserved: expected 0, got 7");
  says([](auto& t) { t.rank = 3; }, "attention: k: expected 4 dimensions, got [2, 2, 9]");
  says([](auto& t) { t.rank = INT32_MAX; }, "attention: k: expected 4 dimensions");
  says([](auto& t) { t.rank = INT32_MIN; }, "attention: k: expected 4 dimensions");
  says([](auto& t) { t.shape[1] = 3; }, "attention: k: expected [B, Hkv, Skv, D] whose Hkv divides Hq = 4");
  says([](auto& t) { t.shape[2] = INT64_MAX; }, "attention: k: expected a size that fits in memory");
  says([](auto& t) { t.shape[2] = -1; }, "attention: k: expected sizes that are not negative");
  says([](auto& t) { t.data = nullptr; }, "attention: k: expected elements, got a null pointer");
  says([](auto& t) { t.data = static_cast<char*>(t.data) + 1; }, "attention: k: expected memory aligned");
  says([&](auto& t) { t = kvass_row_major(k_.bytes.data(), KVASS_DTYPE_F32, 5, k_.shape.data()); },
       "attention: k: expected 4 dimensions");
  const std::vector<int64_t> huge{int64_t{1} << 30, int64_t{1} << 30, int64_t{1} << 30, 16};
  says([&](auto& t) { t = kvass_row_major(k_.bytes.data(), KVASS_DTYPE_F32, 4, huge.data()); },
       "attention: k: expected a size that fits in memory");
  EXPECT_EQ(out_, out) << "nothing is written";
}

TEST_F(COperatorErrors, NullPointersAreRefusedByName) {
  const kvass_tensor q = q_.c(), k = k_.c(), v = v_.c(), out = out_.c();
  const auto says = [&](kvass_code code, const char* argument) {
    EXPECT_EQ(code, KVASS_BAD_INPUT) << argument;
    EXPECT_EQ(std::string(kvass_message()), std::string("attention: ") + argument + ": expected a pointer, got NULL");
  };
  says(kvass_attention(nullptr, &q, &k, &v, nullptr, &out, nullptr), "context");
  says(kvass_attention(context_, nullptr, &k, &v, nullptr, &out, nullptr), "q");
  says(kvass_attention(context_, &q, nullptr, &v, nullptr, &out, nullptr), "k");
  says(kvass_attention(context_, &q, &k, nullptr, nullptr, &out, nullptr), "v");
  says(kvass_attention(context_, &q, &k, &v, nullptr, nullptr, nullptr), "out");
  kvass_tensor lse = lse_.c();
  lse.data = nullptr;
  EXPECT_EQ(kvass_attention(context_, &q, &k, &v, nullptr, &out, &lse), KVASS_BAD_INPUT) << "an lse is wanted";
  EXPECT_NE(std::strstr(kvass_message(), "attention: lse: expected elements"), nullptr) << kvass_message();
  EXPECT_EQ(kvass_attention(context_, &q, &k, &v, nullptr, &out, &out), KVASS_BAD_INPUT);
  EXPECT_NE(std::strstr(kvass_message(), "attention: lse: expected 3 dimensions"), nullptr) << kvass_message();
  EXPECT_EQ(kvass_attention(context_, &q, &k, &v, nullptr, &q, nullptr), KVASS_BAD_INPUT);
  EXPECT_NE(std::strstr(kvass_message(), "attention: out: expected memory apart from the inputs"), nullptr);
  EXPECT_EQ(kvass_op_context_set_stream(nullptr, nullptr), KVASS_BAD_INPUT);
  EXPECT_EQ(kvass_op_context_set_stream(context_, nullptr), KVASS_OK) << kvass_message();
  EXPECT_STREQ(kvass_message(), "");
  kvass_op_context_free(nullptr);
}

TEST_F(COperatorErrors, ContextsAreMadeOrRefusedByName) {
  const auto says = [](const std::function<void(kvass_op_context_options&)>& change, const char* words) {
    kvass_op_context_options options = sized<kvass_op_context_options>();
    change(options);
    kvass_op_context* none = nullptr;
    EXPECT_EQ(kvass_op_context_new(&options, &none), KVASS_BAD_INPUT) << words;
    EXPECT_NE(std::strstr(kvass_message(), words), nullptr) << kvass_message();
    EXPECT_EQ(none, nullptr);
  };
  says([](auto& o) { o.threads = -1; }, "threads: expected 0 to 1024, got -1");
  says([](auto& o) { o.backends = "attention=nothing"; }, "nothing");
  says([](auto& o) { o.struct_size = 3; }, "struct_size: expected sizeof(kvass_op_context_options)");
  EXPECT_EQ(kvass_op_context_new(nullptr, nullptr), KVASS_BAD_INPUT);
  ASSERT_EQ(attend(nullptr), KVASS_OK);
  const Values expected = out_;
  kvass_op_context_options options = sized<kvass_op_context_options>();
  options.threads = 1;
  options.backends = "attention=reference";
  kvass_op_context* reference = nullptr;
  ASSERT_EQ(kvass_op_context_new(&options, &reference), KVASS_OK) << kvass_message();
  std::swap(context_, reference);
  ASSERT_EQ(attend(nullptr), KVASS_OK);
  EXPECT_EQ(out_, expected);
  kvass_op_context_free(reference);
  // One context, several callers.
  std::vector<Values> outs(4, Values(out_.shape));
  std::vector<std::thread> threads;
  for (const Values& own : outs) {
    threads.emplace_back([&] {
      const kvass_tensor q = q_.c(), k = k_.c(), v = v_.c(), out = own.c();
      for (int i = 0; i < 8; ++i) {
        EXPECT_EQ(kvass_attention(context_, &q, &k, &v, nullptr, &out, nullptr), KVASS_OK) << kvass_message();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Values& own : outs) EXPECT_EQ(own, expected);
}

}  // namespace
}  // namespace kvass
