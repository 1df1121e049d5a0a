#include "session/sequence.h"

#include <cstring>
#include <string>
#include <utility>

namespace kvass {

Result<std::unique_ptr<Sequence>> Sequence::create(std::shared_ptr<const Engine> engine, const CacheOptions& options) {
  std::unique_ptr<Sequence> sequence(new Sequence());
  KVASS_ASSIGN_OR_RETURN(sequence->plan_, plan_caches(engine->cache_shapes(), options));
  KVASS_ASSIGN_OR_RETURN(sequence->block_, Block::map(sequence->plan_.bytes));
  sequence->engine_ = std::move(engine);
  sequence->options_ = options;
  return sequence;
}

Status Sequence::check_extend(int64_t start, int64_t count) const {
  if (count > plan_.chunk) {
    return bad_input("tokens of a step", "at most the planned " + std::to_string(plan_.chunk) + " (--chunk)",
                     std::to_string(count));
  }
  for (const LayerCache& layer : plan_.layers) KVASS_RETURN_IF_ERROR(layer.layout.check_extend(length_, start, count));
  return {};
}

Status Sequence::copy_from(const Sequence& other) {
  if (other.engine_ != engine_ || other.options_ != options_) {
    return bad_input("sequence to copy", "one of the same engine and cache options", "another");
  }
  if (&other == this) return {};
  std::memcpy(block_.data(), other.block_.data(), plan_.bytes);
  length_ = other.length_;
  return {};
}

}  // namespace kvass
