// One op of a program as the check of its kind sees it (OpSpec::check): its values, weights and states by place, and
// errors that name the op.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "kvass/status.h"
#include "program/program.h"

namespace kvass {

inline constexpr int64_t kMaxHeads = int64_t{1} << 20;  // bounds products of a few sizes
inline constexpr int64_t kMaxHeadDim = 512;

class OpCheck {
 public:
  OpCheck(const Program& program, const Op& op) : program_(program), op_(op) {}

  const Program& program() const { return program_; }
  const Op& op() const { return op_; }
  const Value& value(ValueId id) const { return program_.values[static_cast<size_t>(id)]; }
  const Value& in(size_t i) const { return value(op_.inputs[i]); }
  const Value& out(size_t i) const { return value(op_.outputs[i]); }
  const Weight& weight(size_t i) const { return program_.weights[static_cast<size_t>(op_.weights[i])]; }
  const CacheState& state() const { return program_.states[static_cast<size_t>(op_.state)]; }
  const CrossState& cross() const { return program_.crosses[static_cast<size_t>(op_.cross)]; }

  Status fail(std::string_view field, std::string_view expected, std::string_view got) const;
  Status width(std::string_view what, int64_t expected, int64_t got) const;
  // `heads` query heads that share `kv_heads`.
  Status heads(int64_t kv_heads) const;

 private:
  const Program& program_;
  const Op& op_;
};

}  // namespace kvass
