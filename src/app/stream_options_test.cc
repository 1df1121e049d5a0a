// Options of a stream: what people write, and what it means for a model.
#include "app/stream_options.h"

#include <gtest/gtest.h>

#include "app/test_jobs.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

TEST(StreamOptions, AttentionSinkTakesExactlyTwoFieldsAndShowsTheForm) {
  const AttentionSink sink = parse_attention_sink("4,508").value();
  EXPECT_EQ(sink.sink_tokens, 4);
  EXPECT_EQ(sink.window, 508);
  EXPECT_EQ(parse_attention_sink("0,1").value().sink_tokens, 0);
  for (const char* text : {"", "4", "4,", ",508", "4,508,1", "4,0", "-1,508", "4,-508", "a,b", "4;508", "4, 508",
                           "4,508 ", "0x4,508", "99999999999999999999,1", "1e3,5"}) {
    expect_words(refusal(parse_attention_sink(text)), {"StreamOptions.attention_sink", "S,W"});
  }
}

TEST(StreamOptions, NamesOfTypesAndArithmetics) {
  EXPECT_EQ(parse_dtype("bf16").value(), DType::bf16);
  EXPECT_EQ(parse_math("a8").value(), Math::a8);
  EXPECT_EQ(math_name(Math::a16), "a16");
  expect_words(refusal(parse_dtype("f64")), {"StreamOptions.kv", "f32, f16, bf16 or q8", "f64"});
  expect_words(refusal(parse_math("")), {"StreamOptions.math", "f32, a16 or a8"});
}

TEST(StreamOptions, DefaultsFollowTheModelAndTheSinks) {
  StreamOptions options;
  EXPECT_EQ(resolve_caches(options, 32768)->context, 4096);
  EXPECT_EQ(resolve_caches(options, 2048)->context, 2048);
  EXPECT_FALSE(resolve_caches(options, 32768)->sinks);
  options.endless = true;
  CacheOptions caches = resolve_caches(options, 32768).value();
  EXPECT_TRUE(caches.sinks);
  EXPECT_EQ(caches.sink_tokens, 4);
  EXPECT_EQ(caches.sink_window, 4092);
  options.context = 512;
  caches = resolve_caches(options, 32768).value();
  EXPECT_EQ(caches.sink_window, 508);
  options.endless_sink_tokens = 30;
  EXPECT_EQ(resolve_caches(options, 32768)->sink_tokens, 30);
  EXPECT_EQ(resolve_caches(options, 32768)->sink_window, 482);
  options.endless_sink_tokens = 500;
  expect_words(refusal(resolve_caches(options, 32768)), {"StreamOptions.endless_sink_tokens", "0 to 256", "500"});
  options.endless_sink_tokens = 0;
  EXPECT_EQ(resolve_caches(options, 32768)->sink_window, 512) << "a plain ring";
  options = {};
  options.attention_sink = AttentionSink{2, 30};
  caches = resolve_caches(options, 32768).value();
  EXPECT_EQ(caches.context, 32);
  EXPECT_EQ(caches.sink_tokens, 2);
  EXPECT_EQ(caches.sink_window, 30);
}

TEST(StreamOptions, ImpossibleOnesAreRefusedByTheirNames) {
  StreamOptions options;
  options.context = 0;
  expect_words(refusal(resolve_caches(options, 100)), {"StreamOptions.context"});
  options = {};
  options.chunk = 0;
  expect_words(refusal(resolve_caches(options, 100)), {"StreamOptions.chunk"});
  options = {};
  options.attention_sink = AttentionSink{4, 508};
  options.context = 511;
  expect_words(refusal(resolve_caches(options, 100)), {"StreamOptions.context", "512", "4,508", "511"});
  options = {};
  options.endless = true;
  options.context = 4;
  expect_words(refusal(resolve_caches(options, 100)), {"StreamOptions.context", "StreamOptions.endless"});
  expect_words(refusal(resolve_threads(-1)), {"StreamOptions.threads"});
  expect_words(refusal(resolve_threads(1 << 20)), {"StreamOptions.threads"});
  EXPECT_GE(resolve_threads(0).value(), 1);
  EXPECT_EQ(resolve_threads(3).value(), 3);
}

TEST(StreamOptions, HugeSinksAreRefusedBeforeTheyAreAdded) {
  EXPECT_TRUE(parse_attention_sink("1099511627776,1099511627776").ok());
  EXPECT_FALSE(parse_attention_sink("1099511627777,1").ok());
  EXPECT_FALSE(parse_attention_sink("9223372036854775807,9223372036854775807").ok());
}

}  // namespace
}  // namespace kvass
