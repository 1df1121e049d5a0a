// plan_caches: which layout each layer gets, where its bytes lie, and what is refused.
#include <gtest/gtest.h>

#include <limits>

#include "kvass/cache_plan.h"
#include "seed.h"

namespace kvass {
namespace {

// The layers of Gemma 3 270M: every sixth is full, the others see 512 tokens.
std::vector<CacheShape> gemma_layers() {
  std::vector<CacheShape> layers;
  for (int64_t i = 0; i < 18; ++i) layers.push_back({1, 256, (i + 1) % 6 == 0 ? 0 : 512});
  return layers;
}

std::string refusal(const std::vector<CacheShape>& layers, const CacheOptions& options) {
  const Result<CachePlan> plan = plan_caches(layers, options);
  return plan.ok() ? "" : plan.status().message();
}

// Segments lie one after another, sink before ring, and end with the block.
void expect_in_order(const CachePlan& plan) {
  size_t end = 0;
  for (const LayerCache& layer : plan.layers) {
    EXPECT_EQ(layer.sink_offset, end);
    end += layer.shape.segment_bytes(layer.sink_tiles);
    EXPECT_EQ(layer.ring_offset, end);
    end += layer.shape.segment_bytes(layer.ring_tiles);
    EXPECT_GE(layer.sink_tiles * kTileKeys, layer.layout.sink());
    EXPECT_LT((layer.sink_tiles - 1) * kTileKeys, layer.layout.sink());
    EXPECT_GE(layer.ring_tiles * kTileKeys, layer.layout.ring_slots());
    EXPECT_EQ(layer.slots(), (layer.sink_tiles + layer.ring_tiles) * kTileKeys);
    if (layer.layout.endless()) {
      EXPECT_EQ(layer.ring_tiles * kTileKeys, layer.layout.ring_slots());
    }
  }
  EXPECT_EQ(plan.bytes, end);
}

TEST(CachePlan, BytesOfTheGemmaPlansAreWhatTilesTake) {
  CacheOptions options;
  options.context = 4096;
  options.chunk = 256;
  const CachePlan flat = plan_caches(gemma_layers(), options).value();
  expect_in_order(flat);
  // 512 + 256 − 1 slots are in use at once: 13 tiles wherever they begin.
  const size_t tile = 2 * 64 * 256 * 2;
  EXPECT_EQ(flat.bytes, 3 * 64 * tile + 15 * 13 * tile);
  EXPECT_EQ(flat.chunk, 256);

  options.sinks = true;
  options.sink_tokens = 4;
  options.sink_window = 4092;
  const CachePlan endless = plan_caches(gemma_layers(), options).value();
  expect_in_order(endless);
  const size_t ring_tiles = (4092 + 256 - 1 + 63 + 63) / 64;
  EXPECT_EQ(endless.bytes, 3 * (1 + ring_tiles) * tile + 15 * 13 * tile);
}

TEST(CachePlan, SinksGiveFullLayersASinkRingAndSlidingLayersAPlainRing) {
  CacheOptions options;
  options.context = 512;
  options.sinks = true;
  options.sink_tokens = 4;
  options.sink_window = 508;
  const CachePlan plan = plan_caches(gemma_layers(), options).value();
  ASSERT_EQ(plan.layers.size(), 18u);
  for (size_t i = 0; i < plan.layers.size(); ++i) {
    const Layout& layout = plan.layers[i].layout;
    EXPECT_TRUE(layout.endless());
    if ((i + 1) % 6 == 0) {
      EXPECT_EQ(layout.kind(), LayoutKind::sink_ring);
      EXPECT_EQ(layout.sink(), 4);
      EXPECT_EQ(layout.window(), 508);
      EXPECT_EQ(layout.ring_slots(), ring_slots_for(508, options.chunk));
    } else {
      EXPECT_EQ(layout.kind(), LayoutKind::ring);
      EXPECT_EQ(layout.sink(), 0);
      EXPECT_EQ(layout.window(), 512);
    }
  }
  options.sink_tokens = 0;
  const CachePlan plain = plan_caches(gemma_layers(), options).value();
  EXPECT_EQ(plain.layers[5].layout.kind(), LayoutKind::ring);
  EXPECT_EQ(plain.layers[5].layout.window(), 508);
  EXPECT_EQ(plain.layers[5].sink_tiles, 0);
}

TEST(CachePlan, AContextThatFitsInTheRingNeedsNoRing) {
  CacheOptions options;
  options.chunk = 256;
  const int64_t ring = ring_slots_for(512, 256);
  options.context = ring;
  CachePlan plan = plan_caches(gemma_layers(), options).value();
  for (const LayerCache& layer : plan.layers) EXPECT_EQ(layer.layout.kind(), LayoutKind::full);
  EXPECT_EQ(plan.layers[0].layout.window(), 512);
  EXPECT_EQ(plan.layers[5].layout.window(), 0);
  options.context = ring + 1;
  plan = plan_caches(gemma_layers(), options).value();
  EXPECT_EQ(plan.layers[0].layout.kind(), LayoutKind::ring);
  EXPECT_EQ(plan.layers[5].layout.kind(), LayoutKind::full);
  EXPECT_EQ(plan.layers[5].layout.slots(), ring + 1);
}

TEST(CachePlan, EveryLayoutTakesThePlannedChunkForEver) {
  testing::Random random;
  for (int round = 0; round < 300; ++round) {
    CacheOptions options;
    options.context = random.integer(1, 3000);
    options.chunk = random.integer(1, 400);
    options.sinks = random.integer(0, 1) == 1;
    options.sink_tokens = random.integer(0, 130);
    options.sink_window = random.integer(1, 700);
    if (options.sinks) options.context = std::max(options.context, options.sink_tokens + options.sink_window);
    options.dtype = std::array{DType::f32, DType::f16, DType::bf16}[static_cast<size_t>(random.integer(0, 2))];
    std::vector<CacheShape> layers;
    for (int64_t i = random.integer(1, 6); i > 0; --i) {
      layers.push_back(
          {random.integer(1, 4), 16 * random.integer(1, 8), random.integer(0, 1) * random.integer(1, 600)});
    }
    const Result<CachePlan> plan = plan_caches(layers, options);
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    expect_in_order(plan.value());
    ASSERT_EQ(plan->layers.size(), layers.size());
    for (const LayerCache& layer : plan->layers) {
      EXPECT_EQ(layer.shape.dtype, options.dtype);
      EXPECT_EQ(layer.layout.endless() || !options.sinks, true);
      if (!layer.layout.endless()) continue;
      for (const int64_t length : {int64_t{0}, int64_t{5}, int64_t{1000003}}) {
        EXPECT_TRUE(layer.layout.check_extend(length, length, options.chunk).ok());
      }
    }
  }
}

TEST(CachePlan, SinksAreTheFullLayersOrAllWhereNoneIsFull) {
  CacheOptions options;
  options.sinks = true;
  options.sink_tokens = 4;
  options.sink_window = 100;
  const CachePlan hybrid = plan_caches(gemma_layers(), options).value();
  EXPECT_EQ(hybrid.layers[0].layout.kind(), LayoutKind::ring);
  EXPECT_EQ(hybrid.layers[0].rotary, RotaryPositions());
  EXPECT_EQ(hybrid.layers[5].layout.kind(), LayoutKind::sink_ring);
  EXPECT_EQ(hybrid.layers[5].rotary, (RotaryPositions{SinkPositions::in_cache, 4, 100, 0}));
  EXPECT_TRUE(hybrid.endless());

  const std::vector<CacheShape> sliding(3, CacheShape{1, 32, 100});
  const CachePlan plan = plan_caches(sliding, options).value();
  for (const LayerCache& layer : plan.layers) EXPECT_EQ(layer.layout.kind(), LayoutKind::sink_ring);
  options.sink_window = 101;  // the layers were not trained to look back so far
  const CachePlan clamped = plan_caches(sliding, options).value();
  for (const LayerCache& layer : clamped.layers) {
    EXPECT_EQ(layer.layout.window(), 100);
    EXPECT_EQ(layer.rotary.window, 100);
  }
  EXPECT_EQ(cache_lens(sliding, options).value(), std::vector<int64_t>(3, 104));
  EXPECT_FALSE(plan_caches(gemma_layers(), CacheOptions()).value().endless());
}

TEST(CachePlan, AnOffsetMovesWhatStandsBehindTheSinks) {
  CacheOptions options;
  options.rotary_offset = 1000;
  EXPECT_EQ(plan_caches(gemma_layers(), options)->layers[5].rotary.key(7), 1007);
  EXPECT_EQ(plan_caches(gemma_layers(), options)->layers[0].rotary.key(7), 7);
  options.sinks = true;
  options.sink_window = 100;
  for (const SinkPositions mode : {SinkPositions::in_cache, SinkPositions::original, SinkPositions::wrapped}) {
    options.sink_positions = mode;
    const RotaryPositions rotary = plan_caches(gemma_layers(), options)->layers[5].rotary;
    EXPECT_EQ(rotary.key(3), 3);
    EXPECT_EQ(rotary.sink_query(3), 3);
    EXPECT_EQ(rotary.key(7), mode == SinkPositions::wrapped ? 4 + 1003 % 200 : 1007);
    EXPECT_EQ(rotary.sink_query(7), mode == SinkPositions::in_cache ? 103 : rotary.key(7));
  }
  options.rotary_offset = -1;
  EXPECT_NE(refusal(gemma_layers(), options).find("CacheOptions.rotary_offset"), std::string::npos);
}

TEST(CachePlan, ErrorsNameTheFlags) {
  CacheOptions options;
  options.context = 0;
  EXPECT_NE(refusal(gemma_layers(), options).find("CacheOptions.context"), std::string::npos);
  options = {};
  options.chunk = 0;
  EXPECT_NE(refusal(gemma_layers(), options).find("CacheOptions.chunk"), std::string::npos);
  options = {};
  options.sinks = true;
  options.sink_tokens = 4;
  options.sink_window = 4093;
  EXPECT_NE(refusal(gemma_layers(), options).find("at least 4097"), std::string::npos);
  EXPECT_NE(refusal(gemma_layers(), options).find("CacheOptions.sink_tokens + CacheOptions.sink_window"),
            std::string::npos);
  options.sink_window = 0;
  EXPECT_FALSE(plan_caches(gemma_layers(), options).ok());
  options.sink_window = 100;
  options.sink_tokens = -1;
  EXPECT_FALSE(plan_caches(gemma_layers(), options).ok());
}

TEST(CachePlan, AbsurdSizesAreErrorsAndNeverWrapAround) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  CacheOptions options;
  options.context = kMost;
  EXPECT_FALSE(plan_caches(gemma_layers(), options).ok());
  options = {};
  options.chunk = kMost;
  EXPECT_FALSE(plan_caches(gemma_layers(), options).ok());
  options = {};
  options.sinks = true;
  options.sink_tokens = kMost;
  options.sink_window = kMost;
  EXPECT_FALSE(plan_caches(gemma_layers(), options).ok());
  // 2^40 tokens of 4 layers of 1024 heads of 512 float32: 2^64 bytes.
  options = {};
  options.context = int64_t{1} << 40;
  options.dtype = DType::f32;
  EXPECT_FALSE(plan_caches(std::vector<CacheShape>(4, CacheShape{1024, 512, 0}), options).ok());
}

}  // namespace
}  // namespace kvass
