// What `kvass run` reads: the token that begins a text, lines of every kind, a stdin that nobody asked for; and flags
// by the names of other programs.
#include "cli/test_files.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

constexpr int kBos = 2;  // of the tiny vocabulary

TEST(RunInput, TheBeginTokenStandsOnceAndOneMoreIsWarnedOf) {
  const Arguments more = {"-n", "1", "--json"};
  const Finished twice = kvass(with({"run", tiny(), "-p", "<bos>the"}, more));
  const Finished once = kvass(with({"run", tiny(), "-p", "the"}, more));
  const std::vector<int> ids = parsed(twice)["prompt_ids"];
  EXPECT_EQ(ids.front(), kBos);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), kBos), 1);
  EXPECT_TRUE(has(twice.err, "warning") && has(twice.err, "<bos>")) << twice.err;
  EXPECT_EQ(once.err, "");
  EXPECT_EQ(kvass(with({"run", tiny(), "-p", "<bos>the", "-q"}, more)).err, "");
  const Finished prompts = kvass({"run", tiny(), "--prompts", "-", "-n", "1"}, "the\n<bos>and\n");
  EXPECT_TRUE(has(prompts.err, "<bos>")) << prompts.err;
}

TEST(RunInput, StdinThatNothingReadsIsRefused) {
  for (const Arguments& prompt : std::vector<Arguments>{{"-p", "a"}, {"-f", path_of("p.txt")}, {}}) {
    write_file(path_of("p.txt"), "the");
    expect_refused(kvass(with({"run", tiny(), "-n", "1", "-q"}, prompt), "more text"), 1, {"stdin: expected nothing"});
    EXPECT_EQ(kvass(with({"run", tiny(), "-n", "1", "-q"}, prompt)).code, 0);
  }
  EXPECT_EQ(kvass({"run", tiny(), "-n", "1", "-q", "-"}, "more text").code, 0);
  EXPECT_EQ(kvass({"run", tiny(), "-n", "1", "-q", "-f", "-"}, "more text").code, 0);
}

TEST(RunInput, PromptsOfEveryLineEndAreTheSame) {
  const auto run = [](const std::string& text, const Arguments& more = {}) {
    const Finished done = kvass(with({"run", tiny(), "--prompts", "-", "-n", "4", "-q"}, more), text);
    EXPECT_EQ(done.code, 0) << done.err;
    return done.out;
  };
  const std::string two = run("the end\nand\n");
  EXPECT_EQ(run("the end\r\nand\r\n"), two);
  EXPECT_EQ(run("the end\r\nand"), two);
  EXPECT_EQ(run("\nthe end\r\n\r\n\nand\n\n", {"--skip-empty"}), two);
  expect_refused(kvass({"run", tiny(), "--prompts", "-"}, "a\r\n\r\nb\r\n"), 1, {"-:2: expected a prompt"});
  expect_refused(kvass({"run", tiny(), "-p", "a", "--skip-empty"}), 2, {"--prompts"});
}

TEST(RunInput, FlagsOfOtherProgramsAreTaken) {
  const json plain = parsed(kvass({"run", tiny(), "-p", "the", "--context", "64", "--kv", "q8", "-n", "9", "--json"}));
  const Finished done = kvass(
      {"run", "-m", tiny(), "-p", "the", "-c", "64", "--kv", "q8_0", "-ngl", "0", "-t", "1", "-n", "9", "--json"});
  EXPECT_EQ(parsed(done)["ids"], plain["ids"]);
  EXPECT_TRUE(has(done.err, "q8_0") && has(done.err, "-ngl 0")) << done.err;
  const Arguments open = {"run", tiny(), "-p", "the", "-q", "--context", "40"};
  EXPECT_EQ(kvass(with(open, {"-n", "-1"})).out, kvass(open).out) << "no limit";
  expect_refused(kvass(with(open, {"-n", "-2"})), 1, {"-n: expected 0 or more tokens, or -1"});
  expect_refused(kvass(with(open, {"-ngl", "99"})), 1, {"--gpu-layers: expected 0", "--device"});
}

TEST(RunInput, AContextBeyondTheTrainedOneIsWarnedOf) {
  const Finished done =
      kvass({"run", tiny(), "-p", "the", "-n", "1", "--json", "--context", "1000000", "--chunk", "8"});
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_TRUE(has(done.err, "--context") && has(done.err, "trained for")) << done.err;
  EXPECT_EQ(kvass({"run", tiny(), "-p", "the", "-n", "1", "--json", "--context", "64"}).err, "");
}

TEST(RunInput, BiasesChooseTokens) {
  const auto ids = [](const Arguments& more) {
    return parsed(kvass(with({"run", tiny(), "-p", "the", "-n", "6", "--json", "--ignore-eos"}, more)))["ids"]
        .get<std::vector<int>>();
  };
  EXPECT_EQ(ids({"--logit-bias", "77+1000"}), std::vector<int>(6, 77));
  const std::vector<int> plain = ids({});
  const std::vector<int> banned = ids({"--logit-bias", std::to_string(plain[0]) + "-inf"});
  EXPECT_EQ(std::count(banned.begin(), banned.end(), plain[0]), 0);
  for (const char* wrong : {"x", "7", "7+", "+1", "7+nan", "7*2", "7--1"}) {
    EXPECT_EQ(kvass({"run", tiny(), "-p", "the", "-n", "1", "--logit-bias", wrong}).code, 2) << wrong;
  }
  EXPECT_EQ(kvass({"run", tiny(), "-p", "the", "-n", "1", "--logit-bias", "7+inf"}).code, 1);
}

TEST(RunInput, TheSeedIsInTheSummary) {
  const Arguments run = {"run", tiny(), "-p", "the", "-n", "2", "--seed", "123"};
  EXPECT_TRUE(has(kvass(run).err, "seed 123"));
  EXPECT_EQ(parsed(kvass(with(run, {"--json"})))["stats"]["seed"], 123);
  EXPECT_TRUE(has(kvass({"run", tiny(), "--prompts", "-", "-n", "1", "--seed", "9"}, "a\n").err, "seed 9"));
}

}  // namespace
}  // namespace kvass
