#include <algorithm>
#include <map>
#include <string>

#include "effort.h"
#include "kernels/kernel_test.h"
#include "ops/sample/philox.h"
#include "ops/sample/sample.h"

namespace kvass {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

Sampler make(const SampleOptions& options, size_t vocabulary) {
  Result<Sampler> sampler = Sampler::create(options, static_cast<int64_t>(vocabulary), Isa::scalar);
  EXPECT_TRUE(sampler.ok()) << sampler.status().message();
  return std::move(sampler).value();
}

// The number of times that each token is drawn at positions [0, draws).
std::vector<int> histogram(const SampleOptions& options, const std::vector<float>& logits, int draws) {
  Sampler sampler = make(options, logits.size());
  std::vector<int> counts(logits.size());
  for (int position = 0; position < draws; ++position) {
    ++counts[static_cast<size_t>(sampler.sample(logits.data(), position))];
  }
  return counts;
}

// Pearson's statistic of counts against probabilities; tokens of probability 0 must not have been drawn.
double chi_square(const std::vector<int>& counts, const std::vector<double>& probabilities, int draws) {
  double sum = 0.0;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (probabilities[i] == 0.0) {
      EXPECT_EQ(counts[i], 0) << "token " << i;
      continue;
    }
    const double expected = probabilities[i] * draws;
    sum += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  return sum;
}

std::vector<double> normalised(std::vector<double> weights) {
  double sum = 0.0;
  for (const double w : weights) sum += w;
  for (double& w : weights) w /= sum;
  return weights;
}

// The definition: sort everything, cut, draw. The same integer weights, computed in long double.
int32_t slow_sample(const SampleOptions& options, const std::vector<float>& logits, int64_t position) {
  std::vector<RankedToken> tokens;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] == logits[i]) tokens.push_back({static_cast<int32_t>(i), logits[i]});
  }
  std::sort(tokens.begin(), tokens.end(), ranks_before);
  if (options.top_k > 0 && tokens.size() > static_cast<size_t>(options.top_k)) tokens.resize(options.top_k);
  std::vector<uint64_t> weights;
  uint64_t total = 0;
  for (const RankedToken& token : tokens) {
    const double distance = (static_cast<double>(token.logit) - tokens[0].logit) * (1.0 / options.temperature);
    weights.push_back(static_cast<uint64_t>(std::rint(std::exp(static_cast<long double>(distance)) * 0x1p44L)));
    total += weights.back();
  }
  size_t kept = 0;
  uint64_t sum = 0;
  while (kept < weights.size() && static_cast<double>(weights[kept]) >= options.min_p * 0x1p44) {
    sum += weights[kept++];
    if (options.top_p < 1.0f &&
        sum >= static_cast<uint64_t>(std::ceil(static_cast<double>(options.top_p) * static_cast<double>(total))))
      break;
  }
  __extension__ using Wide = unsigned __int128;
  uint64_t target = static_cast<uint64_t>((static_cast<Wide>(random_bits(options.seed, position)) * sum) >> 64);
  for (size_t i = 0; i < kept; ++i) {
    if (target < weights[i]) return tokens[i].id;
    target -= weights[i];
  }
  return -1;
}

TEST(Philox, GivesThePublishedVectors) {  // the known answers of the Random123 distribution, philox4x32 with 10 rounds
  using Words = std::array<uint32_t, 4>;
  const uint32_t ones = 0xffffffffu;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({ones, ones, ones, ones}, {ones, ones}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(TopK, IsTheHeadOfTheFullSort) {
  test::Random random(1);
  for (int round = 0; round < testing::effort(300, 60); ++round) {
    const size_t n = random() % 1000;
    std::vector<float> logits = round % 2 == 0 ? test::random_row(random, n) : test::awkward_row(random, n);
    if (round % 3 == 0) {
      for (float& x : logits) x = std::rint(x);  // ties
    }
    std::vector<RankedToken> sorted;
    for (size_t i = 0; i < n; ++i) {
      if (!std::isnan(logits[i])) sorted.push_back({static_cast<int32_t>(i), logits[i]});
    }
    std::sort(sorted.begin(), sorted.end(), ranks_before);
    std::vector<RankedToken> out(random() % (n + 3));
    const int64_t taken = top_k(logits, out);
    ASSERT_EQ(taken, static_cast<int64_t>(std::min(out.size(), sorted.size())));
    for (int64_t i = 0; i < taken; ++i) ASSERT_EQ(out[i].id, sorted[i].id) << "n " << n << " rank " << i;
  }
}

TEST(Sampler, IsTheRuleWrittenOutWhateverTheCuts) {
  test::Random random(2);
  for (int round = 0; round < testing::effort(400, 40); ++round) {
    std::vector<float> logits = test::random_row(random, 1 + random() % 3000, 3.0f);
    for (float& x : logits) {
      if (round % 3 == 0) x = std::rint(x);
      if (random() % 50 == 0) x = random() % 2 == 0 ? kNan : -kInfinity;
    }
    logits[logits.size() / 2] = 1.0f;  // at least one number
    SampleOptions options{.temperature = round % 5 == 0 ? 30.0f : 0.2f + 0.1f * static_cast<float>(random() % 20),
                          .seed = random()};
    if (random() % 2 == 0) options.top_k = 2 + static_cast<int>(random() % 400);
    if (random() % 2 == 0) options.top_p = static_cast<float>(1 + random() % 100) / 100.0f;
    if (random() % 2 == 0) options.min_p = static_cast<float>(random() % 40) / 100.0f;
    Sampler sampler = make(options, logits.size());
    for (int64_t position = 0; position < 20; ++position) {
      ASSERT_EQ(sampler.sample(logits.data(), position), slow_sample(options, logits, position))
          << "round " << round << " position " << position;
    }
  }
}

TEST(Sampler, DrawsTheSoftmaxAtItsTemperature) {
  const std::vector<float> logits = {1.0f, -0.5f, 2.0f, 0.0f, -3.0f, 2.0f};
  const int draws = testing::effort(200000, 20000);
  for (const float temperature : {0.5f, 1.0f, 2.0f}) {
    std::vector<double> weights;
    for (const float x : logits) weights.push_back(std::exp(x / static_cast<double>(temperature)));
    const auto counts = histogram({.temperature = temperature, .seed = 7}, logits, draws);
    EXPECT_LT(chi_square(counts, normalised(weights), draws), 20.5) << temperature;  // 5 degrees, p = 0.001
  }
}

TEST(Sampler, CutsInTheOrderTopKTopPMinP) {
  // Probabilities 0.4, 0.3, 0.15, 0.1, 0.05; top-k 4 renormalises to 0.4211, 0.3158, 0.1579, 0.1053.
  std::vector<float> logits;
  for (const double p : {0.05, 0.4, 0.1, 0.3, 0.15}) logits.push_back(static_cast<float>(std::log(p)));
  const int draws = testing::effort(100000, 20000);
  struct Case {
    SampleOptions options;
    std::vector<double> kept;
    double bound;  // p = 0.001
  };
  const Case cases[] = {
      {{.temperature = 1, .top_k = 4, .seed = 1}, {0, 0.4, 0.1, 0.3, 0.15}, 16.3},
      {{.temperature = 1, .top_p = 0.72f, .seed = 2}, {0, 0.4, 0, 0.3, 0.15}, 13.9},
      {{.temperature = 1, .top_k = 4, .top_p = 0.72f, .seed = 3}, {0, 0.4, 0, 0.3, 0}, 10.9},  // 0.7368 reaches 0.72
      {{.temperature = 1, .min_p = 0.3f, .seed = 4}, {0, 0.4, 0, 0.3, 0.15}, 13.9},
      {{.temperature = 1, .min_p = 0.5f, .seed = 5}, {0, 0.4, 0, 0.3, 0}, 10.9},
      {{.temperature = 1, .top_p = 0.95f, .min_p = 0.2f, .seed = 6}, {0, 0.4, 0.1, 0.3, 0.15}, 16.3},
  };
  for (const Case& c : cases) {
    EXPECT_LT(chi_square(histogram(c.options, logits, draws), normalised(c.kept), draws), c.bound) << c.options.seed;
  }
}

TEST(Sampler, TokenDependsOnSeedAndPositionOnly) {
  test::Random random(3);
  const std::vector<float> logits = test::random_row(random, 500);
  const SampleOptions options{.temperature = 1.0f, .seed = 42};
  Sampler forward = make(options, 500), backward = make(options, 500),
          other = make({.temperature = 1.0f, .seed = 43}, 500);
  std::map<int64_t, int32_t> tokens;
  for (int64_t position = 0; position < 200; ++position) tokens[position] = forward.sample(logits.data(), position);
  int same_as_other = 0, same_as_next = 0;
  for (int64_t position = 199; position >= 0; --position) {
    EXPECT_EQ(backward.sample(logits.data(), position), tokens[position]);
    same_as_other += other.sample(logits.data(), position) == tokens[position];
    same_as_next += position > 0 && tokens[position] == tokens[position - 1];
  }
  EXPECT_LT(same_as_other, 20);
  EXPECT_LT(same_as_next, 20);
  EXPECT_EQ(forward.sample(logits.data(), int64_t{1} << 40), backward.sample(logits.data(), int64_t{1} << 40));
}

TEST(Sampler, GreedyAndTopK1TakeTheLowestOfTheLargest) {
  const std::vector<float> logits = {kNan, 1.0f, 3.0f, -kInfinity, 3.0f};
  const SampleOptions all[] = {{},
                               {.temperature = 2.0f, .top_k = 1},
                               {.temperature = 2.0f, .top_p = 1e-6f},
                               {.temperature = 1e-30f, .top_k = 3, .top_p = 0.3f},
                               {.temperature = 2.0f, .top_p = 0.01f, .min_p = 1.0f}};
  for (const SampleOptions& options : all) {
    Sampler sampler = make(options, logits.size());
    for (int64_t position = 0; position < 50; ++position) EXPECT_EQ(sampler.sample(logits.data(), position), 2);
  }
  // min-p 1 keeps exactly the tokens whose logit equals the largest.
  const auto counts = histogram({.temperature = 1.0f, .min_p = 1.0f}, logits, 1000);
  EXPECT_GT(counts[2], 400);
  EXPECT_EQ(counts[2] + counts[4], 1000);
}

TEST(Sampler, RowsWithoutNumbersAreNoticed) {
  const std::vector<float> nothing(40, kNan);
  const std::vector<float> floor(40, -kInfinity);
  std::vector<float> infinite(40, 1.0f);
  infinite[30] = infinite[31] = kInfinity;
  for (const SampleOptions& options : {SampleOptions{}, SampleOptions{.temperature = 1.0f}}) {
    Sampler sampler = make(options, 40);
    EXPECT_EQ(sampler.sample(nothing.data(), 0), -1);
    EXPECT_EQ(sampler.sample(floor.data(), 0), 0);
    EXPECT_EQ(sampler.sample(infinite.data(), 0), 30);
  }
}

TEST(Sampler, PenaltyDividesPositiveAndMultipliesNegativeLogitsOfRecentTokensOnce) {
  const std::vector<float> logits = {4.0f, 3.0f, 1.0f, -1.0f, -1.5f};
  Sampler sampler = make({.repeat_penalty = 2.0f, .repeat_last_n = 3}, logits.size());
  EXPECT_EQ(sampler.sample(logits.data(), 0), 0);
  sampler.accept(0);
  EXPECT_EQ(sampler.sample(logits.data(), 0), 1);  // 2, 3, 1, …
  sampler.accept(std::vector<int32_t>{0, 1});      // token 0 twice: still 4 / 2
  EXPECT_EQ(sampler.sample(logits.data(), 0), 0);  // 2, 1.5, 1
  sampler.accept(std::vector<int32_t>{2, 2, 2});   // 0 and 1 are no longer recent
  EXPECT_EQ(sampler.sample(logits.data(), 0), 0);
  sampler.reset();
  sampler.accept(0);
  EXPECT_EQ(sampler.sample(logits.data(), 0), 1);
  EXPECT_EQ(logits[0], 4.0f);

  const std::vector<float> negative = {-1.0f, -1.5f};
  Sampler low = make({.repeat_penalty = 2.0f}, 2);
  low.accept(0);
  EXPECT_EQ(low.sample(negative.data(), 0), 1);  // -2, -1.5
}

TEST(Sampler, BiasesAreAddedBeforeEverythingElse) {
  const std::vector<float> logits = {4.0f, 3.0f, 1.0f, -1.0f};
  Sampler plain = make({}, 4);
  EXPECT_TRUE(plain.takes_argmax());
  Sampler biased = make({.logit_bias = {{2, 2.5f}, {2, 1.0f}, {0, -0.5f}}}, 4);
  EXPECT_FALSE(biased.takes_argmax());
  EXPECT_EQ(biased.sample(logits.data(), 0), 2);  // 3.5, 3, 4.5, -1
  EXPECT_EQ(logits[2], 1.0f);
  Sampler banned = make({.temperature = 1.0f, .logit_bias = {{0, -kInfinity}, {1, -kInfinity}, {3, -kInfinity}}}, 4);
  for (int64_t position = 0; position < 20; ++position) EXPECT_EQ(banned.sample(logits.data(), position), 2);
  Sampler both = make({.repeat_penalty = 2.0f, .logit_bias = {{0, 1.0f}, {1, 0.5f}}}, 4);
  both.accept(std::vector<int32_t>{0, 0});
  EXPECT_EQ(both.sample(logits.data(), 0), 1);  // 5 / 2, 3.5
  EXPECT_FALSE(Sampler::create({.logit_bias = {{4, 1.0f}}}, 4, Isa::scalar).ok());
}

TEST(Sampler, OutputPenaltiesCountWhatWasGeneratedAlone) {
  const std::vector<float> logits = {4.0f, 3.0f, 2.5f, 1.0f};
  Sampler sampler = make({}, logits.size());
  sampler.set_output_penalties({.frequency = 0.5f, .presence = 0.25f});
  sampler.accept(std::vector<int32_t>{0, 0, 0, 0});  // a prompt
  EXPECT_EQ(sampler.sample(logits.data(), 0), 0);
  sampler.accept_generated(0);  // 4 - 0.75 = 3.25
  EXPECT_EQ(sampler.sample(logits.data(), 1), 0);
  sampler.accept_generated(0);  // 4 - 1.25 = 2.75
  EXPECT_EQ(sampler.sample(logits.data(), 2), 1);
  sampler.accept_generated(1);  // 3 - 0.75 = 2.25
  EXPECT_EQ(sampler.sample(logits.data(), 3), 0);
  sampler.accept_generated(0);  // 4 - 1.75 = 2.25
  EXPECT_EQ(sampler.sample(logits.data(), 4), 2);
  EXPECT_FALSE(sampler.takes_argmax());
  sampler.reset();
  EXPECT_EQ(sampler.sample(logits.data(), 5), 0);
}

TEST(Sampler, BadOptionsAreRefusedByTheirFlags) {
  const std::pair<SampleOptions, std::string> bad[] = {{{.temperature = -0.1f}, "SampleOptions.temperature"},
                                                       {{.temperature = kNan}, "SampleOptions.temperature"},
                                                       {{.temperature = kInfinity}, "SampleOptions.temperature"},
                                                       {{.top_k = -1}, "SampleOptions.top_k"},
                                                       {{.top_p = 0.0f}, "SampleOptions.top_p"},
                                                       {{.top_p = 1.1f}, "SampleOptions.top_p"},
                                                       {{.top_p = kNan}, "SampleOptions.top_p"},
                                                       {{.min_p = -0.1f}, "SampleOptions.min_p"},
                                                       {{.min_p = kNan}, "SampleOptions.min_p"},
                                                       {{.repeat_penalty = 0.0f}, "SampleOptions.repeat_penalty"},
                                                       {{.repeat_penalty = kNan}, "SampleOptions.repeat_penalty"},
                                                       {{.repeat_last_n = -1}, "SampleOptions.repeat_last_n"},
                                                       {{.logit_bias = {{-1, 1.0f}}}, "SampleOptions.logit_bias"},
                                                       {{.logit_bias = {{1, kNan}}}, "SampleOptions.logit_bias"},
                                                       {{.logit_bias = {{1, kInfinity}}}, "SampleOptions.logit_bias"}};
  for (const auto& [options, flag] : bad) {
    const Status status = validate(options);
    ASSERT_FALSE(status.ok()) << flag;
    EXPECT_EQ(status.message().rfind(flag + ": expected ", 0), 0u) << status.message();
    EXPECT_FALSE(Sampler::create(options, 10, Isa::scalar).ok());
  }
  EXPECT_TRUE(validate({}).ok());
  EXPECT_FALSE(Sampler::create({}, 0, Isa::scalar).ok());
}

}  // namespace
}  // namespace kvass
