// Weights in another type than their file has: unpacked to float32, quantised again, packed. It is asked for when a
// model is loaded or exported, and changes results. Deterministic: plain float arithmetic without a search.
//
//     F16, BF16   rounded to nearest even (f16 saturates at 65,504)
//     Q8_0        of each 32: d = f16(max |w| / 127), q = round(w / d)
//     Q4_0        of each 32: d = f16(w_m / −8) with w_m the weight of the largest magnitude, q = round(w / d) + 8
#pragma once

#include <optional>
#include <string_view>

#include "ops/linear/weight.h"

namespace kvass {

// f32, f16, bf16, q8_0, q4_0, in either case; the error lists them after `field`, the name of the option.
Result<WeightType> parse_weight_type(std::string_view text, std::string_view field = "WeightOptions.type");

// What a matrix becomes that is asked to be of `wanted`: its own type where none is asked for, or where its rows are no
// whole number of blocks; a split one stays split.
WeightType stored_type(WeightType source, int64_t k, std::optional<WeightType> wanted);

// One source row of `type`, as a file has it: out [source_row_bytes(type, k)]. `type` is one that parse_weight_type
// gives, k fits it.
void quantise_row(WeightType type, const float* row, int64_t k, uint8_t* out);

// Panels [panel_begin, panel_end) of `from` as panels of `type`, to out + panel_begin * panel_bytes(type, k). May
// allocate scratch.
void requantise_panels(const PackedWeight& from, WeightType type, int64_t panel_begin, int64_t panel_end, uint8_t* out);

}  // namespace kvass
