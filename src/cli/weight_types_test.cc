// The commands on files of every type of weights: all matrices of one type, and the mixtures that files have.
#include "cli/test_files.h"
#include "streams.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

struct Types {
  std::string name;
  std::vector<GgmlType> weights;
};

class WeightTypes : public ::testing::TestWithParam<Types> {
 protected:
  static std::string model(bool floats = false) {
    const std::string path = path_of((GetParam().name + (floats ? "_floats" : "") + ".gguf").c_str());
    TinyConfig config = tiny_of(GetParam().weights);
    config.floats = floats;
    EXPECT_TRUE(TinyModel(config).writer().write(path).ok());
    return path;
  }
  static json ids(const std::string& file) {
    const json result = parsed(kvass({"run", file, "--json", "--ignore-eos", "-p", "the end", "-n", "12"}))["ids"];
    EXPECT_EQ(result.size(), 12u);
    return result;
  }
  static json perplexity(const std::string& file, const std::string& math = "a16") {
    return parsed(kvass({"score", file, "-f", "-", "--json", "--context", "32", "--math", math},
                        "the end and the end and then the end of the end, and the rest"))["ppl"];
  }
};

TEST_P(WeightTypes, EverySetGivesTheSameTextAndScore) {
  const std::string file = model();
  const json text = ids(file), score = perplexity(file);
  EXPECT_GT(score.get<double>(), 1.0);
  for (const Isa isa : available_isas()) {
    ::setenv("KVASS_ISA", std::string(isa_name(isa)).c_str(), 1);
    EXPECT_EQ(ids(file), text) << isa_name(isa);
    EXPECT_EQ(perplexity(file), score) << isa_name(isa);
  }
  ::unsetenv("KVASS_ISA");
}

TEST_P(WeightTypes, AFileOfTheirNumbersAsFloatsHasTheSameScore) {
  EXPECT_EQ(perplexity(model(), "f32"), perplexity(model(true), "f32"));
}

TEST_P(WeightTypes, AnExportedProgramGivesItToo) {
  const std::string file = model(), program = path_of((GetParam().name + ".kvp").c_str());
  const Finished done = kvass({"export", file, "-o", program, "--context", "64"});
  ASSERT_EQ(done.code, 0) << done.err;
  EXPECT_EQ(ids(program), ids(file));
}

std::vector<Types> all_types() {
  std::vector<Types> types;
  for (const GgmlType type : kFileTypes) types.push_back({std::string(ggml_type_name(type)), {type}});
  types.push_back({"Q2_K_file", {GgmlType::Q2_K, GgmlType::Q3_K, GgmlType::Q4_K, GgmlType::Q6_K, GgmlType::IQ4_NL}});
  types.push_back({"IQ2_file", {GgmlType::IQ2_XXS, GgmlType::Q2_K, GgmlType::IQ3_S, GgmlType::Q5_K}});
  types.push_back({"IQ1_file", {GgmlType::IQ1_S, GgmlType::IQ1_M, GgmlType::IQ2_XXS, GgmlType::IQ4_XS}});
  return types;
}

std::string name_of(const ::testing::TestParamInfo<Types>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(All, WeightTypes, ::testing::ValuesIn(all_types()), name_of);

}  // namespace
}  // namespace kvass
