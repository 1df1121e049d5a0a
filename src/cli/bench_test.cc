// kvass bench on a tiny model.
#include "cli/test_files.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

TEST(Bench, ReportsARowForEachTestDepthAndBatch) {
  const Arguments bench = {"bench", tiny(), "-p", "8,20", "-n", "5", "-d", "0,30", "-b", "1,3", "-r", "2", "-t", "1"};
  const json rows = parsed(kvass(with(bench, {"--json"})));
  ASSERT_EQ(rows.size(), 8u);
  EXPECT_EQ(rows[0].at("test"), "pp8");
  EXPECT_EQ(rows[7].at("test"), "tg5");
  EXPECT_EQ(rows[7].at("depth"), 30);
  EXPECT_EQ(rows[7].at("batch"), 3);
  for (const json& row : rows) {
    EXPECT_GT(row.at("tps").get<double>(), 0.0);
    EXPECT_GT(row.at("limit_share").get<double>(), 0.0);
  }
  EXPECT_EQ(parsed(kvass({"bench", tiny(), "-p", "0", "-n", "2", "-r", "1", "-d", "100", "--attention-sink", "2,30",
                          "--json"}))
                .size(),
            1u);
  EXPECT_TRUE(has(kvass({"bench", "-p", "4", "-n", "0", "-r", "1", tiny()}).out, "pp4"));
}

TEST(Bench, ProfilesEveryOpOfTheLastRepetition) {
  const Scratch scratch;
  const std::string trace = scratch.file("trace.json");
  const Arguments bench = {"bench", tiny(), "-p", "8", "-n", "5", "-r", "2", "-t", "1", "--trace", trace};
  const json rows = parsed(kvass(with(bench, {"--profile", "--json"})));
  ASSERT_EQ(rows.size(), 2u);
  double seconds = 0.0;
  std::map<std::string, int64_t> calls;
  for (const json& op : rows[1].at("profile").at("ops")) {
    seconds += op.at("seconds").get<double>();
    calls[op.at("op")] += op.at("calls").get<int64_t>();
  }
  EXPECT_GT(seconds, 0.0);
  EXPECT_LE(seconds, rows[1]["profile"].at("seconds").get<double>());
  EXPECT_EQ(calls["embed"], 5);
  EXPECT_EQ(calls["attention"], 5 * 7) << "of 7 layers";
  size_t complete = 0;
  const json timeline = json::parse(read_file(trace));
  for (const json& event : timeline.at("traceEvents")) {
    complete += event.at("ph") == "X" && event.at("pid") == 1 && event.at("cat") == "attention";
  }
  EXPECT_EQ(complete, 35u);
  EXPECT_TRUE(has(kvass(with(bench, {"--profile"})).out, "between ops"));
}

TEST(Bench, APictureHasALineForEachTest) {
  const std::string file = path_of("bench.svg");
  const Finished done = kvass({"bench", tiny(), "-p", "4", "-n", "2", "-d", "0,4", "-r", "1", "--plot", file});
  EXPECT_EQ(done.code, 0) << done.err;
  const std::string svg = read_file(file);
  EXPECT_TRUE(has(svg, "pp4") && has(svg, "tg2") && has(svg, "tokens in the cache")) << svg;
  expect_refused(kvass({"bench", tiny(), "-p", "4", "--plot", tiny()}), 1, {"pictures as SVG"});
}

}  // namespace
}  // namespace kvass
