// kvass inspect on a tiny model, and its list of operators.
#include "cli/test_files.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

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
