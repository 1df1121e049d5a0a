// The rules of one op, as its OpSpec has them: what verify_program (verify.cc) asks of each, in program order. Changes
// nothing but the two lists that it is handed.
#pragma once

#include <vector>

#include "kvass/status.h"
#include "program/op_spec.h"
#include "program/program.h"

namespace kvass {

// Whether an op is sound where it stands. `visible` [values] says which values it may read here, `written` [values]
// which ones some op has written; its own outputs join both.
Status verify_op(const Program& program, const Op& op, Place place, std::vector<bool>& visible,
                 std::vector<bool>& written);

}  // namespace kvass
