// kvass convert and inspect --diff on tiny folders.
#include "cli/test_files.h"
#include "file/gguf.h"
#include "tiny_folder.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

std::string folder(const std::string& architecture) {
  const std::string path = path_of(("folder-" + architecture).c_str());
  TinyFolder(architecture == "gemma3" ? TinyConfig() : tiny_llama(architecture)).write(path);
  return path;
}

json scored(const std::string& model, const Arguments& more = {}) {
  const std::string ids = path_of("ids.json");
  std::ofstream(ids) << json(TinyModel().tokens(40));
  json result = parsed(
      kvass(with({"score", model, "-f", ids, "--ids", "--top", "20", "--json", "-t", "1", "--context", "64"}, more)));
  result.erase("stats");
  return result;
}

TEST(Convert, WritesAFileWithTheBitsOfTheFolder) {
  for (const char* architecture : {"llama", "qwen2", "gemma3"}) {
    SCOPED_TRACE(architecture);
    const std::string from = folder(architecture), to = path_of((std::string(architecture) + ".gguf").c_str());
    const json done = parsed(kvass({"convert", from, "-o", to, "--json"}));
    EXPECT_EQ(done.at("converted"), 0);
    EXPECT_EQ(scored(to, {"--math", "f32"}), scored(from, {"--math", "f32"}));
    EXPECT_EQ(scored(to), scored(from));
    const json same = parsed(kvass({"inspect", "--diff", from, to, "--json"}));
    EXPECT_EQ(same.at("identical"), true);
    EXPECT_EQ(same.at("same_tensors"), done.at("tensors"));
    const Finished text = kvass({"tokenize", to}, "the and\n<|im_end|>");
    EXPECT_EQ(text.out, kvass({"tokenize", from}, "the and\n<|im_end|>").out);
  }
}

TEST(Convert, MakesTheWeightsThatAreAskedFor) {
  const std::string from = folder("llama"), to = path_of("q8.gguf");
  EXPECT_GT(parsed(kvass({"convert", from, "-o", to, "--weights", "Q8_0", "--json"})).at("converted"), 20);
  EXPECT_EQ(scored(to), scored(from, {"--weights", "q8_0"}));
  const Finished diff = kvass({"inspect", "--diff", from, to, "--json"});
  EXPECT_EQ(diff.code, 1);
  const json found = json::parse(diff.out);
  EXPECT_EQ(found.at("metadata").at("different").size(), 1u);
  EXPECT_EQ(found["metadata"]["different"].at("general.file_type").at("b"), "7");
  for (const json& tensor : found.at("tensors").at("different")) {
    EXPECT_TRUE(tensor.at("b").get<std::string>().starts_with("Q8_0"));
    EXPECT_GT(tensor.at("max_abs_difference"), 0.0);
  }
  const std::string again = path_of("q4.gguf");  // a GGUF file is a source, too
  EXPECT_EQ(kvass({"convert", to, "-o", again, "--weights", "q4_0"}).code, 0);
  EXPECT_EQ(scored(again), scored(to, {"--weights", "q4_0"}));
}

TEST(Convert, ReplacesNothingThatIsNotItsKind) {
  const std::string from = folder("llama"), text = path_of("notes.txt");
  std::ofstream(text) << "notes";
  expect_refused(kvass({"convert", from, "-o", text}), 1, {"notes.txt", "a GGUF file"});
  expect_refused(kvass({"convert", from}), 2, {"--output"});
  expect_refused(kvass({"convert", path_of("nowhere"), "-o", path_of("x.gguf")}), 1, {"nowhere"});
  EXPECT_FALSE(std::filesystem::exists(path_of("x.gguf")));
  expect_refused(kvass({"convert", from, "-o", path_of("x.gguf"), "--weights", "q9"}), 1, {"--weights", "q9"});
}

TEST(Convert, FoldersAreModelsForEveryCommand) {
  const std::string from = folder("qwen2");
  const json file = parsed(kvass({"inspect", from + "/.", "--json"}));
  EXPECT_EQ(file.at("kind"), "safetensors");
  EXPECT_FALSE(file.contains("version"));
  EXPECT_EQ(file.at("metadata").at("general.name"), std::filesystem::path(from).filename().string());
  EXPECT_TRUE(has(kvass({"inspect", from, "--program"}).out, "attention"));
  EXPECT_EQ(kvass({"plan", from, "--context", "64"}).code, 0);
  const json run =
      parsed(kvass({"run", from, "-p", "the", "-n", "4", "--context", "64", "-t", "1", "--json", "--ignore-eos"}));
  EXPECT_EQ(run.at("ids").size(), 4u);
  const std::string kvp = path_of("folder.kvp");
  EXPECT_EQ(kvass({"export", from, "-o", kvp, "--context", "64", "--chunk", "16"}).code, 0);
  EXPECT_EQ(parsed(kvass({"run", kvp, "-p", "the", "-n", "4", "-t", "1", "--json", "--ignore-eos"})).at("ids"),
            run.at("ids"));
  const Finished diff = kvass({"inspect", "--diff", from, kvp, "--json"});
  EXPECT_EQ(diff.code, 1) << "their metadata are others";
  EXPECT_EQ(json::parse(diff.out).at("tensors").at("different").size(), 0u);
}

}  // namespace
}  // namespace kvass
