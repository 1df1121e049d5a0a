// kvass verify as a script meets it.
#include "cli/test_files.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

TEST(VerifyCommand, SaysIdenticalInATableAndInJson) {
  const json result = parsed(kvass({"verify", tiny(), "--tokens", "200", "-t", "2", "--json"}));
  EXPECT_TRUE(result["identical"].get<bool>());
  EXPECT_EQ(result["tokens"], 200);
  ASSERT_GT(result["rows"].size(), 15u);
  for (const json& row : result["rows"]) {
    EXPECT_TRUE(row["identical"].get<bool>()) << row;
    EXPECT_EQ(row["checksum"].get<std::string>().size(), 16u);
    EXPECT_FALSE(row.contains("first_difference"));
  }
  const Finished table = kvass({"verify", tiny(), "--tokens", "200", "-t", "2"});
  EXPECT_EQ(table.code, 0) << table.err;
  for (const char* part :
       {"one prefill", "chunks of 1", "chunks of 7", "chunks of 64", "chunks of 100", "token by token",
        "in a batch of 4", "1 thread", "8 threads", "instruction set scalar", "sinks 4,25"}) {
    EXPECT_TRUE(has(table.out, part)) << part;
  }
  EXPECT_TRUE(has(table.out, result["rows"][0]["checksum"].get<std::string>() + "  identical")) << table.out;
  EXPECT_FALSE(has(table.out, "DIFFERENT"));
}

TEST(VerifyCommand, TakesATextAndItsOwnArithmetic) {
  const std::string file = path_of("verify.txt");
  write_file(file, "the and the and the, and then the end and the rest of the end");
  const json a16 = parsed(kvass({"verify", tiny(), "-f", file, "--json"}));
  const json f32 = parsed(kvass({"verify", tiny(), "-f", file, "--math", "f32", "--json"}));
  const json bf16 = parsed(kvass({"verify", tiny(), "-f", file, "--kv", "bf16", "--json"}));
  EXPECT_LT(a16["tokens"], 1500);
  EXPECT_NE(a16["rows"][0]["checksum"], f32["rows"][0]["checksum"]);
  EXPECT_NE(a16["rows"][0]["checksum"], bf16["rows"][0]["checksum"]);
}

TEST(VerifyCommand, RefusesWhatItCannotRun) {
  expect_refused(kvass({"verify"}), 2);
  expect_refused(kvass({"verify", "/nowhere.gguf"}), 1, {"/nowhere.gguf"});
  expect_refused(kvass({"verify", tiny(), "--tokens", "3"}), 1, {"--tokens: expected 16 to", "got 3"});
  expect_refused(kvass({"verify", tiny(), "--math", "f64"}), 1, {"--math"});
  const std::string file = path_of("short.txt");
  write_file(file, "a");
  expect_refused(kvass({"verify", tiny(), "-f", file}), 1, {"short.txt: expected at least 16 tokens"});
}

}  // namespace
}  // namespace kvass
