// Sequence: one stream. It owns its caches (one block, planned before the first token) and its length; a session
// advances it. One caller at a time.
#pragma once

#include <memory>

#include "base/block.h"
#include "kvass/cache_plan.h"
#include "kvass/status.h"
#include "session/engine.h"

namespace kvass {

class Sequence {
 public:
  static Result<std::unique_ptr<Sequence>> create(std::shared_ptr<const Engine> engine, const CacheOptions& options);

  const Engine& engine() const { return *engine_; }
  const CacheOptions& options() const { return options_; }
  const CachePlan& plan() const { return plan_; }
  int64_t length() const { return length_; }  // tokens written: the next token's position
  size_t cache_bytes() const { return plan_.bytes; }
  bool endless() const { return plan_.endless(); }

  // Whether `count` tokens may follow at `start`: the planned chunk, and every layer's layout.
  Status check_extend(int64_t start, int64_t count) const;

  uint8_t* block() { return block_.data(); }
  void commit(int64_t count) { length_ += count; }  // the session's, after a step has run
  void clear() { length_ = 0; }                     // an empty stream again; nothing is freed
  // The stream of `other` from here on, which is of the same engine and plan: copies its block, allocates nothing.
  Status copy_from(const Sequence& other);

 private:
  Sequence() = default;
  std::shared_ptr<const Engine> engine_;
  CacheOptions options_;
  CachePlan plan_;
  Block block_;
  int64_t length_ = 0;
};

}  // namespace kvass
