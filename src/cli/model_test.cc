// The command line on the real model of KVASS_MODEL; skipped without one.
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "cli/test_process.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

class RealModel : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* path = std::getenv("KVASS_MODEL");
    if (path == nullptr || *path == '\0') GTEST_SKIP() << "KVASS_MODEL names no model: skipped";
    model_ = path;
  }
  json run(const Arguments& more) const {
    Arguments arguments = {"run", model_, "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Finished done = kvass(arguments);
    EXPECT_EQ(done.code, 0) << done.err;
    return json::parse(done.out, nullptr, false);
  }
  std::string model_;
};

TEST_F(RealModel, GreedyTextIsTheSameForAnyChunkAndThreads) {
  const json done = run({"-p", "Once upon a time", "-n", "24"});
  EXPECT_EQ(done.at("ids").size(), 24u);
  EXPECT_GT(done.at("text").get<std::string>().size(), 24u);
  EXPECT_EQ(run({"-p", "Once upon a time", "-n", "24", "--chunk", "2", "-t", "1"})["ids"], done["ids"]);
}

TEST_F(RealModel, TheTextMayEndByItselfOrByAStopText) {
  const json done = run({"-p", "Once upon a time", "-n", "24", "--stop", " was"});
  EXPECT_EQ(done.at("stats").at("stop_reason"), "stop_text");
  EXPECT_EQ(done["text"].get<std::string>().find(" was"), std::string::npos);
}

TEST_F(RealModel, TheStreamGoesPastItsContextUntilCtrlC) {
  Running stream({"run", model_, "-p", "Once upon a time", "--endless", "--context", "24"});
  ASSERT_TRUE(stream.read(200));
  stream.signal(SIGINT);
  EXPECT_EQ(stream.end(), 128 + SIGINT);
  EXPECT_NE(stream.err().find("sink_ring 4+20"), std::string::npos) << stream.err();
  EXPECT_NE(stream.err().find(", interrupted\n"), std::string::npos) << stream.err();
}

TEST_F(RealModel, ThePlanIsWhatARunMaps) {
  const Finished told = kvass({"plan", model_, "--json", "--attention-sink", "4,508"});
  const json plan = json::parse(told.out, nullptr, false);
  const json stats = run({"-n", "1", "--attention-sink", "4,508"})["stats"];
  EXPECT_EQ(stats.at("allocated_bytes"), plan.at("total_bytes"));
  EXPECT_EQ(stats.at("arena_bytes"), plan.at("arena_bytes"));
}

TEST_F(RealModel, TextToIdsToTextIsTheIdentity) {
  const std::string text = "Grüße, 世界! \U0001f30a\n\n  def f(x):\n\treturn x  # \xff\n";
  const Finished ids = kvass({"tokenize", model_, "--json"}, text);
  EXPECT_EQ(kvass({"tokenize", model_, "--decode"}, ids.out).out, text);
}

}  // namespace
}  // namespace kvass
