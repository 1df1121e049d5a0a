// kvass pull against a hub on this machine, over cut connections, wrong hashes, full disks and signals.
#include <sys/resource.h>

#include <chrono>
#include <thread>

#include "cli/test_files.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
namespace fs = std::filesystem;

// A hub that serves a temporary folder, and an empty cache folder. Environment variables point kvass to both.
class Pull : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::pipe2(in_, O_CLOEXEC), 0);
    int out[2];
    ASSERT_EQ(::pipe2(out, O_CLOEXEC), 0);
    fs::create_directories(hub_file("o/one"));
    server_ = ::fork();
    if (server_ == 0) {
      ::dup2(in_[0], 0);
      ::dup2(out[1], 1);
      ::execlp("python3", "python3", KVASS_HUB_SERVER, scratch_.file("hub").c_str(), nullptr);
      ::_exit(127);
    }
    ::close(in_[0]);
    ::close(out[1]);
    char port[16] = "";
    const ssize_t count = ::read(out[0], port, sizeof port - 1);
    ::close(out[0]);
    if (count <= 0) GTEST_SKIP() << "SKIPPED: needs python3";
    port_ = std::to_string(std::atoi(port));
    set("HF_ENDPOINT", "http://127.0.0.1:" + port_ + "/");
    set("KVASS_CACHE", scratch_.file("cache"));
    set("HF_HOME", scratch_.file("home"));
    set("no_proxy", "*");
    set("HF_TOKEN", "");
    content_ = read_file(tiny());
    write_file(hub_file("o/one/tiny.gguf"), content_);
    write_file(hub_file("o/one/README.md"), "a model\n");
  }
  void TearDown() override {
    ::close(in_[1]);
    ::kill(server_, SIGTERM);
    wait_for(server_);
    for (const auto& [name, value] : before_)
      value ? ::setenv(name.c_str(), value->c_str(), 1) : ::unsetenv(name.c_str());
  }

  void set(const char* name, const std::string& value) {
    const char* before = std::getenv(name);
    before_.emplace_back(name, before ? std::optional<std::string>(before) : std::nullopt);
    ::setenv(name, value.c_str(), 1);
  }
  std::string hub_file(const std::string& path) const { return scratch_.file("hub/" + path); }
  // A file of a repository, in the cache folder.
  std::string pulled_file(const std::string& path) const {
    return cache_file("pulled/http:__127.0.0.1:" + port_ + "/" + path);
  }
  std::string cache_file(const std::string& path) const { return scratch_.file("cache/" + path); }
  void plan(nlohmann::json plan) {
    plan["log"] = scratch_.file("log");
    write_file(hub_file("plan.json"), plan.dump());
    fs::remove(scratch_.file("log"));
  }
  std::string log() const { return read_file(scratch_.file("log")); }
  // The files below the cache folder's `pulled`, without stamps and locks.
  std::vector<std::string> pulled() const {
    std::vector<std::string> names;
    if (!fs::exists(pulled_file(""))) return names;
    for (const auto& entry : fs::recursive_directory_iterator(pulled_file(""))) {
      const std::string name = fs::relative(entry.path(), pulled_file("")).string();
      if (entry.is_regular_file() && !name.ends_with(".sha256")) names.push_back(name);
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  // The one part of tiny.gguf that is there.
  std::string part() const {
    for (const std::string& name : pulled()) {
      if (has(name, "tiny.gguf.part-")) return name;
    }
    return "";
  }

  // Whether `done` comes to hold within a minute.
  template <class Done>
  static bool comes(const Done& done) {
    for (int i = 0; i < 6000; ++i) {
      if (done()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  Scratch scratch_;
  int in_[2] = {-1, -1};
  pid_t server_ = -1;
  std::string port_, content_;
  std::vector<std::pair<std::string, std::optional<std::string>>> before_;
};

const std::string kTiny = "o/one@main/tiny.gguf";

TEST_F(Pull, AModelRunsByItsNameAndIsFetchedOnce) {
  plan({});
  const Finished done = kvass({"pull", "o/one"});
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_EQ(done.out, pulled_file(kTiny) + "\n");
  EXPECT_TRUE(has(done.err, "licence: apache-2.0")) << done.err;
  EXPECT_TRUE(read_file(pulled_file(kTiny)) == content_);
  EXPECT_EQ(pulled(), std::vector<std::string>{kTiny});
  EXPECT_EQ(kvass({"plan", "tiny"}).code, 0);
  EXPECT_TRUE(has(kvass({"list"}).out, "tiny"));

  plan({});
  const nlohmann::json again = parsed(kvass({"pull", "o/one", "--json"}));
  EXPECT_FALSE(has(log(), "resolve")) << log();
  EXPECT_EQ(again["name"], "tiny");
  EXPECT_EQ(again["repository"], "o/one");
  EXPECT_EQ(again["license"], "apache-2.0");
  EXPECT_EQ(again["files"][0]["bytes"], content_.size());
  EXPECT_EQ(again["files"][0]["sha256"].get<std::string>().size(), 64u);
}

TEST_F(Pull, AConnectionThatIsCutGoesOn) {
  plan({{"cut", 20000}, {"cuts", 4}});
  const Finished done = kvass({"pull", "o/one"});
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_TRUE(read_file(pulled_file(kTiny)) == content_);
  EXPECT_EQ(pulled(), std::vector<std::string>{kTiny});
  EXPECT_TRUE(has(log(), "bytes=20000-")) << log();
  EXPECT_TRUE(has(log(), "bytes=80000-")) << log();
}

TEST_F(Pull, WhatHasArrivedIsKeptForTheNextRun) {
  plan({{"cut", 30000}, {"cuts", 1}, {"status", 503}, {"times", 0}});
  set("KVASS_CACHE", scratch_.file("cache"));
  {
    // The first body is cut, and then the server gives none at all.
    plan({{"cut", 0}, {"cuts", 100}});
    const Finished none = kvass({"pull", "o/one"});
    expect_refused({none.code, none.out, none.err.substr(none.err.rfind("kvass:"))}, 1, {"is kept"});
  }
  plan({{"pause", 20}});
  Running slow({"pull", "o/one"});
  ASSERT_TRUE(comes([&] { return !part().empty() && fs::file_size(pulled_file(part())) >= 10000; }));
  slow.signal(SIGINT);
  EXPECT_EQ(slow.end(), 130);
  EXPECT_EQ(fs::file_size(pulled_file(part())), 10000u);
  EXPECT_FALSE(fs::exists(cache_file("models/tiny")));
  plan({});
  EXPECT_EQ(kvass({"pull", "o/one"}).code, 0);
  EXPECT_TRUE(has(log(), "bytes=10000-")) << log();
  EXPECT_TRUE(read_file(pulled_file(kTiny)) == content_);
  EXPECT_EQ(pulled(), std::vector<std::string>{kTiny});
}

TEST_F(Pull, AServerWithoutRangesSendsTheWhole) {
  plan({{"cut", 20000}, {"cuts", 2}, {"ranges", false}});
  EXPECT_EQ(kvass({"pull", "o/one"}).code, 0);
  EXPECT_TRUE(read_file(pulled_file(kTiny)) == content_);
}

TEST_F(Pull, WhatIsNotWhatItShouldBeIsRemoved) {
  plan({{"damage", true}});
  const Finished done = kvass({"pull", "o/one"});
  EXPECT_EQ(done.code, 1);
  EXPECT_EQ(done.out, "");
  EXPECT_TRUE(has(done.err, "SHA-256")) << done.err;
  EXPECT_EQ(pulled(), std::vector<std::string>{});
  EXPECT_FALSE(fs::exists(cache_file("models/tiny")));
}

TEST_F(Pull, ANewVersionReplacesTheOldOne) {
  plan({});
  EXPECT_EQ(kvass({"pull", "o/one"}).code, 0);
  plan({{"changed", "more"}});
  EXPECT_EQ(kvass({"pull", "o/one"}).code, 0);
  EXPECT_TRUE(read_file(pulled_file(kTiny)) == content_ + "more");
  EXPECT_EQ(pulled(), std::vector<std::string>{kTiny});
}

TEST_F(Pull, ABusyServerIsAskedAgain) {
  plan({{"status", 503}, {"times", 2}});
  EXPECT_EQ(kvass({"pull", "o/one"}).code, 0);
  plan({{"changed", "x"}, {"status", 500}, {"times", 100}});
  const Finished done = kvass({"pull", "o/one"});
  EXPECT_EQ(done.code, 1);
  EXPECT_TRUE(has(done.err, "HTTP status 500")) << done.err;
  EXPECT_TRUE(read_file(pulled_file(kTiny)) == content_) << "the old one stays";
}

TEST_F(Pull, ATokenGoesToTheHubAlone) {
  plan({{"token", "secret"}, {"elsewhere", true}});
  expect_refused(kvass({"pull", "o/one"}), 1, {"HF_TOKEN", "401"});
  fs::create_directories(scratch_.file("home"));
  write_file(scratch_.file("home/token"), "secret\n");
  EXPECT_EQ(kvass({"pull", "o/one"}).code, 0);
  EXPECT_TRUE(has(log(), "resolve/")) << log();
  for (std::string_view rest = log(); !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (line.find(" /store/") != std::string_view::npos) {
      EXPECT_TRUE(line.ends_with(" -")) << line;
    }
  }
}

TEST_F(Pull, AFullDiskSaysSo) {
  plan({});
  Finished done;
  {
    const ResourceLimit limit(RLIMIT_FSIZE, 65536);
    done = kvass({"pull", "o/one"});
  }
  EXPECT_EQ(done.code, 1);
  EXPECT_TRUE(has(done.err, "File too large")) << done.err;
  EXPECT_TRUE(has(done.err, "is kept")) << done.err;
  EXPECT_EQ(kvass({"pull", "o/one"}).code, 0);
  EXPECT_TRUE(has(log(), "bytes=65536-")) << log();
  EXPECT_TRUE(read_file(pulled_file(kTiny)) == content_);
}

TEST_F(Pull, AListThatLeavesItsFolderIsRefused) {
  for (const char* path : {"../../out.gguf", "/out.gguf", "a/../../out.gguf", "a\\out.gguf", "a\nb.gguf", ""}) {
    plan({{"rows", {{{"type", "file"}, {"path", path}, {"size", 5}, {"oid", std::string(40, '0')}}}}});
    expect_refused(kvass({"pull", "o/one"}), 1, {"inside of the repository"});
  }
}

TEST_F(Pull, OneOfSeveralModelsIsChosenByAWord) {
  plan({{"page", 2}});
  fs::create_directories(hub_file("o/many/big"));
  for (const char* name : {"m-Q8_0.gguf", "m-Q4_K_S.gguf", "mmproj-m-Q4_K_M.gguf", "big/m-00001-of-00002.gguf",
                           "big/m-00002-of-00002.gguf"})
    write_file(hub_file(std::string("o/many/") + name), content_);
  expect_refused(kvass({"pull", "o/many"}), 1, {"OWNER/REPO:WHICH", "big/m", "m-Q8_0", "m-Q4_K_S"});
  expect_refused(kvass({"pull", "o/many:Q4_K"}), 1, {"a model that is Q4_K"});
  const nlohmann::json listed = parsed(kvass({"pull", "o/many:q8_0", "--list", "--json"}));
  EXPECT_EQ(listed["name"], "m-Q8_0");
  EXPECT_EQ(pulled(), std::vector<std::string>{});
  EXPECT_EQ(kvass({"pull", "o/many:big/m-00002-of-00002.gguf", "--name", "parts"}).out,
            pulled_file("o/many@main/big/m-00001-of-00002.gguf\n"));
  EXPECT_EQ(pulled().size(), 2u);
  write_file(hub_file("o/many/m-Q4_K_M.gguf"), content_);
  EXPECT_EQ(parsed(kvass({"pull", "o/many", "--json"}))["name"], "m-Q4_K_M");
}

TEST_F(Pull, AFolderOfWeightsIsOneModel) {
  plan({});
  fs::create_directories(hub_file("o/folder/onnx"));
  for (const char* name : {"config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors", "model.bin",
                           "training_args.bin", "onnx/config.json"})
    write_file(hub_file(std::string("o/folder/") + name), std::string(2000, 'x'));
  const nlohmann::json done = parsed(kvass({"pull", "o/folder", "--json"}));
  EXPECT_EQ(done["path"], pulled_file("o/folder@main"));
  const std::vector<std::string> expected = {"o/folder@main/chat_template.jinja", "o/folder@main/config.json",
                                             "o/folder@main/model.safetensors", "o/folder@main/tokenizer.json"};
  EXPECT_EQ(pulled(), expected);
  EXPECT_EQ(fs::canonical(cache_file("models/folder")), fs::canonical(pulled_file("o/folder@main")));
}

TEST_F(Pull, AnAddressIsAFileOrAPageOfARepository) {
  plan({});
  const std::string host = "http://127.0.0.1:" + port_;
  EXPECT_EQ(parsed(kvass({"pull", host + "/o/one", "--list", "--json"}))["repository"], "o/one");
  EXPECT_EQ(parsed(kvass({"pull", host + "/o/one/blob/main/tiny.gguf", "--list", "--json"}))["repository"], "o/one");
  const std::string folder = scratch_.file("out");
  EXPECT_EQ(kvass({"pull", host + "/store/o/one/tiny.gguf?download=true", "-o", folder}).out, folder + "/tiny.gguf\n");
  EXPECT_TRUE(read_file(folder + "/tiny.gguf") == content_);
  EXPECT_FALSE(fs::exists(cache_file("models")));
  expect_refused(kvass({"pull", host + "/none.gguf"}), 1, {"404"});
  expect_refused(kvass({"pull", "o/none"}), 1, {"HF_TOKEN"});
  expect_refused(kvass({"pull", "o/one@v2"}), 1, {"revision v2"});
  for (const char* name : {"tiny", "a/b/c", "o/one:", "o/..", "ftp://host/file", "http://", "o /one"})
    expect_refused(kvass({"pull", name}), 1, {"OWNER/REPO"});
}

TEST_F(Pull, ANameMeansOneModel) {
  plan({});
  fs::create_directories(hub_file("p/two"));
  write_file(hub_file("p/two/tiny.gguf"), content_);
  EXPECT_EQ(kvass({"pull", "o/one"}).code, 0);
  const Finished taken = kvass({"pull", "p/two"});
  expect_refused(taken, 1, {"one that is free", "'tiny'"});
  EXPECT_EQ(kvass({"pull", "p/two", "--name", "two"}).code, 0);
  expect_refused(kvass({"pull", "p/two", "--name", "a/b"}), 1, {"letters"});
  fs::remove_all(pulled_file("o/one@main"));
  EXPECT_EQ(kvass({"pull", "p/two"}).code, 0) << "the name's model is gone";
}

TEST_F(Pull, ATokenIsForTheUsersHubAlone) {
  plan({});
  set("HF_TOKEN", "secret");
  set("HF_ENDPOINT", "http://localhost:1");
  EXPECT_EQ(kvass({"pull", "http://127.0.0.1:" + port_ + "/o/one/resolve/main/tiny.gguf"}).code, 0);
  EXPECT_FALSE(has(log(), "secret")) << log();
}

TEST_F(Pull, ModelsOfOneNameFromTwoPlacesAreTwo) {
  plan({});
  const std::string host = "http://127.0.0.1:" + port_ + "/store/";
  fs::create_directories(hub_file("p/two"));
  write_file(hub_file("p/two/tiny.gguf"), content_ + "x");
  EXPECT_EQ(kvass({"pull", host + "o/one/tiny.gguf"}).code, 0);
  expect_refused(kvass({"pull", host + "p/two/tiny.gguf"}), 1, {"one that is free"});
  EXPECT_TRUE(read_file(cache_file("models/tiny")) == content_);
}

TEST_F(Pull, AFileOfTheUsersOwnStays) {
  plan({});
  const std::string folder = scratch_.file("own");
  fs::create_directories(folder);
  write_file(folder + "/tiny.gguf", "mine");
  const Finished done = kvass({"pull", "o/one", "-o", folder});
  EXPECT_EQ(done.code, 1);
  EXPECT_TRUE(has(done.err, "another file, which stays")) << done.err;
  EXPECT_EQ(read_file(folder + "/tiny.gguf"), "mine");
  fs::remove(folder + "/tiny.gguf");
  write_file(folder + "/tiny.gguf.sha256", "mine");
  const Finished again = kvass({"pull", "o/one", "-o", folder});
  EXPECT_EQ(again.code, 1);
  EXPECT_TRUE(has(again.err, "tiny.gguf.sha256: expected no file")) << again.err;
  EXPECT_EQ(read_file(folder + "/tiny.gguf.sha256"), "mine");
  fs::remove(folder + "/tiny.gguf.sha256");
  for (int i = 0; i < 2; ++i) EXPECT_EQ(kvass({"pull", "o/one", "-o", folder}).code, 0) << "again is no change";
  expect_refused(kvass({"pull", "o/one", "-o", folder, "--name", "x"}), 2, {"--name"});
}

TEST_F(Pull, WhatIsCheckedByGitsHashIsFetchedOnceToo) {
  plan({});
  fs::create_directories(hub_file("o/folder"));
  write_file(hub_file("o/folder/config.json"), "{}");
  write_file(hub_file("o/folder/model.safetensors"), std::string(2000, 'x'));
  EXPECT_EQ(kvass({"pull", "o/folder"}).code, 0);
  plan({});
  EXPECT_EQ(kvass({"pull", "o/folder"}).code, 0);
  EXPECT_FALSE(has(log(), "resolve")) << log();
}

TEST_F(Pull, AServerWithoutHeadOrWithoutALengthServesToo) {
  plan({{"no_head", true}});
  EXPECT_EQ(kvass({"pull", "http://127.0.0.1:" + port_ + "/store/o/one/tiny.gguf"}).code, 0);
  write_file(hub_file("o/one/tiny-00001-of-00002.gguf"), content_);
  expect_refused(kvass({"pull", "http://127.0.0.1:" + port_ + "/store/o/one/tiny-00001-of-00002.gguf"}), 1,
                 {"a whole model"});
}

TEST_F(Pull, TwoDoNotFetchOneFile) {
  plan({{"pause", 3}});
  Running first({"pull", "o/one"});
  ASSERT_TRUE(comes([&] { return !part().empty(); }));
  const Finished second = kvass({"pull", "o/one"});
  EXPECT_EQ(second.code, 1);
  EXPECT_EQ(first.end(), 0) << first.err();
  EXPECT_TRUE(read_file(pulled_file(kTiny)) == content_);
}

}  // namespace
}  // namespace kvass
