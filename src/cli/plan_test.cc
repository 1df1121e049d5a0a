// `kvass plan`: what a run maps, bare layers by the export rule, and --memory-limit.
#include "cli/test_files.h"
#include "goldens.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

Arguments layers(const json& test) {
  Arguments arguments = {"plan", "--json", "--kv", "f16"};
  const auto flag = [&](const char* name, const char* key) {
    if (test.contains(key) && !test[key].is_null()) {
      arguments.push_back(std::string(name) + "=" + std::to_string(test[key].get<int64_t>()));
    }
  };
  flag("--layers", "n_layers");
  flag("--kv-heads", "n_kv_heads");
  flag("--head-dim", "head_dim");
  flag("--max-context-len", "max_context_len");
  flag("--input-len", "input_len");
  flag("--sliding-window", "sliding_window");
  flag("--sliding-window-pattern", "sliding_window_pattern");
  return arguments;
}

TEST(Plan, IsWhatARunMaps) {
  const std::vector<Arguments> streams = {
      {}, {"--attention-sink", "4,60"}, {"--context", "1000", "--chunk", "33", "--kv", "f32"}, {"--math", "f32"}};
  for (const Arguments& stream : streams) {
    const json plan = parsed(kvass(with({"plan", tiny(), "--json"}, stream)));
    ASSERT_EQ(plan.at("layers").size(), 7u);
    size_t cache = 0, mapped = 0;
    for (const json& layer : plan["layers"]) {
      cache += layer.at("k_bytes").get<size_t>() + layer.at("v_bytes").get<size_t>();
      mapped += layer.at("allocated_bytes").get<size_t>();
      EXPECT_GE(layer.at("slots"), layer.at("cache_len"));
    }
    EXPECT_EQ(plan.at("cache_bytes"), cache);
    EXPECT_EQ(plan.at("allocated_bytes"), mapped);
    EXPECT_GE(plan.at("all_full_bytes"), plan["cache_bytes"]);
    EXPECT_LE(plan.at("all_sliding_bytes"), plan["cache_bytes"]);
    const json stats = parsed(kvass(with({"run", tiny(), "--json", "-p", "the end", "-n", "1"}, stream)))["stats"];
    EXPECT_EQ(stats["arena_bytes"], plan.at("arena_bytes"));
    EXPECT_EQ(stats["allocated_bytes"], plan.at("total_bytes"));
  }
  const json sinks = parsed(kvass({"plan", tiny(), "--json", "--attention-sink", "4,60"}));
  EXPECT_EQ(sinks["layers"][0]["kind"], "ring");
  EXPECT_EQ(sinks["layers"][0]["cache_len"], 16);
  EXPECT_EQ(sinks["layers"][2]["kind"], "sink_ring");
  EXPECT_EQ(sinks["layers"][2]["cache_len"], 64);
  EXPECT_EQ(parsed(kvass({"plan", tiny(), "--json"}))["layers"][2]["kind"], "full");
  EXPECT_TRUE(has(kvass({"plan", tiny(), "--attention-sink", "4,60"}).out, "4+60"));
}

TEST(Plan, BareLayersFollowTheExportRule) {
  const std::optional<json> golden = load_golden("cache_lens.json");
  ASSERT_TRUE(golden);
  for (const json& test : (*golden)["cases"]) {
    SCOPED_TRACE(test["name"].get<std::string>());
    if (test.contains("error") || test.contains("project_error")) {
      json whole = test;
      if (!whole.contains("n_kv_heads")) whole.update({{"n_kv_heads", 2}, {"head_dim", 8}});
      expect_refused(kvass(layers(whole)), 1);
      continue;
    }
    const json plan = parsed(kvass(layers(test)));
    std::vector<int64_t> lens;
    size_t allocated = 0;
    for (const json& layer : plan["layers"]) {
      lens.push_back(layer["cache_len"].get<int64_t>());
      EXPECT_GE(layer["slots"], layer["cache_len"]);
      EXPECT_EQ(layer["k_bytes"], layer["v_bytes"]);
      allocated += layer["allocated_bytes"].get<size_t>();
    }
    EXPECT_EQ(lens, test["cache_lens"].get<std::vector<int64_t>>());
    const json& bytes = test["bytes_fp16"];
    EXPECT_EQ(plan["cache_bytes"], bytes["total"]);
    EXPECT_EQ(plan["all_full_bytes"], bytes["total_all_full"]);
    EXPECT_EQ(plan["all_sliding_bytes"], bytes["total_all_sliding"]);
    EXPECT_EQ(plan["allocated_bytes"], allocated);
  }
}

TEST(Plan, LayersStandInPlaceOfAModelNotBesideIt) {
  expect_refused(kvass({"plan"}), 2, {"MODEL, or --layers", "--help`"});
  expect_refused(kvass({"plan", "--layers", "4", "--kv-heads", "1"}), 2, {"--head-dim"});
  expect_refused(kvass({"plan", tiny(), "--layers", "4"}), 2, {"--help`"});
  const Arguments bare = {"plan", "--layers", "4", "--kv-heads", "1", "--head-dim", "64"};
  expect_refused(kvass(with(bare, {"--sliding-window-pattern", "2"})), 1, {"--sliding-window beside it"});
  expect_refused(kvass(with(bare, {"--sliding-window", "8", "--sliding-window-pattern", "1"})), 1, {"at least 2"});
  expect_refused(kvass(with(bare, {"--sliding-window", "0"})), 1, {"--sliding-window"});
  expect_refused(kvass(with(bare, {"--context", "32", "--chunk", "32"})), 1, {"32 - 32 = 0"});
  EXPECT_TRUE(has(kvass(bare).out, "full 4096"));
}

TEST(Plan, MemoryLimitRefusesWithTheLargestThatFits) {
  const json plan = parsed(kvass({"plan", tiny(), "--json", "--context", "4096"}));
  const size_t total = plan["total_bytes"].get<size_t>();
  const Arguments limited = {"plan", tiny(), "--json", "--context", "4096", "--memory-limit"};
  EXPECT_EQ(parsed(kvass(with(limited, {std::to_string(total)}))), plan);
  const Finished refused = kvass(with(limited, {std::to_string(total - 1)}));
  expect_refused(refused, 1, {"--memory-limit", std::to_string(total), "--context "});
  // The proposal fits, and one token more may not.
  const std::string flag = "--context ";
  const std::string proposed = refused.err.substr(refused.err.rfind(flag) + flag.size());
  const int64_t context = std::stoll(proposed);
  EXPECT_LT(context, 4096);
  const Arguments again = {"plan", tiny(), "--json", "--memory-limit", std::to_string(total - 1), "--context"};
  EXPECT_EQ(kvass(with(again, {std::to_string(context)})).code, 0);
  EXPECT_EQ(kvass(with(again, {std::to_string(context + 1)})).code, 1);

  const Finished sinks = kvass({"plan", tiny(), "--attention-sink", "4,5000", "--memory-limit", std::to_string(total)});
  expect_refused(sinks, 1, {"the largest window that fits is --attention-sink 4,"});
  expect_refused(kvass({"plan", tiny(), "--memory-limit", "1"}), 1, {"no context fits"});
  for (const char* wrong : {"0", "-1", "1X", "1KB", "many", "1e400", "nan"}) {
    expect_refused(kvass({"plan", tiny(), std::string("--memory-limit=") + wrong}), 1, {"--memory-limit", "256M"});
  }
  EXPECT_EQ(kvass({"plan", tiny(), "--memory-limit", "1.5GiB"}).code, 0);
}

TEST(Plan, RunAndScoreRefuseBeforeTheyLoad) {
  expect_refused(kvass({"run", tiny(), "-p", "the", "-n", "1", "--memory-limit", "1K"}), 1, {"--memory-limit"});
  expect_refused(kvass({"score", tiny(), "-f", "-", "--memory-limit", "1K"}, "the end"), 1, {"--memory-limit"});
  const size_t total = parsed(kvass({"plan", tiny(), "--json"}))["total_bytes"].get<size_t>();
  EXPECT_EQ(kvass({"run", tiny(), "-p", "the", "-n", "1", "--memory-limit", std::to_string(total)}).code, 0);
}

TEST(Plan, SinkPositionsChangeNoBytesAndOtherNamesAreRefused) {
  const Arguments plan = {"plan", tiny(), "--json", "--attention-sink", "4,60", "--sink-positions"};
  const json in_cache = parsed(kvass(with(plan, {"in-cache"})));
  EXPECT_EQ(parsed(kvass(with(plan, {"original"}))), in_cache);
  EXPECT_EQ(parsed(kvass(with(plan, {"wrapped"}))), in_cache);
  expect_refused(kvass(with(plan, {"in_cache"})), 1, {"--sink-positions: expected in-cache, original or wrapped"});
}

TEST(Plan, APictureStandsBesideTheTable) {
  const std::string file = path_of("plan.svg");
  const Finished plain = kvass({"plan", tiny(), "--context", "64"});
  const Finished done = kvass({"plan", tiny(), "--context", "64", "--svg", file});
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_EQ(done.out, plain.out);
  const std::string svg = read_file(file);
  EXPECT_TRUE(svg.starts_with("<svg ")) << svg;
  EXPECT_TRUE(has(svg, "layer 0") && has(svg, "weights") && has(svg, "arena")) << svg;
  EXPECT_EQ(kvass({"plan", tiny(), "--svg", file}).code, 0) << "a picture may be written again";
  const std::string model = read_file(tiny());
  expect_refused(kvass({"plan", tiny(), "--svg", tiny()}), 1, {"pictures as SVG"});
  EXPECT_EQ(read_file(tiny()), model);
}

}  // namespace
}  // namespace kvass
