// Layouts against a brute-force slot array, and their behaviour at the edges of their range.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "kvass/layout.h"

namespace kvass {
namespace {

// What the layouts promise, played on an array of slots: every position is written where the rule of the seed puts it.
class SlotArray {
 public:
  explicit SlotArray(const Layout& layout)
      : kind_(layout.kind()),
        sink_(layout.sink()),
        window_(layout.window()),
        ring_(layout.ring_slots()),
        held_(static_cast<size_t>(sink_ + ring_), -1) {}

  int64_t slot(int64_t position) const { return position < sink_ ? position : sink_ + (position - sink_) % ring_; }
  // Which keys a query sees, once more and plainly. A kind without a case is a warning, which is an error.
  bool rule(int64_t key, int64_t query) const {
    if (key > query) return false;
    switch (kind_) {
      case LayoutKind::full:
        return window_ == 0 || query - key < window_;
      case LayoutKind::ring:
      case LayoutKind::sink_ring:
        return key < sink_ || query - key < window_;
      case LayoutKind::chunked:
        return key / window_ == query / window_;
    }
    return false;
  }

  // Writes [start, start + count); false when a row of the chunk misses a key that the rule shows it.
  bool write(int64_t start, int64_t count) {
    for (int64_t p = start; p < start + count; ++p) held_[static_cast<size_t>(slot(p))] = p;
    for (int64_t query = start; query < start + count; ++query) {
      for (int64_t key = 0; key <= query; ++key) {
        if (rule(key, query) && held_[static_cast<size_t>(slot(key))] != key) return false;
      }
    }
    return true;
  }
  void put(int64_t position) { held_[static_cast<size_t>(slot(position))] = position; }
  // Whether every key that a row at `query` sees, itself aside, is there.
  bool sees_all(int64_t query) const {
    for (int64_t key = 0; key < query; ++key) {
      if (rule(key, query) && held_[static_cast<size_t>(slot(key))] != key) return false;
    }
    return true;
  }
  const std::vector<int64_t>& held() const { return held_; }

 private:
  LayoutKind kind_;
  int64_t sink_, window_, ring_;
  std::vector<int64_t> held_;  // [slots] the position in each, -1 while unfilled
};

// Every layout of every kind with a few slots.
std::vector<Layout> small_layouts() {
  std::vector<Layout> layouts;
  for (const LayoutKind kind : kLayoutKinds) {
    const size_t before = layouts.size();
    for (int64_t sink = 0; sink <= 3; ++sink) {
      for (int64_t window = 0; window <= 5; ++window) {
        for (int64_t ring = 1; ring <= window + 4; ++ring) {
          const Result<Layout> layout = Layout::make(kind, {sink, window, ring});
          if (layout.ok()) layouts.push_back(layout.value());
        }
      }
    }
    EXPECT_GT(layouts.size(), before + 20) << layout_kind_name(kind);
  }
  return layouts;
}
std::string name_of(const Layout& layout) {
  return std::string(layout_kind_name(layout.kind())) + "(" + layout.arguments() + ")";
}

std::set<int64_t> keys_of(const RowVisibility& row) {
  std::set<int64_t> keys;
  for (int64_t k = 0; k < row.sink_end; ++k) keys.insert(k);
  for (int64_t k = row.begin; k < row.end; ++k) keys.insert(k);
  return keys;
}

// The runs of a step name every position once, in order, in the slots that hold it, and no two runs could be one.
void expect_runs(const Layout& layout, int64_t start, int64_t count, const SlotArray& array) {
  const auto walk = [&](const std::vector<SlotRun>& runs) {
    std::vector<int64_t> positions;
    for (size_t i = 0; i < runs.size(); ++i) {
      for (int64_t at = 0; at < runs[i].count; ++at) {
        EXPECT_EQ(array.held().at(static_cast<size_t>(runs[i].slot + at)), runs[i].position + at);
        positions.push_back(runs[i].position + at);
      }
      if (i > 0 && runs[i - 1].slot + runs[i - 1].count == runs[i].slot) {
        EXPECT_NE(runs[i - 1].position + runs[i - 1].count, runs[i].position);
      }
    }
    return positions;
  };
  std::vector<int64_t> written, seen;
  for (int64_t p = start; p < start + count; ++p) written.push_back(p);
  for (int64_t key = 0; key < start + count; ++key) {
    const auto sees = [&](int64_t query) { return array.rule(key, query); };
    if (std::any_of(written.begin(), written.end(), sees)) seen.push_back(key);
  }
  EXPECT_EQ(walk(layout.write_runs(start, count)), written);
  EXPECT_EQ(walk(layout.read_runs(start, count)), seen);
}

// One stream of `positions` tokens cut at the set bits of `cuts`. Counts accepted steps.
void play(const Layout& layout, int64_t positions, unsigned cuts, int64_t& accepted, int64_t& refused) {
  SlotArray array(layout);
  for (int64_t start = 0; start < positions;) {
    int64_t count = 1;
    while (start + count < positions && (cuts >> (start + count - 1) & 1u) == 0) ++count;
    const bool lossless = array.write(start, count) && (layout.endless() || start + count <= layout.slots());
    ASSERT_EQ(layout.check_extend(start, start, count).ok(), lossless)
        << "start " << start << ", count " << count << ", cuts " << cuts;
    if (!lossless) {
      ++refused;
      return;
    }
    ++accepted;
    const int64_t length = start + count;
    for (int64_t slot = 0; slot < layout.slots(); ++slot) {
      ASSERT_EQ(layout.position_at(slot, length), array.held()[static_cast<size_t>(slot)])
          << "slot " << slot << ", length " << length;
    }
    for (int64_t query = start; query < length; ++query) {
      std::set<int64_t> expected;
      for (int64_t key = 0; key < length; ++key) {
        ASSERT_EQ(layout.visible(key, query), array.rule(key, query)) << "key " << key << ", query " << query;
        if (array.rule(key, query)) expected.insert(key);
      }
      ASSERT_EQ(keys_of(layout.row_visibility(query)), expected) << "query " << query;
      ASSERT_EQ(layout.slot(query), array.slot(query)) << "query " << query;
    }
    expect_runs(layout, start, count, array);
    start = length;
  }
}

TEST(Layout, EveryChunkingOfSmallStreamsEqualsAnArrayOfSlots) {
  constexpr int64_t kPositions = 12;
  int64_t accepted = 0, refused = 0;
  for (const Layout& layout : small_layouts()) {
    SCOPED_TRACE(name_of(layout));
    for (unsigned cuts = 0; cuts < (1u << (kPositions - 1)); ++cuts) {
      play(layout, kPositions, cuts, accepted, refused);
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
  EXPECT_GT(accepted, 100000);
  EXPECT_GT(refused, 10000);
}

TEST(Layout, HoldsIsWhetherEveryKeyThatTheNextRowSeesIsInItsSlot) {
  for (const Layout& layout : small_layouts()) {
    if (!layout.endless()) continue;
    SCOPED_TRACE(name_of(layout));
    // A stream of 20 tokens, back to each position in turn, on from there, and back once more.
    for (int64_t back = 0; back <= 20; ++back) {
      SlotArray array(layout);
      int64_t first_held = layout.sink();
      const auto run = [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; ++p) array.put(p);
        first_held = layout.first_held_after(first_held, end);
      };
      run(0, 20);
      ASSERT_EQ(layout.holds(first_held, back), array.sees_all(back)) << back;
      if (!layout.holds(first_held, back)) continue;
      run(back, back + 2);
      for (int64_t again = std::max(back, layout.sink()); again <= back + 2; ++again) {
        ASSERT_TRUE(!layout.holds(first_held, again) || array.sees_all(again)) << back << ", " << again;
      }
    }
  }
}

TEST(Layout, RewindFloorIsTheLeastLengthFromWhichAllCanResume) {
  for (const Layout& layout : small_layouts()) {
    if (!layout.endless()) continue;
    SCOPED_TRACE(name_of(layout));
    EXPECT_EQ(layout.rewind_floor(layout.sink()), 0);
    for (int64_t end = layout.slots() + 1; end <= layout.slots() + 12; ++end) {
      const int64_t first_held = layout.first_held_after(layout.sink(), end);
      const int64_t floor = layout.rewind_floor(first_held);
      for (int64_t length = floor; length <= end; ++length) ASSERT_TRUE(layout.holds(first_held, length)) << length;
      if (layout.window() > 1 && floor <= end) {
        ASSERT_FALSE(layout.holds(first_held, floor - 1)) << floor;
      }
    }
  }
}

TEST(Layout, RingKeepsSinkAcrossThreeWraps) {
  const Layout layout = Layout::sink_ring(4, 8, 12).value();
  for (int64_t length = 1; length <= 4 + 3 * 12; ++length) {
    for (int64_t slot = 0; slot < 4; ++slot) EXPECT_EQ(layout.position_at(slot, length), slot < length ? slot : -1);
    const int64_t newest = length - 1;
    EXPECT_EQ(layout.position_at(layout.slot(newest), length), newest);
    if (newest >= 4 + 12) {
      EXPECT_FALSE(layout.visible(newest - 12, newest));
    }
    EXPECT_TRUE(layout.visible(0, newest));
  }
}

TEST(Layout, MaxChunkIsTheLongestThatIsAcceptedAnywhereOnceTheRingHasWrapped) {
  for (const Layout& layout : small_layouts()) {
    if (!layout.endless()) continue;
    SCOPED_TRACE(name_of(layout));
    bool longer = true;
    const int64_t wrapped = layout.sink() + 5 * layout.ring_slots() + 3;
    for (int64_t length = wrapped; length < wrapped + layout.window(); ++length) {
      EXPECT_TRUE(layout.check_extend(length, length, layout.max_chunk()).ok()) << length;
      longer = longer && layout.check_extend(length, length, layout.max_chunk() + 1).ok();
    }
    EXPECT_FALSE(longer);
  }
}

TEST(Layout, FullLayoutSeesEverythingOrItsWindow) {
  const Layout all = Layout::full(20).value();
  const Layout windowed = Layout::full(20, 6).value();
  EXPECT_FALSE(all.endless());
  for (int64_t query = 0; query < 20; ++query) {
    EXPECT_EQ(all.slot(query), query);
    EXPECT_EQ(all.position_at(query, query), -1);
    EXPECT_EQ(all.position_at(query, query + 1), query);
    std::set<int64_t> every, latest;
    for (int64_t key = 0; key < 20; ++key) {
      if (key <= query) every.insert(key);
      if (key <= query && query - key < 6) latest.insert(key);
      EXPECT_EQ(all.visible(key, query), every.count(key) == 1);
      EXPECT_EQ(windowed.visible(key, query), latest.count(key) == 1);
    }
    EXPECT_EQ(keys_of(all.row_visibility(query)), every);
    EXPECT_EQ(keys_of(windowed.row_visibility(query)), latest);
  }
}

TEST(Layout, APeriodOfAChunkedLayoutForgetsTheOneBeforeIt) {
  const Layout layout = Layout::chunked(8192, 16384).value();
  EXPECT_EQ(layout.row_visibility(8191).begin, 0);
  EXPECT_EQ(layout.row_visibility(8192).begin, 8192);
  EXPECT_EQ(layout.row_visibility(8192).end, 8193);
  // To go on at 20,000 takes the keys from 16,384 on, more than a window of the latest few would say.
  EXPECT_TRUE(layout.holds(16384, 20000));
  EXPECT_FALSE(layout.holds(16385, 20000));
  EXPECT_EQ(layout.rewind_floor(16385), 24576);
  const int64_t far = (int64_t{1} << 60) + 5;
  EXPECT_EQ(layout.row_visibility(far).begin, int64_t{1} << 60);
}

TEST(Layout, FullCacheNamesTheFlagThatMakesTheStreamEndless) {
  const Layout layout = Layout::full(10).value();
  EXPECT_TRUE(layout.check_extend(0, 0, 10).ok());
  EXPECT_TRUE(layout.check_extend(10, 10, 0).ok());
  const Status status = layout.check_extend(7, 7, 4);
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.message().find("at most 10"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("got 11"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("raise CacheOptions.context"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("CacheOptions.sinks"), std::string::npos) << status.message();
}

TEST(Layout, GapsStepsBackAndNegativeCountsAreRefusedAndChangeNothing) {
  for (const Layout& layout : {Layout::full(100).value(), Layout::ring(8, 16).value(),
                               Layout::sink_ring(4, 8, 16).value(), Layout::chunked(8, 16).value()}) {
    const Layout before = layout;
    EXPECT_FALSE(layout.check_extend(20, 21, 1).ok());
    EXPECT_FALSE(layout.check_extend(20, 19, 1).ok());
    EXPECT_FALSE(layout.check_extend(0, -1, 1).ok());
    EXPECT_FALSE(layout.check_extend(20, 20, -1).ok());
    EXPECT_FALSE(layout.check_extend(20, 20, std::numeric_limits<int64_t>::max()).ok());
    EXPECT_FALSE(layout.check_extend(20, std::numeric_limits<int64_t>::max(), 1).ok());
    EXPECT_FALSE(layout.check_extend(20, std::numeric_limits<int64_t>::min(), 1).ok());
    EXPECT_TRUE(layout.check_extend(20, 20, 0).ok());
    EXPECT_TRUE(layout.check_extend(20, 20, 1).ok());
    EXPECT_EQ(layout, before);
  }
}

TEST(Layout, SizesOutsideTheirRangeAreErrorsThatNameTheField) {
  const int64_t most = int64_t{1} << 40;
  const auto message = [](const Result<Layout>& layout) { return layout.ok() ? "" : layout.status().message(); };
  EXPECT_NE(message(Layout::full(0)).find("capacity"), std::string::npos);
  EXPECT_NE(message(Layout::full(-5)).find("got -5"), std::string::npos);
  EXPECT_NE(message(Layout::full(most + 1)).find("capacity"), std::string::npos);
  EXPECT_NE(message(Layout::full(10, -1)).find("window"), std::string::npos);
  EXPECT_NE(message(Layout::sink_ring(-1, 4, 8)).find("sink"), std::string::npos);
  EXPECT_NE(message(Layout::sink_ring(4, 0, 8)).find("window"), std::string::npos);
  EXPECT_NE(message(Layout::sink_ring(4, 4, 0)).find("ring"), std::string::npos);
  EXPECT_NE(message(Layout::sink_ring(4, 4, 3)).find("window of 4"), std::string::npos);
  EXPECT_NE(message(Layout::make(LayoutKind::ring, {4, 4, 8})).find("sink"), std::string::npos);
  EXPECT_NE(message(Layout::make(LayoutKind::full, {4, 0, 8})).find("sink"), std::string::npos);
  EXPECT_NE(message(Layout::make(LayoutKind::sink_ring, {0, 4, 8})).find("sink"), std::string::npos);
  EXPECT_NE(message(Layout::ring(most + 1, most + 1)).find("window"), std::string::npos);
  EXPECT_NE(message(Layout::ring(1, std::numeric_limits<int64_t>::max())).find("ring"), std::string::npos);
  EXPECT_TRUE(Layout::full(most).ok());
  EXPECT_TRUE(Layout::sink_ring(most, most, most).ok());
}

TEST(Layout, HugeSizesAndPositionsDoNotOverflow) {
  const int64_t most = int64_t{1} << 40;
  for (const Layout& layout : {Layout::sink_ring(4, 508, 1024).value(), Layout::sink_ring(most, most, most).value(),
                               Layout::ring(most - 1, most).value()}) {
    for (const int64_t far : {int64_t{1} << 59, int64_t{1} << 60, (int64_t{1} << 60) + 12345}) {
      const int64_t position = far + layout.sink();
      const int64_t slot = layout.slot(position);
      EXPECT_GE(slot, layout.sink());
      EXPECT_LT(slot, layout.slots());
      EXPECT_EQ(layout.position_at(slot, position + 1), position);
      EXPECT_EQ(layout.position_at(layout.slot(position + 1), position + 1), position + 1 - layout.ring_slots());
      const RowVisibility row = layout.row_visibility(position);
      EXPECT_EQ(row.sink_end, layout.sink());
      EXPECT_EQ(row.begin, position - layout.window() + 1);
      EXPECT_EQ(row.end, position + 1);
      EXPECT_TRUE(layout.visible(position, position));
      EXPECT_TRUE(layout.visible(position - layout.window() + 1, position));
      EXPECT_FALSE(layout.visible(position - layout.window(), position));
      EXPECT_TRUE(layout.check_extend(position, position, 1).ok());
    }
    const int64_t beyond = int64_t{1} << 62;
    EXPECT_FALSE(layout.check_extend(beyond, beyond, 1).ok());
  }
}

TEST(Layout, PlainRingIsSinkRingWithoutSinks) {
  EXPECT_EQ(Layout::ring(5, 9).value(), Layout::sink_ring(0, 5, 9).value());
  EXPECT_EQ(Layout::ring(5, 9)->kind(), LayoutKind::ring);
  EXPECT_EQ(Layout::sink_ring(1, 5, 9)->kind(), LayoutKind::sink_ring);
  EXPECT_EQ(layout_kind_name(LayoutKind::full), "full");
  EXPECT_EQ(layout_kind_name(LayoutKind::ring), "ring");
  EXPECT_EQ(layout_kind_name(LayoutKind::sink_ring), "sink_ring");
  EXPECT_EQ(name_of(Layout::full(20, 6).value()), "full(20, window=6)");
  EXPECT_EQ(name_of(Layout::sink_ring(1, 5, 9).value()), "sink_ring(1, 5, 9)");
  EXPECT_EQ(Layout::sink_ring(1, 5, 9)->summary(), "1+5");
}

// The planner's ring: while a chunk stands at any offset, the tiles from the oldest visible key to the newest written
// one are all different, and no fewer tiles would do.
TEST(RingSlots, NewestAndOldestTileNeverShareSlotsAndNoTileIsSpare) {
  for (int64_t window = 1; window <= 200; ++window) {
    for (int64_t chunk = 1; chunk <= 70; ++chunk) {
      const int64_t slots = ring_slots_for(window, chunk);
      ASSERT_EQ(slots % kTileKeys, 0);
      KeySegment segment;
      segment.tiles = slots / kTileKeys;
      int64_t most_tiles = 0;
      for (int64_t start = 0; start < kTileKeys; ++start) {
        const int64_t base = 64 * 1000 + window;  // far from the start of the stream
        const int64_t oldest = base + start - window + 1;
        const int64_t newest = base + start + chunk - 1;
        const int64_t tiles = newest / kTileKeys - oldest / kTileKeys + 1;
        most_tiles = std::max(most_tiles, tiles);
        if (tiles > 1) {
          ASSERT_NE(segment.tile_of(oldest), segment.tile_of(newest)) << "window " << window << ", chunk " << chunk;
        }
        ASSERT_LE(tiles, segment.tiles) << "window " << window << ", chunk " << chunk << ", start " << start;
      }
      ASSERT_EQ(most_tiles, segment.tiles) << "window " << window << ", chunk " << chunk;
    }
  }
}

TEST(RingSlots, TileAndLaneOfAPositionAreItsSlotInTheRing) {
  for (const int64_t sink : {0, 1, 4, 63, 64, 70}) {
    const int64_t ring = ring_slots_for(100, 30);
    const Layout layout = Layout::sink_ring(sink, 100, ring).value();
    KeySegment segment;
    segment.tiles = ring / kTileKeys;
    segment.origin = sink;
    for (int64_t p = sink; p < sink + 5 * ring; ++p) {
      ASSERT_EQ(sink + segment.tile_of(p) * kTileKeys + KeySegment::lane_of(p - sink), layout.slot(p)) << p;
    }
  }
}

}  // namespace
}  // namespace kvass
