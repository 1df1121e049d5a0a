// A model that was exported runs like the file that it came from: the same layers, the same bits, the planned memory.
#include "app/export.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <numeric>

#include "app/inspect.h"
#include "app/open.h"
#include "app/plan.h"
#include "damage.h"
#include "goldens.h"
#include "tiny_kvp.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

class Exports : public ::testing::Test {
 protected:
  ~Exports() override {
    std::filesystem::remove(gguf_);
    std::filesystem::remove(kvp_);
  }

  void write(const TinyConfig& config) { ASSERT_TRUE(TinyModel(config).writer().write(gguf_).ok()); }
  Result<ExportSummary> exported(const std::function<void(ExportOptions&)>& change = {}) {
    ExportOptions options;
    options.model = gguf_;
    options.out = kvp_;
    options.stream.context = 96;
    options.stream.chunk = 16;
    options.stream.threads = 1;
    if (change) change(options);
    return export_program(options);
  }
  // Logits after a prompt in chunks and after each of some tokens, one after the other.
  static std::vector<float> logits(const std::string& path, StreamOptions options, const WeightOptions& weights = {},
                                   const char* wants = nullptr, std::optional<Isa> isa = {}) {
    OpenModel model = open_model(path, Math::a16, 2, weights).value();
    if (isa) model.engine = model.engine->with_isa(*isa);
    options.threads = 1;
    OpenStream stream = open_stream(model, options, 1).value();
    std::vector<float> all;
    const std::vector<int32_t> tokens = TinyModel().tokens(50);
    for (size_t at = 0; at < tokens.size();) {
      const size_t count = at < 30 ? std::min<size_t>(16, 30 - at) : 1;
      const kvass::Run run{stream.sequence.get(), static_cast<int64_t>(at), std::span(tokens).subspan(at, count)};
      EXPECT_TRUE(stream.session->step({std::span(&run, 1)}).ok());
      const auto last = static_cast<int32_t>(count - 1);
      const std::span<const float> row = stream.session->step({.logits = std::span(&last, 1)}).value().logits;
      all.insert(all.end(), row.begin(), row.end());
      if (wants != nullptr && count == 1) {
        EXPECT_EQ(stream.session->last_method().name, wants);
      }
      at += count;
    }
    return all;
  }
  static bool same(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
  }

  const std::string gguf_ = temporary_path("export_test.gguf");
  const std::string kvp_ = temporary_path("export_test.kvp");
};

TEST_F(Exports, GiveTheBitsOfTheFileThatTheyCameFrom) {
  write({});
  StreamOptions options;
  options.context = 96;
  options.chunk = 16;
  const std::vector<float> expected = logits(gguf_, options);
  ASSERT_TRUE(exported().ok());
  const StreamOptions own = ModelFile::open(kvp_)->stream_options();
  EXPECT_EQ(own.context, 96);
  EXPECT_EQ(own.chunk, 16);
  EXPECT_TRUE(same(logits(kvp_, own, {}, "forward"), expected));
  WeightOptions weights;
  weights.pages = Pages::huge;
  weights.check = true;
  EXPECT_TRUE(same(logits(kvp_, own, weights), expected));
  for (Isa isa : {Isa::scalar, Isa::avx2}) {
    if (!isa_available(isa, detect_cpu_features())) continue;
    EXPECT_TRUE(same(logits(kvp_, own, {}, nullptr, isa), expected));
  }
  ASSERT_TRUE(exported([](ExportOptions& o) { o.multifunction = true; }).ok());
  EXPECT_TRUE(same(logits(kvp_, own, {}, "decode"), expected)) << "two methods, one cache";
  StreamOptions other = own;  // another plan than the file's
  other.chunk = 32;
  EXPECT_TRUE(same(logits(kvp_, other), expected));
}

TEST_F(Exports, EndlessStreamsAndOtherStorageAreInTheFile) {
  write({});
  StreamOptions options;
  options.attention_sink = AttentionSink{4, 20};
  options.chunk = 16;
  for (const DType kv : {DType::bf16, DType::q8}) {
    options.kv = kv;
    ASSERT_TRUE(exported([&](ExportOptions& o) {
                  o.stream = options;
                  o.stream.threads = 1;
                }).ok());
    const Result<ModelFile> file = ModelFile::open(kvp_);
    ASSERT_TRUE(file.ok()) << file.status().message();
    const StreamOptions own = file->stream_options();
    EXPECT_EQ(own.attention_sink->window, 20);
    EXPECT_EQ(own.kv, kv);
    EXPECT_TRUE(same(logits(kvp_, own), logits(gguf_, options)));
  }
}

TEST_F(Exports, LayersKeepWhatTheExportRuleSays) {
  const std::optional<nlohmann::json> golden = load_golden("cache_lens.json");
  ASSERT_TRUE(golden);
  size_t lengths = 0, refusals = 0;
  for (const nlohmann::json& test : (*golden)["cases"]) {
    SCOPED_TRACE(test["name"].get<std::string>());
    TinyConfig config = tiny_llama();
    config.layers = test["n_layers"].get<int64_t>();
    config.kv_heads = test.value("n_kv_heads", int64_t{1});
    config.heads = config.kv_heads;
    config.head_dim = std::max<int64_t>(16, test.value("head_dim", int64_t{64}));
    config.width = 32;
    write(config);
    const Result<ExportSummary> summary = exported([&](ExportOptions& o) {
      o.stream.context = test["max_context_len"].get<int64_t>();
      o.stream.chunk = test["input_len"].get<int64_t>();
      if (!test["sliding_window"].is_null()) o.sliding_window = test["sliding_window"].get<int64_t>();
      if (!test["sliding_window_pattern"].is_null()) {
        o.sliding_window_pattern = test["sliding_window_pattern"].get<int64_t>();
      }
    });
    if (test.contains("error") || test.contains("project_error")) {
      EXPECT_FALSE(summary.ok());
      ++refusals;
      continue;
    }
    ASSERT_TRUE(summary.ok()) << summary.status().message();
    const Result<StaticProgram> inspected = inspect_static(kvp_, false);
    ASSERT_TRUE(inspected.ok()) << inspected.status().message();
    const StaticProgram& program = inspected.value();
    EXPECT_EQ(program.cache_lens, test["cache_lens"].get<std::vector<int64_t>>());
    size_t bytes = 0;  // of the real caches' shapes, f16
    for (size_t i = 0; i < program.cache_lens.size(); ++i) {
      const TileShape& shape = program.caches.layers[i].shape;
      EXPECT_GE(program.caches.layers[i].slots(), program.cache_lens[i]);
      bytes += static_cast<size_t>(program.cache_lens[i] * shape.kv_heads * shape.head_dim) * 4;
    }
    if (test.value("head_dim", int64_t{0}) >= 16) {
      EXPECT_EQ(bytes, test["bytes_fp16"]["total"].get<size_t>());
    }
    ++lengths;
  }
  EXPECT_GE(lengths, 14u);
  EXPECT_GE(refusals, 5u);
}

TEST_F(Exports, WindowsThatAreNotTheModelsOwnWarn) {
  write({});  // layers 2 and 5 of 7 are full, the others see 16
  const auto warnings = [&](std::optional<int64_t> window, std::optional<int64_t> pattern) {
    return exported([&](ExportOptions& o) {
             o.sliding_window = window;
             o.sliding_window_pattern = pattern;
           })
        ->warnings;
  };
  EXPECT_TRUE(warnings({}, {}).empty());
  EXPECT_TRUE(warnings(16, 3).empty());
  const std::vector<std::string> larger = warnings(32, 3);
  ASSERT_EQ(larger.size(), 1u);
  expect_words(larger[0], {"layers 0-1, 3-4, 6", "16 tokens", "more", "32 tokens"});
  const std::vector<std::string> sliding = warnings(16, {});
  ASSERT_EQ(sliding.size(), 1u);
  expect_words(sliding[0], {"layers 2, 5", "all tokens", "16 tokens", "output changes"});
  EXPECT_EQ(warnings(32, 2).size(), 3u);
  expect_words(exported([](ExportOptions& o) { o.sliding_window_pattern = 3; }).status().message(),
               {"ExportOptions.sliding_window_pattern", "ExportOptions.sliding_window beside"});
}

// Each layer of a mixed transformer sees what its own window says, key by key.
TEST_F(Exports, EveryLayerHasTheMaskOfItsWindow) {
  write({});
  ASSERT_TRUE(exported([](ExportOptions& o) {
                o.sliding_window = 10;
                o.sliding_window_pattern = 2;
              }).ok());
  const StaticProgram program = inspect_static(kvp_, true).value();
  const std::vector<LayerMask> masks = layer_masks(program.caches, 40, 16);
  ASSERT_EQ(masks.size(), 2u);
  EXPECT_EQ(masks[0].layers, (std::vector<size_t>{0, 2, 4, 6}));
  EXPECT_EQ(masks[1].layers, (std::vector<size_t>{1, 3, 5}));
  for (const LayerMask& mask : masks) {
    const int64_t window = &mask == &masks[0] ? 10 : 1000;
    for (int64_t row = 0; row < 16; ++row) {
      for (int64_t key = 0; key < 60; ++key) {
        const RowVisibility& seen = mask.rows[static_cast<size_t>(row)];
        const bool visible = key < seen.sink_end || (key >= seen.begin && key < seen.end);
        EXPECT_EQ(visible, key <= 40 + row && 40 + row - key < window) << row << " " << key;
      }
    }
  }
  const std::string svg = arena_svg(program.program, program.methods[0]);
  EXPECT_TRUE(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
  EXPECT_NE(svg.find("layer 3 attention"), std::string::npos);
}

TEST_F(Exports, WeightsOfAnotherTypeAreTheSameAtExportAndAtLoad) {
  write({});
  StreamOptions options;
  options.context = 96;
  options.chunk = 16;
  const std::vector<float> own = logits(gguf_, options);
  for (WeightType type : {WeightType::Q8_0, WeightType::Q4_0, WeightType::F16, WeightType::BF16, WeightType::F32}) {
    SCOPED_TRACE(weight_type_name(type));
    WeightOptions weights;
    weights.type = type;
    const std::vector<float> at_load = logits(gguf_, options, weights);
    EXPECT_FALSE(same(at_load, own));
    ASSERT_TRUE(exported().ok());
    EXPECT_TRUE(same(logits(kvp_, options, weights), at_load));
    ASSERT_TRUE(exported([&](ExportOptions& o) { o.weights = weight_type_name(type); }).ok());
    EXPECT_TRUE(same(logits(kvp_, options), at_load));
    EXPECT_EQ(PlannedModel::of(ModelFile::open(gguf_).value(), weights)->plan(options, 1)->weight_bytes,
              open_model(gguf_, Math::a16, 1, weights)->engine->weights().bytes());
    // Weights of 8 bits and more leave the logits where they were.
    double difference = 0.0, size = 0.0;
    for (size_t i = 0; i < own.size(); ++i) {
      difference += std::pow(static_cast<double>(own[i]) - static_cast<double>(at_load[i]), 2);
      size += std::pow(static_cast<double>(own[i]), 2);
    }
    EXPECT_LT(std::sqrt(difference / size), type == WeightType::Q4_0 ? 1.0 : 0.05);
  }
}

TEST_F(Exports, MappedWeightsAreNoSecondCopy) {
  write({});
  ASSERT_TRUE(exported().ok());
  const OpenModel mapped = open_model(kvp_, Math::a16, 1).value();
  EXPECT_EQ(mapped.engine->weights().block.bytes(), 0u);
  EXPECT_EQ(mapped.engine->weights().bytes(),
            PlannedModel::of(ModelFile::open(kvp_).value())->plan({}, 1)->weight_bytes);
  WeightOptions weights;
  weights.pages = Pages::mapped;
  expect_words(open_model(gguf_, Math::a16, 1, weights).status().message(), {"WeightOptions.pages", ".kvp"});
  weights.type = WeightType::Q8_0;
  expect_words(open_model(kvp_, Math::a16, 1, weights).status().message(),
               {"WeightOptions.pages", "WeightOptions.type"});
}

TEST_F(Exports, AProgramCanBePlannedAnew) {
  write({});
  ASSERT_TRUE(exported().ok());
  const std::string again = kvp_ + ".again";
  ASSERT_TRUE(exported([&](ExportOptions& o) {
                o.model = kvp_;
                o.out = again;
                o.stream.context = 200;
              }).ok());
  const StreamOptions own = ModelFile::open(again)->stream_options();
  EXPECT_EQ(own.context, 200);
  EXPECT_TRUE(same(logits(again, own), logits(gguf_, own)));
  std::filesystem::remove(again);
}

}  // namespace
}  // namespace kvass
