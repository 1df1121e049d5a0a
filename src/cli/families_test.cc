// The commands on every family and both kinds of tokenizer: what works for one works for all.
#include "cli/test_files.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

struct Family {
  std::string architecture;
  int64_t window;  // 0: full layers
  bool byte_level;
};

class Families : public ::testing::TestWithParam<Family> {
 protected:
  // A file of this family with a ChatML template.
  static std::string model() {
    const Family& family = GetParam();
    const std::string path = path_of((family.architecture + std::to_string(family.window) + ".gguf").c_str());
    TinyConfig config = tiny_llama(family.architecture);
    config.window = family.window;
    config.byte_level = family.byte_level;
    GgufWriter writer = TinyModel(config).writer();
    writer.str("tokenizer.chat_template",
               "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
               "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}");
    EXPECT_TRUE(writer.write(path).ok());
    return path;
  }
};

TEST_P(Families, TextIsTheSameForEveryChunkAndThreadAndGoesPastTheContext) {
  const std::string file = model();
  const Arguments run = {"run", file,     "--json", "--ignore-eos", "-p", "the end and the",  "-n",
                         "150", "--temp", "0.7",    "--seed",       "3",  "--attention-sink", "4,28"};
  const json whole = parsed(kvass(run));
  EXPECT_EQ(whole["ids"].size(), 150u);
  EXPECT_EQ(parsed(kvass(with(run, {"--chunk", "3", "-t", "1"})))["ids"], whole["ids"]);
  EXPECT_EQ(parsed(kvass(with(run, {"--sink-positions", "wrapped"})))["ids"].size(), 150u);
}

TEST_P(Families, ScoreAndPlanTakeIt) {
  const std::string file = model();
  const json score = parsed(kvass({"score", file, "-f", "-", "--json", "--endless", "--context", "32"},
                                  "the end and the end and then the end of the end, and the rest"));
  EXPECT_GT(score["ppl"].get<double>(), 1.0);
  const json plan = parsed(kvass({"plan", file, "--json", "--context", "1000"}));
  EXPECT_EQ(plan["layers"].size(), 3u);
  EXPECT_EQ(plan["layers"][0]["kind"], GetParam().window > 0 ? "ring" : "full");
  EXPECT_EQ(plan["all_sliding_bytes"].is_null(), GetParam().window == 0);
}

TEST_P(Families, AConversationHasNoEnd) {
  const Finished done = kvass({"chat", model(), "--json", "-n", "30", "--context", "128", "--system", "the end"},
                              "the\nand\nthe end\nand so on\n");
  EXPECT_EQ(done.code, 0) << done.err;
  std::istringstream lines(done.out);
  int turns = 0;
  for (std::string line; std::getline(lines, line); ++turns) {
    const json answer = json::parse(line);
    EXPECT_EQ(answer.at("turn"), turns + 1);
    EXPECT_FALSE(answer.at("prompt_ids").empty());
  }
  EXPECT_EQ(turns, 4);
}

TEST_P(Families, TokenizeComesBack) {
  const std::string text = "the end, and \xe2\x82\xac 12345\n\n  then \xff\xfe";
  const json ids = parsed(kvass({"tokenize", model(), "--json"}, text));
  EXPECT_GT(ids.size(), 5u);
  if (GetParam().byte_level) {
    EXPECT_EQ(ids[0], 3 + 256 + 1) << "the";
  }
}

INSTANTIATE_TEST_SUITE_P(All, Families,
                         ::testing::Values(Family{"llama", 0, true}, Family{"llama", 20, false},
                                           Family{"qwen2", 0, true}, Family{"qwen3", 0, true}),
                         [](const auto& info) { return info.param.architecture + std::to_string(info.param.window); });

}  // namespace
}  // namespace kvass
