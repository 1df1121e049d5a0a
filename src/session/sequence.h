// Sequence: one stream. It owns its caches (one block, planned before the first token) and its length; a session
// advances it. One caller at a time: what changes or copies the stream while somebody else does gets an error, and
// nothing has changed. length, rewind_floor and what never changes may be read from any thread at any time. Nothing
// here allocates but create and fork.
//
// On any error the state is as before, with one exception: where a copy inside a device's memory fails midway, the keys
// that it has overwritten are gone. The stream then goes back to what it still has for certain (often nothing), and is
// as valid as any of that length.
//
// Going back. `rewind` takes the stream back to a position, and what follows is as if it had never gone further: bit
// for bit. A full layer holds every key for that; a ring only the latest, so that how far back it goes depends on what
// has been overwritten since (rewind_floor). A checkpoint keeps the keys that the rings hold at its position; a rewind
// to it works however far the stream has gone, until the stream goes on from before it.
//
// Of a program with an encoder a sequence also has the encoder output (CrossCache): a fork shares it once it is filled,
// and has its own copy until then. Where all
// layers are full, copies are of what differs: every position knows which step wrote it, and where both streams have it
// from the same one nothing is copied. So beams that take each other's place copy tails, and never what is shared.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "cache/tile_ranges.h"
#include "kvass/cache_plan.h"
#include "kvass/status.h"
#include "session/cache_memory.h"
#include "session/cross_cache.h"
#include "session/engine.h"

namespace kvass {

class Sequence {
 public:
  // `cross`: encoder output that another sequence of the engine and storage type has filled; null: none yet.
  static Result<std::unique_ptr<Sequence>> create(std::shared_ptr<const Engine> engine, const CacheOptions& options,
                                                  std::shared_ptr<CrossCache> cross = nullptr);

  const Engine& engine() const { return *engine_; }
  const CacheOptions& options() const { return options_; }
  const CachePlan& plan() const { return plan_; }
  // Tokens written: the next token's position. While a step runs, as it was before that step.
  int64_t length() const { return length_.load(std::memory_order_acquire); }
  size_t cache_bytes() const { return plan_.bytes; }
  bool endless() const { return plan_.endless(); }

  // Whether `count` tokens may follow at `start`: the planned chunk, and every layer's layout.
  Status check_extend(int64_t start, int64_t count) const;

  // The stream of `other` from here on, which is of the same engine and plan: copies what is in use, checkpoints not.
  // Encoder output that is not filled yet is copied too, for which memory is mapped where this has none of its own.
  Status copy_from(const Sequence& other) { return copy_from(other, other.length()); }
  // The same as if `other` had been rewound to `length` before, which stays as it is: to a position that it still
  // holds, or one of its checkpoints.
  Status copy_from(const Sequence& other, int64_t length);
  Result<std::unique_ptr<Sequence>> fork() const;  // a new sequence of the same options, and copy_from

  Status rewind(int64_t length);  // 0 … length(); an error leaves everything as it is
  // The furthest position up to `length` that rewind() and copy_from() can go back to.
  int64_t rewind_place(int64_t length) const;
  // Every position from here to length() can be rewound to without a checkpoint (and 0 always). While a step runs, as
  // it was before that step.
  int64_t rewind_floor() const { return rewind_floor_.load(std::memory_order_acquire); }

  Status checkpoint();  // of this position; replaces the oldest if all places are taken
  // Positions, ascending. From here on to block(): for the caller that works with the stream, or has claimed it.
  std::vector<int64_t> checkpoints() const;

  // What a snapshot holds of the caches: by layer, the positions [first_held, length) after its sinks and the sinks.
  const std::vector<int64_t>& first_held() const { return first_held_; }  // [layers]
  CrossFill cross_fill() const { return cross_ ? cross_->fill() : CrossFill(); }
  // The tiles of those positions, piece(bytes) in the order of layers and memory, then the encoder output. The first
  // error of a piece, or of reading a device's memory, ends it.
  template <class Piece>
  Status for_each_held(Piece&& piece) const;
  size_t held_bytes() const;  // of all pieces
  // The stream that had this length, these first_held and this fill, whose for_each_held gave `held`. Checked before
  // anything changes; checkpoints are forgotten. Others that share the encoder output keep it.
  Status restore(int64_t length, std::span<const int64_t> first_held, const CrossFill& cross,
                 std::span<const uint8_t> held);

  CrossCache* cross() { return cross_.get(); }  // null: none
  // Before the encoder writes: what is there is this sequence's alone. Memory is mapped only where others hold the old.
  Status own_cross();

  uint8_t* block() { return block_.data(); }  // where the engine's ops run
  const uint8_t* block() const { return block_.data(); }
  void commit(int64_t count);  // the session's, after a step has run
  // The session's, after a device failed in a step of `count` tokens: their slots may have been written. The stream
  // goes on from length() as before, for what the next row sees is never overwritten by a step; but what the step would
  // have pushed out of rings is no longer held, so rewind_floor() is as after it.
  void abandon(int64_t count);
  // An empty stream again; nothing is freed. The encoder output is forgotten; others that share it keep it.
  Status clear();

  // Set while somebody works with the stream; who finds it set returns busy_error().
  std::atomic<bool>& busy() const { return busy_; }
  static Status busy_error();

 private:
  struct Checkpoint {
    int64_t position = -1;  // -1: free
    int64_t age = 0;        // the order in which they were made
  };

  Sequence() = default;
  bool holds(size_t layer, int64_t length) const;                         // what a row at position `length` may see
  bool all_hold(int64_t length) const;                                    // … in every layer
  const Checkpoint* find_checkpoint(int64_t length) const;                // null: none
  Result<const Checkpoint*> checkpoint_for_rewind(int64_t length) const;  // null: it takes none
  int64_t first_seen(size_t layer, int64_t length) const;
  void rewind_all();  // the stream and its checkpoints
  void drop_checkpoints();
  void forget_from(int64_t position);  // keys from there on may have been overwritten
  void set_length(int64_t length);     // and the floor that follows from first_held_: the last part of every change
  bool cross_is_mine() const;          // there is one, and no other sequence shares it
  void drop_cross();                   // the encoder output; others that share it keep it
  void overwrite(int64_t count);       // a step has written, or may have, the slots of the next `count` positions
  void name_positions(int64_t begin, int64_t end);
  int64_t common_with(const Sequence& other) const;  // positions from 0 on that are in both, from the same steps
  // body(offset in the cache, offset in the checkpoint, bytes) for every stretch of tiles.
  template <class Body>
  Status for_each_kept(const Checkpoint& checkpoint, Body&& body) const;

  std::shared_ptr<const Engine> engine_;
  CacheOptions options_;
  CachePlan plan_;
  CacheMemory block_;
  std::atomic<int64_t> length_{0};
  std::atomic<int64_t> rewind_floor_{0};
  std::vector<int64_t> first_held_;      // [layers] after the sinks, positions [first_held, length) are in their slots
  std::vector<Checkpoint> checkpoints_;  // [options.checkpoints]
  int64_t checkpoints_made_ = 0;
  std::vector<uint64_t> written_by_;  // [context] who wrote a position; none where a layer overwrites them
  std::shared_ptr<CrossCache> cross_;
  mutable std::atomic<bool> busy_{false};
};

template <class Piece>
Status Sequence::for_each_held(Piece&& piece) const {
  Status status;
  for (size_t i = 0; i < plan_.layers.size(); ++i) {
    for_each_tile_range(plan_.layers[i], first_held_[i], length(), [&](size_t offset, size_t bytes) {
      if (!status.ok()) return;
      const Result<std::span<const uint8_t>> held = block_.read(offset, bytes);
      status = held.ok() ? piece(held.value()) : held.status();
    });
  }
  if (cross_) {
    cross_->for_each_held([&](std::span<const uint8_t> held) {
      if (status.ok()) status = piece(held);
    });
  }
  return status;
}

}  // namespace kvass
