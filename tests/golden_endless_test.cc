// A stream of 20,000 tokens (64 unless KVASS_LONG is set) from the real model in a cache of 512 (64 under a sanitizer),
// after a prompt of three times that: memory does not grow, and the text does not depend on the division of the work.
#include <gtest/gtest.h>

#include <algorithm>

#include "app/generate.h"
#include "golden_model.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

constexpr int64_t kSinks = 4, kWindow = effort(508, 60);

struct Told {
  std::vector<int32_t> ids;
  size_t resident_growth = 0;  // bytes, after the first token
};

Told tell(int64_t tokens, int64_t chunk, int threads) {
  const OpenModel& model = golden_model(Math::a16);
  StreamOptions options;
  options.attention_sink = AttentionSink{kSinks, kWindow};
  options.chunk = chunk;
  options.threads = threads;
  OpenStream stream = golden_stream(model, options, 1);
  if (!stream.session) return {};
  DecodeOptions generation;
  // Three times the cache: every ring has wrapped before the first token is generated.
  const nlohmann::json prompt = (*load_golden("gemma3_270m.json"))["prompts"][3];
  EXPECT_EQ(prompt["name"], "long_kjv");
  generation.prompt = prompt["ids"].get<std::vector<int32_t>>();
  generation.prompt.resize(effort<size_t>(generation.prompt.size(), 3 * (kSinks + kWindow)));
  generation.max_tokens = tokens;
  generation.ignore_eos = true;
  generation.sampling.temperature = 1.0f;
  generation.sampling.top_k = 40;
  generation.sampling.seed = 11;
  Told told;
  size_t base = 0, most = 0;
  const std::atomic<bool> cancel{false};
  const Result<DecodeResult> result = generate(
      model, stream, generation,
      [&](std::string_view) {
        const size_t now = resident_bytes();
        if (base == 0) base = now;
        most = std::max(most, now);
        return true;
      },
      cancel);
  if (!result.ok()) {
    ADD_FAILURE() << result.status().message();
    return {};
  }
  EXPECT_EQ(result->tokens, tokens);
  EXPECT_EQ(result->reason, StopReason::max_tokens);
  told.ids = result->ids;
  told.resident_growth = most - base;
  return told;
}

TEST(Endless, TheSameTokensWithAnyChunkAndThreads) {
  KVASS_NEEDS_MODEL();
  const int64_t tokens = long_tests() ? 20000 : effort(64, 8);
  const Told told = tell(tokens, 256, 2);
  EXPECT_EQ(told.ids.size(), static_cast<size_t>(tokens));
  if (long_tests()) {
    // This includes the ids and text that the test itself collects: for 20,000 tokens less than 1 MiB.
    std::printf("measured: %.3f MiB more resident after the first token\n",
                static_cast<double>(told.resident_growth) / 0x1p20);
    if (!kSanitized) {
      EXPECT_LE(told.resident_growth, size_t{1} << 20);
    }
  }
  EXPECT_EQ(told.ids, tell(tokens, 32, 1).ids);
}

}  // namespace
}  // namespace kvass
