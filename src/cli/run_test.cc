// kvass run on a tiny model.
#include "cli/test_files.h"
#include "effort.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

Arguments run_json(const Arguments& more) { return with({"run", tiny(), "--json", "--ignore-eos"}, more); }

TEST(Run, JsonHasItsKeysAndPromptsBeginAsTheFileSays) {
  const json done = parsed(kvass(run_json({"-p", "the and", "-n", "20"})));
  EXPECT_EQ(done.at("prompt_ids").at(0), 2) << "<bos>";
  EXPECT_GT(done["prompt_ids"].size(), 1u);
  EXPECT_EQ(done.at("ids").size(), 20u);
  EXPECT_TRUE(done.at("text").is_string());
  for (const char* key : {"prefill_tps", "decode_tps", "allocated_bytes", "arena_bytes", "peak_rss_bytes"}) {
    EXPECT_GT(done.at("stats").at(key).get<double>(), 0.0) << key;
  }
  EXPECT_EQ(parsed(kvass(run_json({"-n", "0"})))["prompt_ids"], json({2})) << "no prompt: <bos> alone";
  EXPECT_EQ(parsed(kvass(run_json({"-n", "0", "-p", "<eos>"})))["prompt_ids"], json({2, 1})) << "control tokens count";
}

TEST(Run, GreedyTextIsTheSameHoweverItIsCutUp) {
  const json ids = parsed(kvass(run_json({"-p", "the and", "-n", "60"})))["ids"];
  for (const Arguments& how : std::vector<Arguments>{{"-t", "1"}, {"-t", "2", "--chunk", "1"}, {"--input-len", "5"}}) {
    EXPECT_EQ(parsed(kvass(with(run_json({"-p", "the and", "-n", "60"}), how)))["ids"], ids);
  }
  const Arguments drawn = run_json({"-p", "the", "-n", "50", "--temp", "1"});
  EXPECT_EQ(parsed(kvass(drawn))["ids"], parsed(kvass(drawn))["ids"]);
  EXPECT_NE(parsed(kvass(drawn))["ids"], parsed(kvass(with(drawn, {"--seed", "8"})))["ids"]);
}

TEST(Run, TextGoesToStdoutAndPlanAndSummaryToStderr) {
  const json done = parsed(kvass(run_json({"-p", "the", "-n", "30"})));
  const Arguments plain = {"run", tiny(), "-p", "the", "-n", "30", "--ignore-eos"};
  const Finished told = kvass(plain);
  EXPECT_EQ(told.code, 0);
  json whole = done["prompt_ids"];
  for (const json& id : done["ids"]) whole.push_back(id);
  const Finished decoded = kvass({"tokenize", tiny(), "--decode"}, whole.dump());
  EXPECT_TRUE(has(decoded.out + "\n", told.out)) << "the bytes of the ids";
  EXPECT_TRUE(has(told.err, "kvass: weights ") && has(told.err, "ring 16")) << told.err;
  const std::string prompt = std::to_string(done["prompt_ids"].size());
  EXPECT_TRUE(has(told.err, "(" + prompt + " prompt + 30 generated), prefill ")) << told.err;
  for (const char* part : {" tokens/s, decode ", " tokens/s, cache ", ", peak memory "})
    EXPECT_TRUE(has(told.err, part)) << told.err;
  const Finished quiet = kvass(with(plain, {"--quiet"}));
  EXPECT_EQ(quiet.err, "");
  EXPECT_EQ(quiet.out, told.out);
}

TEST(Run, NothingToGenerateRunsThePromptOnly) {
  const Finished done = kvass({"run", tiny(), "-p", "the and the", "-n", "0"});
  EXPECT_EQ(done.code, 0);
  EXPECT_EQ(done.out, "");
  EXPECT_TRUE(has(done.err, " + 0 generated)")) << done.err;
}

TEST(Run, PromptsComeFromTheCommandLineAFileOrStdin) {
  const std::string prompt = "the and\nan é";
  write_file(path_of("prompt.txt"), prompt);
  const json ids = parsed(kvass(run_json({"-p", prompt, "-n", "5"})))["ids"];
  EXPECT_EQ(parsed(kvass(run_json({"-f", path_of("prompt.txt"), "-n", "5"})))["ids"], ids);
  EXPECT_EQ(parsed(kvass(run_json({"-", "-n", "5"}), prompt))["ids"], ids);
  EXPECT_EQ(parsed(kvass(run_json({"-f", "-", "-n", "5"}), prompt))["ids"], ids);
}

TEST(Run, AStopTextEndsTheTextBeforeIt) {
  const std::string text = parsed(kvass(run_json({"-p", "the", "-n", "60"})))["text"];
  const size_t at = text.find_first_of("abcdefghijklmnopqrstuvwxyz0123456789");
  ASSERT_NE(at, std::string::npos);
  const std::string stop = text.substr(at, 1);
  const json done = parsed(kvass(run_json({"-p", "the", "-n", "60", "--stop", "never this", "--stop", stop})));
  EXPECT_EQ(done["text"], text.substr(0, text.find(stop)));
  EXPECT_EQ(done["stats"]["stop_reason"], "stop_text");
}

TEST(Run, AFullCacheIsAnErrorThatNamesTheWayOut) {
  const Finished done = kvass({"run", tiny(), "-p", "the", "-n", "50", "--ignore-eos", "--context", "20"});
  EXPECT_EQ(done.code, 1);
  EXPECT_GT(done.out.size(), 0u) << "what came before is good";
  EXPECT_TRUE(has(done.err, "peak memory")) << done.err;
  EXPECT_TRUE(has(done.err, "\nkvass: cache full: expected at most 20 tokens, got 21")) << done.err;
  EXPECT_TRUE(has(done.err, "--attention-sink")) << done.err;
  const Finished machine = kvass(run_json({"-p", "the", "-n", "50", "--context", "20"}));
  EXPECT_EQ(machine.code, 1);
  EXPECT_EQ(json::parse(machine.out)["stats"]["stop_reason"], "cache_full");
  expect_refused(kvass(run_json({"-p", "and and and and and", "--context", "4"})), 1, {"prompt", "--attention-sink"});
}

TEST(Run, EndlessGoesPastItsContextUntilASignal) {
  for (const int number : {SIGINT, SIGTERM}) {
    Running stream({"run", tiny(), "-p", "the", "--endless", "--context", "64"});
    ASSERT_TRUE(stream.read(2000));
    stream.signal(number);
    EXPECT_EQ(stream.end(), 128 + number);
    const std::string err = stream.err();
    EXPECT_TRUE(has(err, "sink_ring 4+60")) << err;
    EXPECT_TRUE(has(err, " generated), prefill ") && has(err, ", interrupted\n")) << err;
  }
}

TEST(Run, AReaderThatHasHadEnoughIsAFailureThatItSays) {
  Running stream({"run", tiny(), "-p", "the", "--endless", "--context", "64"});
  ASSERT_TRUE(stream.read(10));
  stream.close_output();
  EXPECT_EQ(stream.end(), 1);
  EXPECT_TRUE(has(stream.err(), ", output closed\n") && has(stream.err(), "got Broken pipe\n")) << stream.err();

  Running listing({"inspect", tiny(), "--program"});
  listing.close_output();
  EXPECT_EQ(listing.end(), 1);
  EXPECT_EQ(listing.err(), "kvass: stdout: expected a place to write to, got Broken pipe\n");
}

TEST(Run, AClosedOrFullOutputIsSaidAndAClosedStderrIsNoMatter) {
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC), full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  const Arguments arguments = {"run", tiny(), "-p", "the", "-n", "5", "--ignore-eos"};
  EXPECT_EQ(wait_for(start_kvass(arguments, {null, null, -1})), 0);
  EXPECT_EQ(wait_for(start_kvass(arguments, {null, -1, null})), 1);
  EXPECT_EQ(wait_for(start_kvass(arguments, {-1, null, null})), 0);
  if (full >= 0) {
    EXPECT_EQ(wait_for(start_kvass(arguments, {null, full, null})), 1);
    EXPECT_EQ(wait_for(start_kvass({"plan", tiny()}, {null, full, full})), 1);
  }
  ::close(null);
  ::close(full);
}

// Address spaces from too small to load the program to large enough for the stream: it runs, or says in one line that
// memory is short. It never crashes, and a snapshot that was there is still there.
TEST(Run, TooLittleMemoryIsSaidAtWhateverPointItIsMissing) {
  if (kSanitized) GTEST_SKIP() << "the sanitizers map more than any limit";
  const std::string path = tiny() + ".kvsnap";
  const Arguments arguments = {"run", tiny(), "-p", "the", "-n", "8", "--ignore-eos", "-t", "3", "--save", path};
  const Finished plenty = kvass(arguments);
  ASSERT_EQ(plenty.code, 0) << plenty.err;
  const std::string saved = read_file(path);
  int done = 0, refused = 0;
  for (rlim_t kib = 6 << 10; done < 3 && kib < 2 << 20; kib += std::max<rlim_t>(128, kib / 128)) {
    const Finished run = kvass(arguments, "", kib << 10);
    if (run.code == 127 || run.code > 1000) {  // the loader's, and of the libraries' own beginnings, before ours
      ASSERT_EQ(refused + done, 0) << kib << " KiB: " << run.err;
      continue;
    }
    if (run.code == 0) {
      ++done;
      EXPECT_EQ(run.out, plenty.out);
      continue;
    }
    ++refused;
    EXPECT_EQ(run.code, 1) << kib << " KiB: " << run.err;
    EXPECT_TRUE(run.err.starts_with("kvass: ") && std::count(run.err.begin(), run.err.end(), '\n') <= 2) << run.err;
    EXPECT_TRUE(has(run.err, "memory") || has(run.err, "map")) << kib << " KiB: " << run.err;
    EXPECT_EQ(read_file(path), saved);
  }
  EXPECT_EQ(done, 3);
  EXPECT_GT(refused, 10);
}

}  // namespace
}  // namespace kvass
