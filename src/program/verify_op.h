// The rules of one op: what verify_program (verify.cc) asks of each, in program order. Changes nothing but the two
// lists that it is handed.
#pragma once

#include <cstdint>
#include <vector>

#include "kvass/status.h"
#include "program/program.h"

namespace kvass {

inline constexpr int64_t kMaxHeads = int64_t{1} << 20;  // bounds products of a few sizes
inline constexpr int64_t kMaxHeadDim = 512;

// Where an op stands.
enum class Place : uint8_t {
  steps,         // in a method that steps run
  one_sequence,  // there, in a branch that runs for one sequence at a time
  encode,        // in `encode`
  head,
};

// Whether an op is sound where it stands. `visible` [values] says which values it may read here, `written` [values]
// which ones some op has written; its own outputs join both.
Status verify_op(const Program& program, const Op& op, Place place, std::vector<bool>& visible,
                 std::vector<bool>& written);

}  // namespace kvass
