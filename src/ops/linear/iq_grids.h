// The grids of the IQ types: what an index in a block of the file stands for. Facts of the format, as ggml-common.h has
// them (iq1s_grid, iq2xxs_grid, iq2xs_grid, iq2s_grid, iq3xxs_grid, iq3s_grid).
//
// An entry is eight codes of 0 to 2 or four of 0 to 7, a byte each, the first one lowest: the number of a magnitude in
// kIq2Values, kIq3XxsValues or kIq3SValues (panel_format.h); of IQ1, 1 more than the weight's -1, 0 or 1.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace kvass {

extern const std::array<uint64_t, 2048> kIq1Grid;
extern const std::array<uint64_t, 256> kIq2XxsGrid;
extern const std::array<uint64_t, 512> kIq2XsGrid;
extern const std::array<uint64_t, 1024> kIq2SGrid;
extern const std::array<uint32_t, 256> kIq3XxsGrid;
extern const std::array<uint32_t, 512> kIq3SGrid;

}  // namespace kvass
