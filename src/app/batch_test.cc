// Many prompts through a few sequences that advance together.
#include "app/batch.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "seed.h"
#include "tiny_model.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

const std::atomic<bool> g_never{false};
constexpr size_t kPrompts = 11;

class Batches : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const std::string path =
        (std::filesystem::temp_directory_path() / ("kvass_batch_test_" + std::to_string(::getpid()) + ".gguf"))
            .string();
    ASSERT_TRUE(TinyModel().writer().write(path).ok());
    model_ = std::make_unique<OpenModel>(open_model(path, Math::a16, 2).value());
    std::filesystem::remove(path);
    for (size_t i = 0; i < kPrompts; ++i) {
      prompts_.push_back(TinyModel().tokens(1 + (i * 37) % 90, static_cast<uint32_t>(i)));
    }
  }
  static void TearDownTestSuite() { model_.reset(); }

  static DecodeOptions sampled() {
    DecodeOptions options;
    options.max_tokens = 40;
    options.sampling.temperature = 1.5f;
    options.sampling.top_k = 50;
    options.sampling.repeat_penalty = 1.2f;
    options.sampling.seed = 5;
    return options;
  }
  static std::vector<DecodeResult> together(const StreamOptions& options, const DecodeOptions& generation) {
    StreamBatch batch = open_batch(*model_, options, generation.sampling).value();
    std::vector<DecodeResult> results;
    const Result<BatchSummary> summary = generate_batch(
        *model_, batch, prompts_, generation,
        [&](size_t index, const DecodeResult& result) {
          EXPECT_EQ(index, results.size()) << "in the order of the prompts";
          results.push_back(result);
          return true;
        },
        g_never);
    EXPECT_TRUE(summary.ok()) << summary.status().message();
    EXPECT_EQ(summary.ok() ? summary->complete : -1, static_cast<int64_t>(kPrompts));
    return results;
  }
  static DecodeResult alone(size_t index, const StreamOptions& options, DecodeOptions generation) {
    StreamOptions one = options;
    one.sequences = 1;
    OpenStream stream = open_stream(*model_, one, 1).value();
    generation.prompt = prompts_[index];
    generation.sampling.seed += index;
    return generate(
               *model_, stream, generation, [](std::string_view) { return true; }, g_never)
        .value();
  }
  static void expect_as_alone(const StreamOptions& options, const DecodeOptions& generation) {
    const std::vector<DecodeResult> results = together(options, generation);
    ASSERT_EQ(results.size(), kPrompts);
    for (size_t i = 0; i < kPrompts; ++i) {
      const DecodeResult one = alone(i, options, generation);
      EXPECT_EQ(results[i].ids, one.ids) << i;
      EXPECT_EQ(results[i].text, one.text) << i;
      EXPECT_EQ(results[i].reason, one.reason) << i;
      EXPECT_EQ(results[i].tokens, one.tokens) << i;
      EXPECT_EQ(results[i].status.message(), one.status.message()) << i;
    }
  }

  static inline std::unique_ptr<OpenModel> model_;
  static inline std::vector<std::vector<int32_t>> prompts_;
};

TEST_F(Batches, EachPromptGivesWhatItGivesAloneForAnyNumberOfSequencesChunkAndThreads) {
  Random random;
  const int64_t numbers[] = {1, 2, 3, 8, 20};
  for (const int64_t sequences : numbers) {
    SCOPED_TRACE(::testing::Message() << sequences << " sequences");
    StreamOptions options;
    options.sequences = sequences;
    options.chunk = random.integer(1, 60);
    options.threads = static_cast<int>(random.integer(1, 3));
    if (random.integer(0, 1) == 0) options.attention_sink = AttentionSink{4, 30};
    expect_as_alone(options, sampled());
  }
}

TEST_F(Batches, EveryReasonToEndIsTheSameAsAlone) {
  StreamOptions options;
  options.sequences = 3;
  options.context = 100;  // the longest prompts end full, others with their tokens or a stop text
  options.chunk = 16;
  DecodeOptions generation = sampled();
  generation.max_tokens = 60;
  generation.stops = {alone(0, options, generation).text.substr(6, 2)};
  expect_as_alone(options, generation);
  std::vector<StopReason> reasons;
  for (const DecodeResult& result : together(options, generation)) reasons.push_back(result.reason);
  for (const StopReason reason : {StopReason::cache_full, StopReason::stop_text}) {
    EXPECT_NE(std::find(reasons.begin(), reasons.end(), reason), reasons.end()) << stop_reason_name(reason);
  }
  generation.max_tokens = 0;
  expect_as_alone(options, generation);
}

TEST_F(Batches, APromptThatDoesNotFitIsRefusedBeforeAnyWork) {
  StreamOptions options;
  options.sequences = 2;
  options.context = 50;
  StreamBatch batch = open_batch(*model_, options, {}).value();
  bool told = false;
  const std::string message =
      generate_batch(
          *model_, batch, prompts_, sampled(), [&](size_t, const DecodeResult&) { return told = true; }, g_never)
          .status()
          .message();
  EXPECT_NE(message.find("prompt 2: expected at most 50 tokens (CacheOptions.context), got 75"), std::string::npos)
      << message;
  EXPECT_FALSE(told);
  EXPECT_EQ(batch.sequences[0]->length(), 0);
}

TEST_F(Batches, ACancelledOneTellsWhatIsComplete) {
  StreamOptions options;
  options.sequences = 4;
  StreamBatch batch = open_batch(*model_, options, {}).value();
  const std::atomic<bool> cancel{true};  // after the first step: prompts of one token and -n 1 are complete by then
  DecodeOptions generation = sampled();
  generation.max_tokens = 1;
  std::vector<size_t> told;
  const BatchSummary summary = generate_batch(
                                   *model_, batch, prompts_, generation,
                                   [&](size_t index, const DecodeResult&) {
                                     told.push_back(index);
                                     return true;
                                   },
                                   cancel)
                                   .value();
  EXPECT_TRUE(summary.cancelled);
  EXPECT_EQ(told, (std::vector<size_t>{0, 1, 2, 3}));
  EXPECT_EQ(summary.complete, 4);
}

TEST_F(Batches, ThePlanCountsEverySequenceAndIsWhatIsMapped) {
  StreamOptions options;
  options.sequences = 5;
  options.attention_sink = AttentionSink{4, 60};
  const StreamBatch batch = open_batch(*model_, options, {}).value();
  const MemoryPlan plan = plan_of(*model_, batch);
  EXPECT_EQ(plan.sequences, 5);
  size_t mapped = 0;
  for (const auto& sequence : batch.sequences) mapped += sequence->cache_bytes();
  EXPECT_EQ(plan.cache_bytes(), mapped);
  EXPECT_EQ(plan.total_bytes(), mapped + batch.session->arena_bytes() + model_->engine->weights().bytes());
}

TEST(Prompts, AreLinesAndNoneIsEmpty) {
  EXPECT_EQ(split_prompts("a\nb c\n", "f").value(), (std::vector<std::string>{"a", "b c"}));
  EXPECT_EQ(split_prompts("a\nb", "f").value(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(split_prompts("a\n\nb", "f").status().message(), "f:2: expected a prompt, got an empty line");
  const std::vector<std::string> two = {"a", "b "};
  EXPECT_EQ(split_prompts("a\r\nb \r\n", "f").value(), two) << "the CR is of the line's end";
  EXPECT_EQ(split_prompts("a\r\nb \r", "f").value(), two);
  EXPECT_EQ(split_prompts("a\r\n\r\nb", "f").status().message(), "f:2: expected a prompt, got an empty line");
  EXPECT_EQ(split_prompts("\n\r\na\n\n\nb ", "f", EmptyLines::skipped).value(), two);
  EXPECT_EQ(split_prompts("\n\n", "f", EmptyLines::skipped).status().message(),
            "f: expected a prompt a line, got nothing");
  EXPECT_EQ(split_prompts("\n", "f").status().message(), "f:1: expected a prompt, got an empty line");
  EXPECT_EQ(split_prompts("", "f").status().message(), "f: expected a prompt a line, got nothing");
}

}  // namespace
}  // namespace kvass
