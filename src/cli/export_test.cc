// `kvass export`, and every command on what it writes.
#include <sys/wait.h>

#include "cli/test_files.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

Arguments export_of(const std::string& out, const Arguments& more = {}) {
  return with({"export", tiny(), "-o", out, "--max-context-len", "96", "--input-len", "16", "-t", "1"}, more);
}

// The program, written once.
const std::string& program() {
  static const std::string path = [] {
    const std::string file = path_of("tiny.kvp");
    EXPECT_EQ(kvass(export_of(file, {"--multifunction"})).code, 0);
    return file;
  }();
  return path;
}

TEST(Export, SaysWhatItWroteAndRefusesWhatMakesNoSense) {
  const std::string out = path_of("out.kvp");
  const Finished done = kvass(export_of(out));
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_EQ(done.out, "");
  EXPECT_TRUE(has(done.err, "out.kvp") && has(done.err, "forward")) << done.err;
  const json summary = parsed(kvass(export_of(out, {"--json", "--sliding-window", "20"})));
  EXPECT_EQ(summary["methods"], json({"forward"}));
  EXPECT_EQ(summary["warnings"].size(), 2u);
  expect_refused(kvass(export_of(out, {"--sliding-window-pattern", "3"})), 1, {"--sliding-window"});
  expect_refused(kvass(export_of(out, {"--sliding-window", "20", "--sliding-window-pattern", "1"})), 1, {"at least 2"});
  expect_refused(kvass(export_of(out, {"--sliding-window", "0"})), 1, {"--sliding-window"});
  expect_refused(kvass({"export", tiny(), "-o", out, "--max-context-len", "16", "--input-len", "16"}), 1,
                 {"--max-context-len"});
  expect_refused(kvass(export_of("/nowhere/out.kvp")), 1, {"/nowhere"});
  expect_refused(kvass(export_of(out, {"--weights", "q3"})), 1, {"--weights", "q8_0"});
  expect_refused(kvass(export_of(out, {"--kv", "q1"})), 1, {"--kv"});
}

TEST(Export, TextAndScoresAreThoseOfTheModel) {
  const Arguments text = {"-p", "the end and the", "-n", "40", "--json", "--ignore-eos"};
  const Arguments plan = {"--context", "96", "--chunk", "16"};
  const json own = parsed(kvass(with({"run", program()}, text)));
  const json expected = parsed(kvass(with(with({"run", tiny()}, text), plan)));
  EXPECT_EQ(own["ids"], expected["ids"]);
  EXPECT_EQ(own["text"], expected["text"]);
  EXPECT_EQ(parsed(kvass(with({"run", program(), "--pages", "huge", "--check"}, text)))["ids"], expected["ids"]);
  EXPECT_EQ(parsed(kvass(with({"run", program(), "--chunk", "7", "-t", "2"}, text)))["ids"], expected["ids"]);
  const Arguments score = {"-f", "-", "--json", "--top", "5"};
  const std::string words = "the end and the end and then the end of the end, and the rest";
  const json top = parsed(kvass(with({"score", program()}, score), words));
  const json wanted = parsed(kvass(with(with({"score", tiny()}, score), plan), words));
  EXPECT_EQ(top["nll"], wanted["nll"]);
  EXPECT_EQ(top["top"], wanted["top"]);
}

TEST(Export, PlanAndInspectSayWhatIsInTheFile) {
  const json plan = parsed(kvass({"plan", program(), "--json", "-t", "1"}));
  const json inspected = parsed(kvass({"inspect", program(), "--json", "--mask", "50", "--check"}));
  EXPECT_EQ(inspected["kind"], "kvass program");
  EXPECT_EQ(inspected["metadata"]["max_context_len"], 96);
  EXPECT_EQ(inspected["methods"].size(), 2u);
  EXPECT_EQ(inspected["methods"][1]["rows"], 1);
  EXPECT_EQ(inspected["states"].size(), 7u);
  EXPECT_EQ(inspected["states"][0]["cache_len"], 16);
  EXPECT_EQ(inspected["states"][2]["cache_len"], 80);
  EXPECT_EQ(inspected["cache_bytes"], plan["cache_bytes"]);
  EXPECT_EQ(inspected["allocated_bytes"], plan["allocated_bytes"]);
  EXPECT_EQ(inspected["metadata"]["weight_bytes"], plan["weight_bytes"]);
  EXPECT_EQ(inspected["masks"].size(), 2u);
  EXPECT_EQ(inspected["masks"][0]["rows"][0]["begin"], 35);
  EXPECT_EQ(inspected["ops"].size(), inspected["methods"][0]["workspace_offsets"].size());
  EXPECT_EQ(inspected["values"].size(), inspected["methods"][0]["value_offsets"].size());
  const std::string svg = path_of("arena.svg");
  const Finished shown = kvass({"inspect", program(), "--svg", svg});
  EXPECT_TRUE(has(shown.out, "prefill") && has(shown.out, "cache_len")) << shown.out;
  EXPECT_TRUE(has(read_file(svg), "</svg>"));
  EXPECT_TRUE(has(kvass({"inspect", program(), "--program"}).out, "attention"));
  expect_refused(kvass({"inspect", tiny(), "--svg", svg, "--json"}), 1, {".kvp"});
}

TEST(Export, VerifyBenchChatAndTokenizeTakeIt) {
  EXPECT_EQ(parsed(kvass({"verify", program(), "--json", "--tokens", "80", "-t", "1"}))["identical"], true);
  EXPECT_EQ(parsed(kvass({"bench", program(), "-p", "8", "-n", "4", "-r", "1", "--json", "-t", "1"})).size(), 2u);
  EXPECT_EQ(parsed(kvass({"tokenize", program(), "--json"}, "the end")),
            parsed(kvass({"tokenize", tiny(), "--json"}, "the end")));
  const Finished prompts =
      kvass({"run", program(), "--prompts", "-", "--sequences", "2", "-n", "5", "--ignore-eos"}, "the end\nand\n");
  EXPECT_EQ(prompts.code, 0) << prompts.err;
}

TEST(Export, ADamagedFileIsRefusedByEveryCommand) {
  std::string bytes = read_file(program());
  const std::string damaged = path_of("damaged.kvp");
  bytes[2000] ^= 1;
  write_file(damaged, bytes);
  for (const char* command : {"run", "score", "plan", "inspect", "verify", "chat", "bench", "tokenize"}) {
    const Arguments text = std::string(command) == "score" ? Arguments{"-f", "-"} : Arguments{};
    expect_refused(kvass(with({command, damaged}, text)), 1, {"damaged.kvp", "hash"});
  }
  bytes[2000] ^= 1;
  bytes[bytes.size() - 4096] ^= 1;  // a weight: seen when it is asked for
  write_file(damaged, bytes);
  EXPECT_EQ(kvass({"run", damaged, "-p", "the", "-n", "1"}).code, 0);
  expect_refused(kvass({"run", damaged, "-p", "the", "-n", "1", "--check"}), 1, {"section", "hash"});
}

TEST(Export, TheExampleInCWritesTheSameText) {
  const std::string snapshot = path_of("example.kvsnap"), out = path_of("example.txt");
  const std::string command =
      std::string(KVASS_EXAMPLE_PATH) + " " + program() + " 'the end and the' 20 " + snapshot + " > " + out;
  EXPECT_EQ(std::system(command.c_str()), 0);  // NOLINT: a test
  EXPECT_EQ(read_file(out), kvass({"run", program(), "-q", "-p", "the end and the", "-n", "20"}).out);
}

}  // namespace
}  // namespace kvass
