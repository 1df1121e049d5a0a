// Cache lengths a layer against ExecuTorch's resolution of sliding_window and sliding_window_pattern (cache_lens.json).
#include <gtest/gtest.h>

#include <numeric>

#include "goldens.h"
#include "kvass/cache_plan.h"

namespace kvass {
namespace {

using Json = nlohmann::json;

std::optional<int64_t> optional_int(const Json& value) {
  return value.is_null() ? std::optional<int64_t>() : value.get<int64_t>();
}

Result<std::vector<int64_t>> lens_of(const Json& test) {
  LayerPattern pattern;
  pattern.layers = test["n_layers"].get<int64_t>();
  pattern.kv_heads = test.value("n_kv_heads", int64_t{1});
  pattern.head_dim = test.value("head_dim", int64_t{64});
  pattern.sliding_window = optional_int(test["sliding_window"]);
  pattern.sliding_window_pattern = optional_int(test["sliding_window_pattern"]);
  KVASS_ASSIGN_OR_RETURN(const std::vector<CacheShape> shapes, layered_shapes(pattern));
  CacheOptions options;
  options.context = test["max_context_len"].get<int64_t>();
  options.chunk = test["input_len"].get<int64_t>();
  return cache_lens(shapes, options);
}

TEST(CacheLensGoldens, EveryCaseHasUpstreamsLengthsOrIsRefused) {
  const std::optional<Json> golden = testing::load_golden("cache_lens.json");
  ASSERT_TRUE(golden);
  size_t lengths = 0, refusals = 0;
  for (const Json& test : (*golden)["cases"]) {
    SCOPED_TRACE(test["name"].get<std::string>());
    const Result<std::vector<int64_t>> lens = lens_of(test);
    if (test.contains("error") || test.contains("project_error")) {
      EXPECT_FALSE(lens.ok());
      ++refusals;
      continue;
    }
    ASSERT_TRUE(lens.ok()) << lens.status().message();
    EXPECT_EQ(lens.value(), test["cache_lens"].get<std::vector<int64_t>>());
    const size_t token = test["n_kv_heads"].get<size_t>() * test["head_dim"].get<size_t>() * 2;  // bytes, f16
    const auto keys = static_cast<size_t>(std::accumulate(lens->begin(), lens->end(), int64_t{0}));
    EXPECT_EQ(2 * keys * token, test["bytes_fp16"]["total"].get<size_t>());
    ++lengths;
  }
  EXPECT_GE(lengths, 14u);
  EXPECT_GE(refusals, 5u);
}

TEST(CacheLens, WithSinksALayerKeepsItsSinkAndWindow) {
  CacheOptions options;
  options.sinks = true;
  options.sink_tokens = 4;
  options.sink_window = 100;
  EXPECT_EQ(cache_lens({{1, 64, 0}, {1, 64, 32}}, options).value(), (std::vector<int64_t>{104, 32}));
}

}  // namespace
}  // namespace kvass
