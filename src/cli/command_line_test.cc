// The command line as a person and a script meet it: usage, values, files. The built program is run on a tiny model.
#include "cli/test_files.h"

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
  expect_refused(kvass({"trot"}), 2, {"command: expected run, chat, serve, plan, ", "got 'trot'", "`kvass --help`"});
  expect_refused(kvass({"run", tiny(), "--nonsense"}), 2, {"expected ", "got '--nonsense'", "`kvass run --help`"});
}

TEST(CommandLine, AttentionSinkShowsItsForm) {
  for (const char* value : {"4", "1,2,3", "4,0", "-1,8", "4,-8", ",", "4,", ",8", "a,b", "4;8", "4 8", "4.0,8"}) {
    expect_refused(kvass({"run", tiny(), "--attention-sink", value}), 1,
                   {"--attention-sink: expected S,W", std::string("got '") + value + "'"});
  }
  expect_refused(kvass({"run", tiny(), "--attention-sink", "4,508", "--context", "511"}), 1,
                 {"--context: expected at least 512", "4,508", "got 511"});
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
      {{"run", tiny(), "-n", "-2"}, "-n: expected 0 or more tokens, or -1 for no limit, got -2"},
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

}  // namespace
}  // namespace kvass
