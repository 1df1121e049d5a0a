// --config: flags from a YAML file. The command line wins, and what the file gets wrong is said by file, line and key.
#include "cli/test_files.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

// The file's path, with this text in it.
std::string config(const std::string& text) {
  write_file(path_of("config.yaml"), text);
  return path_of("config.yaml");
}

Finished plan(const std::string& yaml, const Arguments& more = {}) {
  return kvass(with({"plan", "--json", "--config", config(yaml)}, more));
}

TEST(Config, AFlagInTheFileIsTheFlagOnTheCommandLine) {
  const std::string yaml = "model: " + tiny() +
                           "\n# a stream\nattention_sink: \"4,60\"\nchunk: 16\nkv: f32  # exact\nmath: f32\n"
                           "threads: 1\nmemory-limit: 1G\n";
  const json flags = parsed(kvass({"plan", tiny(), "--json", "--attention-sink", "4,60", "--chunk", "16", "--kv", "f32",
                                   "--math", "f32", "--threads", "1"}));
  EXPECT_EQ(parsed(plan(yaml)), flags);
  EXPECT_EQ(parsed(plan("---\n" + yaml + "...\n")), flags);
}

TEST(Config, TheCommandLineWins) {
  const std::string yaml = "model: " + tiny() + "\nattention_sink: \"4,60\"\nmax_context_len: 64\n";
  EXPECT_EQ(parsed(plan(yaml, {"--attention-sink", "2,30", "--context", "32"})),
            parsed(kvass({"plan", tiny(), "--json", "--attention-sink", "2,30"})));
  EXPECT_EQ(parsed(plan("model: /nowhere\n", {tiny()})), parsed(kvass({"plan", tiny(), "--json"})));
  // A flag that excludes what the file says wins as well.
  const Arguments run = {"run", tiny(), "--json", "-n", "2", "--seed", "1"};
  EXPECT_EQ(parsed(kvass(with(run, {"--config", config("prompt: and\n"), "-f", "-"}), "the"))["ids"],
            parsed(kvass(with(run, {"-p", "the"})))["ids"]);
  EXPECT_EQ(parsed(kvass(with(run, {"--config", config("file: /nowhere\n"), "-p", "the"})))["ids"],
            parsed(kvass(with(run, {"-p", "the"})))["ids"]);
}

TEST(Config, EveryKindOfFlagIsTaken) {
  const std::string yaml = "model: " + tiny() +
                           "\nprompt: the end\ntokens: 12\nignore_eos: true\nseed: 7\ntemp: 0.8\ntop_k: 5\n"
                           "stop: [\"never said\", \"nor this\"]\nquiet: false\njson: true\n";
  EXPECT_EQ(parsed(kvass({"run", "--config", config(yaml)}))["ids"],
            parsed(kvass({"run", tiny(), "--json", "-p", "the end", "-n", "12", "--ignore-eos", "--seed", "7", "--temp",
                          "0.8", "--top-k", "5"}))["ids"]);
  const json ids = TinyModel().tokens(40);
  write_file(path_of("ids.json"), ids.dump());
  const std::string score = "model: " + tiny() + "\nfile: " + path_of("ids.json") + "\nids: yes\nbucket: 10\n";
  EXPECT_EQ(parsed(kvass({"score", "--json", "--config", config(score)}))["buckets"].size(), 4u);
}

TEST(Config, AnUnknownKeyIsAnErrorThatNamesTheNearestFlag) {
  expect_refused(plan("model: x\n\nattention_snik: \"4,60\"\n"), 1,
                 {"config.yaml:3: attention_snik", "`kvass plan`", "did you mean attention_sink?"});
  expect_refused(plan("contxt: 5\n"), 1, {"config.yaml:1", "did you mean context?"});
  expect_refused(plan("modle: x\n"), 1, {"did you mean model?"});
  expect_refused(plan("top_k: 5\n"), 1, {"top_k", "`kvass plan`"});  // a flag, but of another command
  expect_refused(plan("help: true\n"), 1, {"help"});
  expect_refused(plan("config: other.yaml\n"), 1, {"config"});
  expect_refused(plan(std::string(500, 'x') + ": 1\n"), 1, {"did you mean"});
}

TEST(Config, ABadValueIsTheSameErrorAsOnTheCommandLineOrNamesItsLine) {
  const std::string model = "model: " + tiny() + "\n";
  for (const char* value : {"\"4\"", "\"1,2,3\"", "\"4,0\"", "\"a,b\"", "4"}) {
    expect_refused(plan(model + "attention_sink: " + value + "\n"), 1, {"--attention-sink: expected S,W"});
  }
  expect_refused(plan(model + "chunk: many\n"), 1, {"config.yaml:2: chunk", "TOKENS"});
  expect_refused(plan(model + "chunk: [1, 2]\n"), 1, {"config.yaml:2: chunk: expected one value, got a list"});
  expect_refused(plan(model + "chunk:\n"), 1, {"config.yaml:2: chunk: expected one value, got none"});
  expect_refused(plan(model + "chunk: {a: 1}\n"), 1, {"chunk: expected one value, got a mapping"});
  expect_refused(plan(model + "endless: 3\n"), 1, {"endless: expected true or false, got '3'"});
  expect_refused(plan(model + "chunk: 8\ninput_len: 9\n"), 1, {"config.yaml:3: input_len: expected each flag once"});
  expect_refused(kvass({"run", tiny(), "--config", config("prompt: a\nfile: b\n")}), 1, {"file", "both"});
}

TEST(Config, WhatIsNoMappingOfFlagsIsRefused) {
  for (const char* yaml : {"[1, 2]\n", "word\n", "a: [\n", "\t- x: 1\n", "? [a]\n: b\n", "a: &x 1\nb: *y\n"}) {
    expect_refused(plan(yaml), 1, {"config.yaml"});
  }
  expect_refused(plan(std::string(100000, '[')), 1, {"expected YAML"});
  expect_refused(plan(std::string((1 << 20) + 1, ' ')), 1, {"at most 1048576 bytes"});
  expect_refused(kvass({"plan", tiny(), "--config", "/nowhere.yaml"}), 1, {"/nowhere.yaml", "readable"});
}

TEST(Config, AnEmptyFileSaysNothing) {
  for (const char* yaml : {"", "# nothing\n", "---\n"}) {
    EXPECT_EQ(parsed(plan(yaml, {tiny()})), parsed(kvass({"plan", tiny(), "--json"})));
  }
}

TEST(Config, WhatIsRequiredAndInNeitherPlaceIsBadUsage) {
  expect_refused(kvass({"score", "--config", config("model: " + tiny() + "\n")}), 2, {"--file", "--help`"});
  expect_refused(kvass({"run", "--config", config("tokens: 3\n")}), 2, {"MODEL", "--help`"});
}

}  // namespace
}  // namespace kvass
