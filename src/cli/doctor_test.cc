// kvass doctor, kvass list, and models by name.
#include <sys/stat.h>

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

// What stands in the folder is somebody's, and may be anything.
TEST_F(NamedModels, OfAnyKindAreListedForWhatTheyAre) {
  const std::string folder = scratch_.file("models");
  ASSERT_EQ(::mkfifo((folder + "/pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink("/dev/zero", folder + "/device");
  std::filesystem::create_symlink("loop", folder + "/loop");
  std::filesystem::create_directory(folder + "/folder");
  write_file(folder + "/two\nlines\x1b[31m\xff", "x");
  const json list = parsed(kvass({"list", "--json"}));
  ASSERT_EQ(list.size(), 7u);
  for (const json& row : list) {
    EXPECT_LT(row.at("bytes"), std::uintmax_t{1} << 40) << row;
    const std::string name = row.at("name"), about = row.at("about");
    if (name == "pipe" || name == "device") {
      EXPECT_EQ(about, "neither a file nor a folder");
    }
    if (name == "gone") {
      EXPECT_EQ(about, "the file is gone");
    }
    if (name == "loop") {
      EXPECT_TRUE(has(about, "a link that cannot be followed: ")) << about;
    }
  }
  const Finished done = kvass({"list"});
  EXPECT_EQ(done.code, 0);
  EXPECT_EQ(std::count(done.out.begin(), done.out.end(), '\n'), 7) << done.out;
  EXPECT_EQ(done.out.find('\x1b'), std::string::npos);
  EXPECT_TRUE(has(done.out, "two?lines?[31m\xef\xbf\xbd")) << done.out;
}

TEST_F(NamedModels, AFolderThatCannotBeReadIsNotAnEmptyOne) {
  std::filesystem::remove_all(scratch_.file("models"));
  write_file(scratch_.file("models"), "a file");
  expect_refused(kvass({"list"}), 1, {"models: expected a folder of models", "Not a directory"});
  ::setenv("KVASS_CACHE", "/etc/passwd", 1);
  expect_refused(kvass({"list"}), 1, {"/etc/passwd/models: expected a folder of models"});
  expect_refused(kvass({"run", "tiny", "-p", "x"}), 1, {"tiny"});
}

// Names that the system itself refuses: an error of ours, whatever asks for them first.
TEST(Models, PathsThatCannotBeAreErrorsOfOneKind) {
  const std::string loop = path_of("endless");
  std::filesystem::remove(loop);
  std::filesystem::create_symlink(loop, loop);
  for (const std::string& path :
       {std::string(300, 'a'), "/tmp/" + std::string(300, 'a'), loop, loop + "/x", std::string("/dev/null/x")}) {
    for (const Arguments& arguments : std::vector<Arguments>{
             {"run", path, "-p", "x"}, {"inspect", path}, {"plan", path}, {"transcribe", "x.wav", "-m", path}}) {
      const Finished done = kvass(arguments);
      EXPECT_EQ(done.code, 1) << arguments[0];
      EXPECT_TRUE(has(done.err, "expected ")) << arguments[0] << ": " << done.err;
      EXPECT_FALSE(has(done.err, "filesystem error")) << arguments[0] << ": " << done.err;
    }
  }
  ::setenv("TMPDIR", "/nowhere", 1);
  const Finished done = kvass({"verify", tiny()});
  ::unsetenv("TMPDIR");
  EXPECT_FALSE(has(done.err, "filesystem error")) << done.err;
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

// One model that is none takes nothing away from the report.
TEST(Doctor, AModelThatIsNoneIsSaidBesideTheRest) {
  const Finished text = kvass({"doctor", "/dev/null", tiny(), "none"});
  EXPECT_EQ(text.code, 1);
  for (const char* words : {"cpu ", "memory reads", "/dev/null\n  /dev/null: expected ", "gemma3", "\nnone\n"})
    EXPECT_TRUE(has(text.out, words)) << words << ": " << text.out;
  EXPECT_TRUE(has(text.err, "kvass: /dev/null: expected ")) << text.err;
  const Finished done = kvass({"doctor", "/dev/null", tiny(), "--json"});
  EXPECT_EQ(done.code, 1);
  const json report = json::parse(done.out, nullptr, false);
  ASSERT_TRUE(report.is_object()) << done.out;
  EXPECT_TRUE(has(report.at("models").at(0).at("error").get<std::string>(), "expected "));
  EXPECT_EQ(report.at("models").at(0).at("path"), "/dev/null");
  EXPECT_EQ(report.at("models").at(1).at("family"), "gemma3");
}

TEST(Doctor, ReportsWhereMemoryIsLimited) {
  const Finished done = kvass({"doctor", tiny()}, "", rlim_t{300} << 20);
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_TRUE(has(done.out, "limited to 300.0 MiB") && has(done.out, "memory reads")) << done.out;
}

TEST(Doctor, SaysWhatForces) {
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
