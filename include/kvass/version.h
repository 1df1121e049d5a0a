// Versions. Results are promised to be the same bits within one numerics version (docs/numerics.md).
#pragma once

#define KVASS_VERSION "0.1.0"

namespace kvass {

inline constexpr int kNumericsVersion = 1;

}  // namespace kvass
