// kvass run --prompts and kvass plan --sequences as a script meets them.
#include "cli/test_files.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

std::vector<json> lines_of(const Finished& done) {
  EXPECT_EQ(done.code, 0) << done.err;
  std::vector<json> lines;
  std::istringstream text(done.out);
  for (std::string line; std::getline(text, line);) lines.push_back(json::parse(line));
  return lines;
}

const std::vector<std::string> kLines = {"the and", "a", "then the end and the rest", "the", "and and and", "hand"};
std::string prompts_file() {
  const std::string file = path_of("prompts.txt");
  std::string text;
  for (const std::string& line : kLines) text += line + "\n";
  write_file(file, text);
  return file;
}

TEST(PromptsCommand, GivesALineEachThatIsWhatThePromptGivesAlone) {
  const Arguments sampling = {"-n", "20", "--temp", "1.2", "--top-k", "40"};
  const auto run = [&](const char* sequences) {
    return lines_of(kvass(
        with({"run", tiny(), "--prompts", prompts_file(), "--sequences", sequences, "--seed", "9", "-q"}, sampling)));
  };
  const std::vector<json> three = run("3");
  ASSERT_EQ(three.size(), kLines.size());
  EXPECT_EQ(three, run("1"));
  EXPECT_EQ(three, run("9"));
  for (size_t i = 0; i < kLines.size(); ++i) {
    const json one =
        parsed(kvass(with({"run", tiny(), "-p", kLines[i], "--seed", std::to_string(9 + i), "--json"}, sampling)));
    EXPECT_EQ(three[i]["index"], i);
    for (const char* key : {"prompt_ids", "ids", "text"}) EXPECT_EQ(three[i][key], one[key]) << i << " " << key;
    EXPECT_EQ(three[i]["reason"], one["stats"]["stop_reason"]);
  }
}

TEST(PromptsCommand, ReadsStdinAndSumsUpOnStderr) {
  const Finished done = kvass({"run", tiny(), "--prompts", "-", "-n", "5"}, "the\nand\n");
  EXPECT_EQ(lines_of(done).size(), 2u);
  EXPECT_TRUE(has(done.err, "2 sequences of ") && has(done.err, "2 of 2 prompts")) << done.err;
}

TEST(PromptsCommand, ASignalEndsItInOrderWithASummary) {
  Running run(
      {"run", tiny(), "--prompts", prompts_file(), "--attention-sink", "4,30", "--ignore-eos", "-n", "100000000"});
  while (!has(run.err(), "kvass: weights")) ::usleep(10000);  // it says so just before the first step
  run.signal(SIGINT);
  EXPECT_EQ(run.end(), 128 + SIGINT) << run.err();
  EXPECT_TRUE(has(run.err(), "0 of 6 prompts") && has(run.err(), ", interrupted")) << run.err();
}

TEST(PromptsCommand, RefusesWhatItCannotRun) {
  const std::string file = prompts_file();
  expect_refused(kvass({"run", tiny(), "--prompts", file, "-p", "a"}), 2);
  expect_refused(kvass({"run", tiny(), "-p", "a", "--sequences", "2"}), 1, {"--sequences: expected --prompts FILE"});
  expect_refused(kvass({"run", tiny(), "--prompts", file, "--sequences", "0"}), 1, {"--sequences: expected 1 to"});
  expect_refused(kvass({"run", tiny(), "--prompts", "-"}, "a\n\nb\n"), 1, {"-:2: expected a prompt"});
  expect_refused(kvass({"run", tiny(), "--prompts", "/nowhere"}), 1, {"/nowhere"});
  expect_refused(kvass({"run", tiny(), "--prompts", file, "--endless"}), 1, {"-n: expected a number"});
  expect_refused(kvass({"run", tiny(), "--prompts", file, "--memory-limit", "1000"}), 1, {"--memory-limit"});
}

TEST(PlanCommand, CountsTheCachesOfEverySequence) {
  const json one = parsed(kvass({"plan", tiny(), "--json"}));
  const json four = parsed(kvass({"plan", tiny(), "--sequences", "4", "--json"}));
  EXPECT_EQ(four["sequences"], 4);
  EXPECT_EQ(four["allocated_bytes"].get<size_t>(), 4 * one["allocated_bytes"].get<size_t>());
  EXPECT_GT(four["arena_bytes"].get<size_t>(), one["arena_bytes"].get<size_t>());
  EXPECT_EQ(
      four["total_bytes"].get<size_t>(),
      four["allocated_bytes"].get<size_t>() + four["arena_bytes"].get<size_t>() + four["weight_bytes"].get<size_t>());
}

}  // namespace
}  // namespace kvass
