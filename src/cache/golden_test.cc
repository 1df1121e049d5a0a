// Layouts against what ExecuTorch's attention-sink ring and sequence caches do (ring.json, ring_plans.json).
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "goldens.h"
#include "kvass/layout.h"
#include "kvass/sink_positions.h"

namespace kvass {
namespace {

using Json = nlohmann::json;
using Runs = std::vector<std::vector<int64_t>>;  // [start, length] of consecutive slots

Json ring_goldens(const char* name) {
  const std::optional<Json> golden = testing::load_golden(name);
  if (!golden) ADD_FAILURE() << name << " is neither in " KVASS_GOLDENS_DIR " nor in " KVASS_TEST_DATA_DIR;
  return golden.value_or(Json::object());
}

std::vector<int64_t> visible_keys(const Layout& layout, int64_t query, int64_t length) {
  std::vector<int64_t> keys;
  for (int64_t key = 0; key < length; ++key) {
    if (layout.visible(key, query) && layout.position_at(layout.slot(key), length) == key) keys.push_back(key);
  }
  return keys;
}

std::vector<int64_t> range_keys(const RowVisibility& row) {
  std::vector<int64_t> keys;
  for (int64_t key = 0; key < row.sink_end; ++key) keys.push_back(key);
  for (int64_t key = row.begin; key < row.end; ++key) keys.push_back(key);
  return keys;
}

// Steps of a scenario until one is refused; a gap or a step back must be, and so must a step that would lose a key.
void play_scenario(const Json& scenario) {
  const Layout layout = Layout::sink_ring(scenario["sink"].get<int64_t>(), scenario["window"].get<int64_t>(),
                                          scenario["ring"].get<int64_t>())
                            .value();
  EXPECT_EQ(layout.slots(), scenario["cache_size"].get<int64_t>());
  int64_t length = 0;
  bool refused = false;
  for (const Json& step : scenario["steps"]) {
    const int64_t start = step["start_pos"].get<int64_t>();
    const int64_t count = step["len"].get<int64_t>();
    SCOPED_TRACE(::testing::Message() << "step at " << start << ", " << count << " tokens");
    const RotaryPositions in_cache{SinkPositions::in_cache, layout.sink(), layout.window()};
    const RotaryPositions wrapped{SinkPositions::wrapped, layout.sink(), layout.window()};
    std::vector<int64_t> slots, in_cache_positions, wrapped_positions;
    for (int64_t p = start; p < start + count; ++p) {
      slots.push_back(layout.slot(p));
      in_cache_positions.push_back(in_cache.sink_query(p));
      wrapped_positions.push_back(wrapped.key(p));
    }
    EXPECT_EQ(slots, step["slots"].get<std::vector<int64_t>>());
    EXPECT_EQ(in_cache_positions, step["position_in_cache"].get<std::vector<int64_t>>());
    EXPECT_EQ(wrapped_positions, step["position_wrapped_2w"].get<std::vector<int64_t>>());
    const Status status = layout.check_extend(length, start, count);
    const bool follows = start == length;
    const bool complete = step["rows_missing"].empty();
    EXPECT_EQ(status.ok(), follows && complete) << status.message();
    if (!status.ok()) {
      refused = true;
      break;
    }
    length += count;
    EXPECT_EQ(layout.filled_positions(length), step["cache_positions"].get<std::vector<int64_t>>());
    const Runs expected = step["visible"].get<Runs>();
    ASSERT_EQ(expected.size(), static_cast<size_t>(count));
    for (int64_t row = 0; row < count; ++row) {
      EXPECT_EQ(visible_keys(layout, start + row, length), expected[static_cast<size_t>(row)]);
      EXPECT_EQ(range_keys(layout.row_visibility(start + row)), expected[static_cast<size_t>(row)]);
    }
  }
  EXPECT_EQ(refused, !scenario["contiguous_from_0"].get<bool>() || !scenario["lossless"].get<bool>());
}

TEST(RingGoldens, EveryScenarioHasTheSameSlotsPositionsAndVisibleKeys) {
  const Json golden = ring_goldens("ring.json");
  ASSERT_EQ(golden["scenarios"].size(), 26u);
  for (const Json& scenario : golden["scenarios"]) {
    SCOPED_TRACE(scenario["name"].get<std::string>());
    play_scenario(scenario);
  }
}

// What `project` of the file asks for, beside what upstream does.
TEST(RingGoldens, EveryErrorCaseIsAnErrorHere) {
  const Json golden = ring_goldens("ring.json");
  ASSERT_EQ(golden["errors"].size(), 10u);
  for (const Json& error : golden["errors"]) {
    SCOPED_TRACE(error["desc"].get<std::string>());
    const std::string project = error["project"].get<std::string>();
    const int64_t window = error.value("window", int64_t{4});
    const int64_t ring = error.contains("ring") ? error["ring"].get<int64_t>() : 2 * window;
    const Result<Layout> layout = Layout::sink_ring(error["sink"].get<int64_t>(), window, ring);
    if (!layout.ok()) {
      EXPECT_EQ(project, "error");
      continue;
    }
    ASSERT_TRUE(error.contains("updates"));
    const Runs updates = error["updates"].get<Runs>();
    ASSERT_EQ(updates.size(), 1u);
    const Status status = layout->check_extend(0, updates[0][0], updates[0][1]);
    if (project == "error" || project.find("project: error (gap)") != std::string::npos) {
      EXPECT_FALSE(status.ok());
    } else {
      EXPECT_TRUE(status.ok()) << status.message();  // the whole cache at 0 loses nothing; an empty update is nothing
    }
  }
}

TEST(RingGoldens, ARingFilledExactlyBehindItsSinksIsAcceptedAndOneMoreIsNot) {
  const Layout layout = Layout::sink_ring(4, 4, 8).value();
  EXPECT_TRUE(layout.check_extend(4, 4, 8).ok());
  EXPECT_FALSE(layout.check_extend(4, 4, 9).ok());
  EXPECT_TRUE(layout.check_extend(0, 0, 12).ok());
  EXPECT_FALSE(layout.check_extend(0, 0, 13).ok());
}

Runs slot_runs(const std::vector<SlotRun>& runs) {
  Runs pairs;
  for (const SlotRun& run : runs) pairs.push_back({run.slot, run.count});
  return pairs;
}

// One sequence of upstream's planner with our layouts: `max_write` is the planned chunk there.
class PlanPlayer {
 public:
  explicit PlanPlayer(const Json& plan) : capacity_(plan["capacity"].get<int64_t>()) {
    for (const Json& layer : plan["layers"]) {
      const int64_t window = layer["window"].get<int64_t>();
      const bool ring = layer["kind"] == "ring";
      chunks_.push_back(plan["max_write"].is_null() ? (ring ? window : capacity_) : plan["max_write"].get<int64_t>());
      layouts_.push_back(ring ? Layout::ring(window, window + chunks_.back() - 1).value()
                              : Layout::full(capacity_).value());
    }
    first_held_.assign(layouts_.size(), 0);
  }

  void play(const Json& op) {
    const std::string kind = op["op"].get<std::string>();
    const std::vector<int64_t> args = op["args"].get<std::vector<int64_t>>();
    if (kind == "plan") {
      plan(args[0], args[1], args[2], op["result"]);
    } else if (kind == "commit") {
      length_ += pending_;
      pending_ = 0;
      for (size_t i = 0; i < layouts_.size(); ++i) {
        first_held_[i] = layouts_[i].first_held_after(first_held_[i], length_);
      }
    } else if (kind == "can_extend") {
      bool fits = true;
      for (const Layout& layout : layouts_)
        fits = fits && (layout.endless() || layout.check_extend(length_, length_, args[0]).ok());
      EXPECT_EQ(fits, op["result"].get<bool>());
    } else if (kind == "rewind") {
      bool held = args[0] <= length_;
      for (size_t i = 0; i < layouts_.size(); ++i) held = held && layouts_[i].holds(first_held_[i], args[0]);
      EXPECT_EQ(held, op["result"].get<bool>());
      if (held) length_ = args[0];
    } else if (kind == "clear") {
      length_ = 0;
      first_held_.assign(layouts_.size(), 0);
    } else {
      ADD_FAILURE() << "unknown op " << kind;
    }
  }

 private:
  void plan(int64_t layer, int64_t position, int64_t count, const Json& result) {
    if (layer >= static_cast<int64_t>(layouts_.size())) {
      EXPECT_TRUE(result.is_null());
      return;
    }
    const Layout& layout = layouts_[static_cast<size_t>(layer)];
    const Status status = layout.check_extend(length_, position, count);
    if (position != length_) {  // upstream plans gaps; here they are refused
      EXPECT_FALSE(status.ok());
    } else {
      EXPECT_EQ(status.ok() && count <= chunks_[static_cast<size_t>(layer)], !result.is_null()) << status.message();
    }
    if (result.is_null()) return;
    const std::vector<SlotRun> read = layout.read_runs(position, count);
    EXPECT_EQ(slot_runs(layout.write_runs(position, count)), result["write"].get<Runs>());
    EXPECT_EQ(slot_runs(read), result["read"].get<Runs>());
    EXPECT_EQ(read.at(0).position, result["read_base_pos"].get<int64_t>());
    if (position == length_) pending_ = count;
  }

  int64_t capacity_;
  std::vector<Layout> layouts_;
  std::vector<int64_t> chunks_;      // [layers]
  std::vector<int64_t> first_held_;  // [layers]
  int64_t length_ = 0;
  int64_t pending_ = 0;
};

TEST(RingPlanGoldens, WritesReadsAndRefusalsEqualTheSequenceCache) {
  const Json golden = ring_goldens("ring_plans.json");
  ASSERT_EQ(golden["plans"].size(), 11u);
  size_t played = 0;
  for (const Json& plan : golden["plans"]) {
    SCOPED_TRACE(plan["name"].get<std::string>());
    if (!plan["valid"].get<bool>()) {
      if (plan["capacity"] == 0) {
        EXPECT_FALSE(Layout::full(0).ok());
      }
      continue;
    }
    PlanPlayer player(plan);
    for (const Json& op : plan["ops"]) {
      SCOPED_TRACE(op.dump());
      player.play(op);
      ++played;
    }
  }
  EXPECT_GT(played, 50u);
}

// Several sequences: each has its own positions, and sees its own keys only. The pool's cells are upstream's business.
TEST(RingPlanGoldens, EverySequenceOfAPoolSeesItsOwnKeysOnly) {
  const Json golden = ring_goldens("ring_plans.json");
  ASSERT_EQ(golden["multi_sequence"].size(), 6u);
  size_t rows = 0;
  for (const Json& scenario : golden["multi_sequence"]) {
    SCOPED_TRACE(scenario["name"].get<std::string>());
    const std::vector<int64_t> windows = scenario["windows"].get<std::vector<int64_t>>();
    std::map<int64_t, int64_t> lengths;
    for (const Json& step : scenario["steps"]) {
      const std::string kind = step["op"].get<std::string>();
      if (kind == "seq_cp") {
        const int64_t source = lengths[step["args"][0].get<int64_t>()];
        lengths[step["args"][1].get<int64_t>()] = step["args"][2].is_null() ? source : step["args"][2].get<int64_t>();
        continue;
      }
      if (kind == "seq_rm") {
        if (step["args"][1] != 0 || !step["args"][2].is_null()) break;  // a hole in a sequence is not a layout's
        lengths[step["args"][0].get<int64_t>()] = 0;
        continue;
      }
      if (step.contains("error")) continue;  // the pool is full: a sequence here has its own capacity
      const std::vector<int64_t> ids = step["seq_ids"].get<std::vector<int64_t>>();
      const std::vector<int64_t> positions = step["positions"].get<std::vector<int64_t>>();
      for (size_t i = 0; i < ids.size(); ++i) {
        ASSERT_EQ(positions[i], lengths[ids[i]]);
        ++lengths[ids[i]];
        for (size_t w = 0; w < windows.size(); ++w) {
          const Layout layout = Layout::full(scenario["capacity"].get<int64_t>(), windows[w]).value();
          const std::vector<int64_t> expected = step["visible_positions"][w][i].get<std::vector<int64_t>>();
          EXPECT_EQ(visible_keys(layout, positions[i], lengths[ids[i]]), expected);
          EXPECT_EQ(range_keys(layout.row_visibility(positions[i])), expected);
          if (windows[w] > 0) {
            EXPECT_EQ(range_keys(Layout::ring(windows[w], windows[w]).value().row_visibility(positions[i])), expected);
          }
          ++rows;
        }
      }
      for (const auto& [id, length] : step["seq_len"].items())
        EXPECT_EQ(lengths[std::stoll(id)], length.get<int64_t>());
    }
  }
  EXPECT_GT(rows, 40u);
}

}  // namespace
}  // namespace kvass
