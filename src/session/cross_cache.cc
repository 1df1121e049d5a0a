#include "session/cross_cache.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "plan/arena.h"
#include "program/op_spec.h"

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
      state.scanned |= op_spec(op.kind).scans_cross && op.cross == static_cast<CrossId>(i);
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
  KVASS_ASSIGN_OR_RETURN(cache->block_, Block::map(planned.bytes, "cross caches"));
  cache->states_ = std::move(planned.states);
  cache->tiles_ = planned.tiles;
  cache->width_ = program.source.width;
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

bool CrossCache::filled() const {
  return rows_ > 0 && std::all_of(states_.begin(), states_.end(), [](const State& state) { return state.initialised; });
}

CrossFill CrossCache::fill() const {
  CrossFill fill{rows_, {}};
  for (const State& state : states_) {
    if (rows_ > 0) fill.filled.push_back(state.initialised ? state.filled : -1);
  }
  return fill;
}

Result<size_t> CrossCache::held_bytes(const Program& program, DType dtype, const CrossFill& fill) {
  if (fill.rows < 0 || fill.rows > program.source.rows) {
    return bad_input("source rows", "0 to " + std::to_string(program.source.rows), std::to_string(fill.rows));
  }
  const size_t caches = fill.rows == 0 ? 0 : program.crosses.size();
  if (fill.filled.size() != caches) {
    return bad_input("cross caches", std::to_string(caches), std::to_string(fill.filled.size()));
  }
  size_t bytes = static_cast<size_t>(fill.rows * program.source.width) * sizeof(float);
  for (size_t i = 0; i < caches; ++i) {
    const int64_t filled = fill.filled[i];
    if (filled != -1 && (filled < 1 || filled > fill.rows)) {
      return bad_input("keys of cross cache " + std::to_string(i), "1 to " + std::to_string(fill.rows) + ", or none",
                       std::to_string(filled));
    }
    const TileShape shape{dtype, program.crosses[i].kv_heads, program.crosses[i].head_dim};
    if (filled > 0) bytes += shape.segment_bytes((filled + kTileKeys - 1) / kTileKeys);
  }
  return bytes;
}

void CrossCache::restore(const CrossFill& fill, const uint8_t* held) {
  begin(fill.rows);
  for_each_range(fill, [&](size_t offset, size_t bytes) {
    std::memcpy(block_.data() + offset, held, bytes);
    held += bytes;
  });
  for (size_t i = 0; i < fill.filled.size(); ++i) {
    if (fill.filled[i] >= 0) set_initialised(static_cast<CrossId>(i), fill.filled[i]);
  }
}

void CrossCache::copy_from(const CrossCache& other) {
  const CrossFill fill = other.fill();
  begin(fill.rows);
  for_each_range(fill, [&](size_t offset, size_t bytes) {
    std::memcpy(block_.data() + offset, other.block_.data() + offset, bytes);
  });
  for (size_t i = 0; i < fill.filled.size(); ++i) {
    if (fill.filled[i] >= 0) set_initialised(static_cast<CrossId>(i), fill.filled[i]);
  }
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
