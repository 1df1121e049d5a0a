// The rows of a file's tensors as numbers, and as rows of another type: what reads or writes tensors beside the packing
// of weights.
#pragma once

#include <cstdint>
#include <vector>

#include "file/gguf.h"
#include "ops/linear/weight.h"

namespace kvass {

// out [count][shape[0]] = rows [first, first + count), dequantised as the type defines it. `tensor` is of a whole file.
void unpack_rows(const GgufTensor& tensor, int64_t first, int64_t count, float* out);

// The same rows as blocks of `type`: as they are where it is their own, else one that parse_weight_type gives.
void convert_rows(const GgufTensor& tensor, WeightType type, int64_t first, int64_t count, uint8_t* out);

}  // namespace kvass
