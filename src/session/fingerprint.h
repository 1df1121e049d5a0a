// What an engine computes, as one number: every field of the program, and every weight in its packed form. Engines with
// the same fingerprint, --math and numerics version give the same bits.
#pragma once

#include "base/hash.h"
#include "ops/linear/weight_store.h"
#include "program/program.h"

namespace kvass {

Hash128 fingerprint_of(const Program& program, const WeightStore& weights);

}  // namespace kvass
