#include "session/cross_cache.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "plan/arena.h"

namespace kvass {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 46;  // beyond any machine

size_t aligned(size_t bytes) { return (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment; }

}  // namespace

Result<CrossCache::Plan> CrossCache::plan(const Program& program, DType dtype) {
  const SourceShape& source = program.source;
  Plan plan;
  plan.tiles = (source.rows + kTileKeys - 1) / kTileKeys;
  const auto too_large = [&] {
    return bad_input("cross cache", "below 64 TiB",
                     std::to_string(source.rows) + " rows of " + std::to_string(source.width));
  };
  if (source.rows > static_cast<int64_t>(kMaxBytes / sizeof(float)) / std::max<int64_t>(1, source.width))
    return too_large();
  plan.bytes = aligned(static_cast<size_t>(source.rows * source.width) * sizeof(float));
  for (size_t i = 0; i < program.crosses.size(); ++i) {
    const CrossState& cross = program.crosses[i];
    State state;
    state.shape = {dtype, cross.kv_heads, cross.head_dim};
    state.offset = plan.bytes;
    for (const Op& op : program.ops) {
      state.scanned |= op.kind == OpKind::any_nonzero && op.cross == static_cast<CrossId>(i);
    }
    const size_t most = kMaxBytes / state.shape.tile_bytes() / static_cast<size_t>(cross.kv_heads);
    if (static_cast<size_t>(plan.tiles) > most) return too_large();
    plan.bytes += state.shape.segment_bytes(plan.tiles);
    if (plan.bytes > kMaxBytes) return too_large();
    plan.states.push_back(state);
  }
  return plan;
}

Result<size_t> CrossCache::plan_bytes(const Program& program, DType dtype) {
  KVASS_ASSIGN_OR_RETURN(const Plan planned, plan(program, dtype));
  return planned.bytes;
}

Result<std::shared_ptr<CrossCache>> CrossCache::create(const Program& program, DType dtype) {
  if (!program.has_encoder()) return bad_input("cross cache", "a program with an encoder", "one without");
  KVASS_ASSIGN_OR_RETURN(Plan planned, plan(program, dtype));
  auto cache = std::make_shared<CrossCache>();
  KVASS_ASSIGN_OR_RETURN(cache->block_, Block::map(planned.bytes));
  cache->states_ = std::move(planned.states);
  cache->tiles_ = planned.tiles;
  cache->dtype_ = dtype;
  return cache;
}

void CrossCache::begin(int64_t rows) {
  rows_ = rows;
  for (State& state : states_) {
    if (state.scanned && state.initialised) {
      std::memset(block_.data() + state.offset, 0, state.shape.segment_bytes(tiles_));
    }
    state.initialised = false;
    state.filled = 0;
  }
}

void CrossCache::set_initialised(CrossId id, int64_t filled) {
  State& state = states_[static_cast<size_t>(id)];
  state.initialised = true;
  state.filled = filled;
}

KeySegment CrossCache::segment(CrossId id) {
  return {block_.data() + states_[static_cast<size_t>(id)].offset, tiles_, 0};
}

bool CrossCache::any_nonzero(CrossId id) const {
  const State& state = states_[static_cast<size_t>(id)];
  const uint8_t* begin = block_.data() + state.offset;
  return std::any_of(begin, begin + state.shape.segment_bytes(tiles_), [](uint8_t byte) { return byte != 0; });
}

}  // namespace kvass
