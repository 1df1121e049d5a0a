// The command line as a person and a script meet it: the built program is run on a tiny model.
#include "cli/test_files.h"
#include "effort.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

TEST(CommandLine, AloneItTeaches) {
  const Finished alone = kvass({});
  EXPECT_EQ(alone.code, 0);
  EXPECT_EQ(alone.err, "");
  for (const char* part :
       {"Examples:", "kvass run", "--endless", "chat", "plan", "score", "verify", "bench", "tokenize", "inspect"}) {
    EXPECT_TRUE(has(alone.out, part)) << part;
  }
  EXPECT_EQ(kvass({"--help"}).out, alone.out);
  for (const char* command : {"run", "chat", "plan", "score", "verify", "bench", "tokenize", "inspect"}) {
    const Finished help = kvass({command, "--help"});
    EXPECT_EQ(help.code, 0);
    EXPECT_TRUE(has(help.out, std::string("kvass ") + command + " model.gguf") || has(help.out, "| kvass tokenize"))
        << "an example of " << command;
  }
}

TEST(CommandLine, VersionNamesNumericsAndInstructionSets) {
  const Finished version = kvass({"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_TRUE(has(version.out, "kvass 0.")) << version.out;
  EXPECT_TRUE(has(version.out, "numerics version 1\n")) << version.out;
  EXPECT_TRUE(has(version.out, "instruction set ") && has(version.out, "scalar")) << version.out;
}

TEST(CommandLine, BadUsageIsTwoAndPointsToTheHelp) {
  const std::vector<Arguments> cases = {{"run"},
                                        {"--nonsense"},
                                        {"run", "--nonsense"},
                                        {"run", tiny(), "--nonsense"},
                                        {"run", tiny(), "-n"},
                                        {"run", tiny(), "-n", "many"},
                                        {"run", tiny(), "stray"},
                                        {"run", tiny(), "--threads", "two"},
                                        {"run", tiny(), "-p", "a", "-f", "b"},
                                        {"run", tiny(), "-", "-p", "a"},
                                        {"score", tiny()},
                                        {"bench", tiny(), "-p", "1,x"},
                                        {"plan"},
                                        {"tokenize", tiny(), "--context", "5"},
                                        {"inspect"}};
  for (const Arguments& arguments : cases) expect_refused(kvass(arguments), 2, {"--help`"});
  expect_refused(kvass({"trot"}), 2, {"command: expected run, chat, plan, ", "got 'trot'", "`kvass --help`"});
  expect_refused(kvass({"run", tiny(), "--nonsense"}), 2, {"expected ", "got '--nonsense'", "`kvass run --help`"});
}

TEST(CommandLine, AttentionSinkShowsItsForm) {
  for (const char* value : {"4", "1,2,3", "4,0", "-1,8", "4,-8", "", ",", "4,", ",8", "a,b", "4;8", "4 8", "4.0,8"}) {
    expect_refused(kvass({"run", tiny(), "--attention-sink", value}), 1,
                   {"--attention-sink: expected S,W", std::string("got '") + value + "'"});
  }
  expect_refused(kvass({"run", tiny(), "--attention-sink", "4,508", "--context", "511"}), 1,
                 {"--context: expected at least 512", "S,W", "got 511"});
  EXPECT_EQ(kvass({"run", tiny(), "-n", "1", "--attention-sink", "0,8"}).code, 0) << "S = 0 is a plain ring";
}

TEST(CommandLine, BadValuesAreOneWithWhatExpectedAndGot) {
  const std::vector<std::pair<Arguments, const char*>> cases = {
      {{"run", tiny(), "--kv", "f64"}, "--kv: expected f32, f16, bf16 or q8, got 'f64'"},
      {{"run", tiny(), "--math", "a4"}, "--math: expected "},
      {{"run", tiny(), "--threads", "-1"}, "--threads: expected "},
      {{"run", tiny(), "--context", "0"}, "--context: expected "},
      {{"run", tiny(), "--chunk", "0"}, "--chunk: expected "},
      {{"run", tiny(), "--chunk", "1000000000000000000"}, ": expected "},
      {{"run", tiny(), "--context", "1000000000000000000"}, ": expected "},
      {{"run", tiny(), "--endless", "--context", "4"}, "--context: expected "},
      {{"run", tiny(), "-n", "-1"}, "-n: expected 0 or more tokens, got -1"},
      {{"run", tiny(), "--temp", "-1"}, "--temp: expected "},
      {{"run", tiny(), "--top-p", "2"}, "--top-p: expected "},
      {{"run", tiny(), "-f", path_of("none")}, "none: expected a readable file, got "},
      {{"score", tiny(), "-f", "-"}, "text to score: expected at least 2 tokens, got 1"},
      {{"score", tiny(), "-f", "-", "--bucket", "0"}, "--bucket: expected "},
      {{"score", tiny(), "-f", "-", "--top", "-1"}, "--top: expected "},
      {{"score", tiny(), "-f", "-", "--ids"}, "-: expected a JSON array"},
      {{"bench", tiny(), "-d", "-1"}, "-d: expected "},
      {{"bench", tiny(), "-b", "0"}, "-b: expected "},
      {{"bench", tiny(), "-r", "0"}, "-r: expected "}};
  for (const auto& [arguments, message] : cases) expect_refused(kvass(arguments), 1, {message});
}

TEST(CommandLine, FilesThatAreNoModelAreOneLineThatNamesThem) {
  const std::string whole = read_file(tiny());
  write_file(path_of("text.gguf"), "not a model\n");
  write_file(path_of("empty.gguf"), "");
  write_file(path_of("header.gguf"), whole.substr(0, 20));
  write_file(path_of("half.gguf"), whole.substr(0, whole.size() / 2));
  write_file(path_of("almost.gguf"), whole.substr(0, whole.size() - 64));
  std::filesystem::create_directory(path_of("folder"));
  for (const char* name :
       {"none.gguf", "folder", "text.gguf", "empty.gguf", "header.gguf", "half.gguf", "almost.gguf"}) {
    for (const char* command : {"run", "plan", "inspect", "tokenize", "bench"}) {
      expect_refused(kvass({command, path_of(name)}), 1, {name});
    }
  }
  expect_refused(kvass({"plan", "two\nlines"}), 1, {"two?lines"});
}

TEST(CommandLine, BothNamesOfAFlagAreOneFlag) {
  const json plan = parsed(kvass({"plan", tiny(), "--json", "--context", "200", "--chunk", "7"}));
  EXPECT_EQ(parsed(kvass({"plan", tiny(), "--json", "--max-context-len", "200", "--input-len", "7"})), plan);
  EXPECT_NE(parsed(kvass({"plan", tiny(), "--json"})), plan);
}

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
    EXPECT_EQ(stream.end(), 0);
    const std::string err = stream.err();
    EXPECT_TRUE(has(err, "sink_ring 4+60")) << err;
    EXPECT_TRUE(has(err, " generated), prefill ") && has(err, ", interrupted\n")) << err;
  }
}

TEST(Run, AReaderThatHasHadEnoughEndsItInOrder) {
  Running stream({"run", tiny(), "-p", "the", "--endless", "--context", "64"});
  ASSERT_TRUE(stream.read(10));
  stream.close_output();
  EXPECT_EQ(stream.end(), 0);
  EXPECT_TRUE(has(stream.err(), ", output closed\n")) << stream.err();

  Running listing({"inspect", tiny(), "--program"});
  listing.close_output();
  EXPECT_EQ(listing.end(), 0);
  EXPECT_EQ(listing.err(), "");
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

TEST(Score, JsonHasItsKeysAndBucketsPartitionTheText) {
  const json ids = TinyModel().tokens(100);
  const Arguments score = {"score", tiny(), "-f", "-", "--ids", "--json"};
  const json done = parsed(kvass(with(score, {"--bucket", "40", "--top", "3"}), ids.dump()));
  EXPECT_EQ(done.at("tokens"), 100);
  ASSERT_EQ(done.at("buckets").size(), 3u);
  double sum = 0.0;
  int64_t at = 0;
  for (const json& bucket : done["buckets"]) {
    EXPECT_EQ(bucket.at("start"), at);
    at = bucket.at("end");
    sum += bucket.at("nll").get<double>() * static_cast<double>(at - bucket["start"].get<int64_t>());
    EXPECT_NEAR(bucket.at("ppl").get<double>(), std::exp(bucket["nll"].get<double>()), 1e-6 * 1e4);
  }
  EXPECT_EQ(at, 99);
  EXPECT_NEAR(sum / 99.0, done.at("nll").get<double>(), 1e-9);
  ASSERT_EQ(done.at("top").size(), 3u);
  EXPECT_GE(done["top"][0].at("logit"), done["top"][1].at("logit"));
  EXPECT_TRUE(done["top"][0].at("id").is_number_integer());
  EXPECT_GT(done.at("stats").at("tps").get<double>(), 0.0);
  EXPECT_EQ(parsed(kvass(with(score, {"--chunk", "7", "-t", "1"}), ids.dump()))["nll"], done["nll"]) << "bit for bit";
  EXPECT_EQ(parsed(kvass(with(score, {"--max-tokens", "50"}), ids.dump()))["tokens"], 50);
  EXPECT_TRUE(has(kvass({"score", tiny(), "-f", "-", "--ids"}, ids.dump()).out, "tokens 100, nll ")) << "as text";
}

TEST(Score, TextBeginsAsTheFileSaysUnlessToldNotTo) {
  const Arguments score = {"score", tiny(), "-f", "-", "--json"};
  const size_t ids = parsed(kvass({"tokenize", tiny(), "--json"}, "the and an")).size();
  EXPECT_EQ(parsed(kvass(score, "the and an"))["tokens"], ids + 1);
  EXPECT_EQ(parsed(kvass(with(score, {"--no-bos"}), "the and an"))["tokens"], ids);
  expect_refused(kvass(with(score, {"--context", "4"}), "and and and and"), 1, {"--context", "--attention-sink"});
  EXPECT_EQ(kvass(with(score, {"--attention-sink", "1,3"}), "and and and and").code, 0);
}

TEST(Tokenize, TextToIdsToTextIsTheIdentity) {
  for (const std::string text :
       {"the and", "", "é ▂ 語\n\t x", "\xff\x80 broken \xe2\x96", " the", "<bos> the <eos>"}) {
    const Finished ids = kvass({"tokenize", tiny(), "--json"}, text);
    EXPECT_TRUE(parsed(ids).is_array());
    EXPECT_EQ(kvass({"tokenize", tiny(), "--decode"}, ids.out).out, text);
  }
  EXPECT_EQ(parsed(kvass({"tokenize", tiny(), "--json", "--bos", "--special"}, "<eos>"))[0], 2);
  EXPECT_EQ(parsed(kvass({"tokenize", tiny(), "--json", "--decode"}, kvass({"tokenize", tiny(), "--json"}, "the").out)),
            "the");
  EXPECT_TRUE(has(kvass({"tokenize", tiny(), "--bos"}, "the").out, "      2 \"<bos>\"\n"));
  for (const char* ids : {"", "{}", "[1", "[-1]", "[1.5]", "[\"a\"]", "[300]", "[4294967296]"}) {
    expect_refused(kvass({"tokenize", tiny(), "--decode"}, ids), 1, {"expected "});
  }
}

TEST(Bench, ReportsARowForEachTestDepthAndBatch) {
  const Arguments bench = {"bench", tiny(), "-p", "8,20", "-n", "5", "-d", "0,30", "-b", "1,3", "-r", "2", "-t", "1"};
  const json rows = parsed(kvass(with(bench, {"--json"})));
  ASSERT_EQ(rows.size(), 8u);
  EXPECT_EQ(rows[0].at("test"), "pp8");
  EXPECT_EQ(rows[7].at("test"), "tg5");
  EXPECT_EQ(rows[7].at("depth"), 30);
  EXPECT_EQ(rows[7].at("batch"), 3);
  for (const json& row : rows) {
    EXPECT_GT(row.at("tps").get<double>(), 0.0);
    EXPECT_GT(row.at("limit_share").get<double>(), 0.0);
  }
  EXPECT_EQ(parsed(kvass({"bench", tiny(), "-p", "0", "-n", "2", "-r", "1", "-d", "100", "--attention-sink", "2,30",
                          "--json"}))
                .size(),
            1u);
  EXPECT_TRUE(has(kvass({"bench", "-p", "4", "-n", "0", "-r", "1", tiny()}).out, "pp4"));
}

TEST(Bench, ProfilesEveryOpOfTheLastRepetition) {
  const Scratch scratch;
  const std::string trace = scratch.file("trace.json");
  const Arguments bench = {"bench", tiny(), "-p", "8", "-n", "5", "-r", "2", "-t", "1", "--trace", trace};
  const json rows = parsed(kvass(with(bench, {"--profile", "--json"})));
  ASSERT_EQ(rows.size(), 2u);
  double seconds = 0.0;
  std::map<std::string, int64_t> calls;
  for (const json& op : rows[1].at("profile").at("ops")) {
    seconds += op.at("seconds").get<double>();
    calls[op.at("op")] += op.at("calls").get<int64_t>();
  }
  EXPECT_GT(seconds, 0.0);
  EXPECT_LE(seconds, rows[1]["profile"].at("seconds").get<double>());
  EXPECT_EQ(calls["embed"], 5);
  EXPECT_EQ(calls["attention"], 5 * 7) << "of 7 layers";
  size_t complete = 0;
  const json timeline = json::parse(read_file(trace));
  for (const json& event : timeline.at("traceEvents")) {
    complete += event.at("ph") == "X" && event.at("pid") == 1 && event.at("cat") == "attention";
  }
  EXPECT_EQ(complete, 35u);
  EXPECT_TRUE(has(kvass(with(bench, {"--profile"})).out, "between ops"));
}

TEST(Inspect, ShowsMetadataTensorsAndTheProgram) {
  const json file = parsed(kvass({"inspect", tiny(), "--json"}));
  EXPECT_EQ(file.at("kind"), "gguf");
  EXPECT_EQ(file.at("metadata").at("general.architecture"), "gemma3");
  EXPECT_EQ(file["metadata"].at("gemma3.block_count"), 7);
  EXPECT_TRUE(file["metadata"].at("tokenizer.ggml.tokens").is_string()) << "long arrays are cut";
  EXPECT_LT(file["metadata"]["tokenizer.ggml.tokens"].get<std::string>().size(), 500u);
  bool found = false;
  for (const json& tensor : file.at("tensors")) {
    if (tensor.at("name") != "token_embd.weight") continue;
    found = true;
    EXPECT_EQ(tensor.at("type"), "Q8_0");
    EXPECT_EQ(tensor.at("shape"), json({64, 300}));
    EXPECT_EQ(tensor.at("bytes"), 300 * 2 * 34);
  }
  EXPECT_TRUE(found);
  EXPECT_TRUE(has(kvass({"inspect", tiny()}).out, "token_embd.weight"));
  EXPECT_TRUE(has(kvass({"inspect", tiny(), "--program"}).out, "attention"));
}

TEST(Inspect, ListsTheBackendsOfTheOperators) {
  bool reference = false, cuda = false;
  for (const json& row : parsed(kvass({"inspect", "--ops", "--json"}))) {
    if (row.at("op") != "attention") continue;
    if (row.at("backend") == "reference") {
      reference = row.at("available") == true && row.at("device") == "cpu" && row.at("priority") == 0;
    }
    if (row.at("device") == "cuda") {
      const std::string reason = row.at("reason");
      cuda = row.at("available") == reason.empty() &&
             (reason.empty() || reason == "not built" || reason.starts_with("no device: "));
    }
  }
  EXPECT_TRUE(reference);
  EXPECT_TRUE(cuda);
  EXPECT_TRUE(has(kvass({"inspect", "--ops"}).out, "no: not built"));
  expect_refused(kvass({"inspect", "--ops", tiny()}), 2, {"--help`"});
}

}  // namespace
}  // namespace kvass
