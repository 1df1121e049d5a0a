// kvass score on a tiny model.
#include "cli/test_files.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

TEST(Score, JsonHasItsKeysAndBucketsPartitionTheText) {
  const json ids = TinyModel().tokens(100);
  const Arguments score = {"score", tiny(), "-f", "-", "--ids", "--json"};
  const json done = parsed(kvass(with(score, {"--bucket", "40", "--top", "3"}), ids.dump()));
  EXPECT_EQ(done.at("tokens"), 100);
  ASSERT_EQ(done.at("buckets").size(), 3u);
  double sum = 0.0;
  int64_t at = 0;
  for (const json& bucket : done["buckets"]) {
    EXPECT_EQ(bucket.at("start"), at);
    at = bucket.at("end");
    sum += bucket.at("nll").get<double>() * static_cast<double>(at - bucket["start"].get<int64_t>());
    EXPECT_NEAR(bucket.at("ppl").get<double>(), std::exp(bucket["nll"].get<double>()), 1e-6 * 1e4);
  }
  EXPECT_EQ(at, 99);
  EXPECT_NEAR(sum / 99.0, done.at("nll").get<double>(), 1e-9);
  ASSERT_EQ(done.at("top").size(), 3u);
  EXPECT_GE(done["top"][0].at("logit"), done["top"][1].at("logit"));
  EXPECT_TRUE(done["top"][0].at("id").is_number_integer());
  EXPECT_GT(done.at("stats").at("tps").get<double>(), 0.0);
  EXPECT_EQ(parsed(kvass(with(score, {"--chunk", "7", "-t", "1"}), ids.dump()))["nll"], done["nll"]) << "bit for bit";
  EXPECT_EQ(parsed(kvass(with(score, {"--max-tokens", "50"}), ids.dump()))["tokens"], 50);
  EXPECT_TRUE(has(kvass({"score", tiny(), "-f", "-", "--ids"}, ids.dump()).out, "tokens 100, nll ")) << "as text";
}

TEST(Score, TextBeginsAsTheFileSaysUnlessToldNotTo) {
  const Arguments score = {"score", tiny(), "-f", "-", "--json"};
  const size_t ids = parsed(kvass({"tokenize", tiny(), "--json"}, "the and an")).size();
  EXPECT_EQ(parsed(kvass(score, "the and an"))["tokens"], ids + 1);
  EXPECT_EQ(parsed(kvass(with(score, {"--no-bos"}), "the and an"))["tokens"], ids);
  expect_refused(kvass(with(score, {"--context", "4"}), "and and and and"), 1, {"--context", "--attention-sink"});
  EXPECT_EQ(kvass(with(score, {"--attention-sink", "1,3"}), "and and and and").code, 0);
}

TEST(Score, APictureHasAPointForEachBucket) {
  const std::string file = path_of("score.svg");
  const Finished done =
      kvass({"score", tiny(), "-f", "-", "--ids", "--bucket", "2", "--plot", file}, "[2,3,4,5,6,7,8]");
  EXPECT_EQ(done.code, 0) << done.err;
  const std::string svg = read_file(file);
  size_t points = 0;
  for (size_t at = svg.find("<circle"); at != std::string::npos; at = svg.find("<circle", at + 1)) ++points;
  EXPECT_EQ(points, 3u) << svg;
  expect_refused(kvass({"score", tiny(), "-f", "-", "--ids", "--plot", tiny()}, "[2,3,4]"), 1, {"pictures as SVG"});
}

}  // namespace
}  // namespace kvass
