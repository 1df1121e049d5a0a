// kvass doctor, kvass list, and models by name.
#include "cli/test_files.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

// A cache folder with a model named "tiny" and a name whose file is gone.
class NamedModels : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(scratch_.file("models"));
    std::filesystem::create_symlink(tiny(), scratch_.file("models/tiny"));
    std::filesystem::create_symlink("nowhere", scratch_.file("models/gone"));
    ::setenv("KVASS_CACHE", scratch_.file("").c_str(), 1);
  }
  void TearDown() override { ::unsetenv("KVASS_CACHE"); }
  Scratch scratch_;
};

TEST_F(NamedModels, StandForTheirPaths) {
  const Arguments rest = {"-p", "the and", "-n", "5", "--json"};
  const auto ids = [&](const std::string& model) {
    Arguments arguments = {"run", model};
    arguments.insert(arguments.end(), rest.begin(), rest.end());
    return parsed(kvass(arguments)).at("ids");
  };
  EXPECT_EQ(ids("tiny"), ids(tiny()));
  EXPECT_EQ(kvass({"inspect", "tiny"}).out, kvass({"inspect", tiny()}).out);
  expect_refused(kvass({"run", "other", "-p", "x"}), 1, {"other"});
  expect_refused(kvass({"run", "gone", "-p", "x"}), 1, {"gone"});
  expect_refused(kvass({"run", "./tiny", "-p", "x"}), 1, {"tiny"});  // a path
}

TEST_F(NamedModels, AreListed) {
  const json list = parsed(kvass({"list", "--json"}));
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].at("name"), "gone");
  EXPECT_EQ(list[0].at("path"), "");
  EXPECT_EQ(list[1].at("name"), "tiny");
  EXPECT_EQ(list[1].at("bytes"), std::filesystem::file_size(tiny()));
  EXPECT_TRUE(has(kvass({"list"}).out, "GGUF, gemma3"));
  std::filesystem::remove_all(scratch_.file("models"));
  const Finished none = kvass({"list"});
  EXPECT_EQ(none.code, 0);
  EXPECT_EQ(none.out, "");
  EXPECT_TRUE(has(none.err, "no models"));
}

TEST(Doctor, SaysWhatTheMachineIsAndWhatAModelTakes) {
  const json report = parsed(kvass({"doctor", tiny(), "--json"}));
  EXPECT_GT(report.at("memory_bytes"), 0u);
  EXPECT_GE(report.at("memory_bytes"), report.at("available_bytes"));
  EXPECT_GE(report.at("cpus"), 1);
  for (const double read : report.at("read_bytes_per_s")) EXPECT_GT(read, 1e8);
  for (const char* math : {"f32", "a16", "a8"}) EXPECT_GT(report.at("multiply_adds_per_s").at(math), 1e8);
  EXPECT_TRUE(has(kvass({"--version"}).out, "instruction set " + report.at("isa").get<std::string>()));
  const json model = report.at("models").at(0), plan = parsed(kvass({"plan", tiny(), "--json"}));
  EXPECT_EQ(model.at("total_bytes"), plan.at("total_bytes"));
  EXPECT_EQ(model.at("fits"), true);
  EXPECT_GT(model.at("largest_context"), 0);
}

TEST(Doctor, RefusesAModelThatIsNone) {
  expect_refused(kvass({"doctor", "/dev/null"}), 1, {"expected "});
  const Finished forced = [] {
    ::setenv("KVASS_ISA", "scalar", 1);
    Finished finished = kvass({"doctor"});
    ::unsetenv("KVASS_ISA");
    return finished;
  }();
  EXPECT_EQ(forced.code, 0);
  EXPECT_TRUE(has(forced.out, "note"));
}

}  // namespace
}  // namespace kvass
