// Two loops whose speed is a limit of the machine: a plain read and a multiply-add. For benchmarks.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvass {

// Reads every byte once, and nothing else. 64-byte aligned; `bytes` a multiple of 64.
void read_bytes(const uint8_t* data, size_t bytes);

// `rounds` of independent multiply-adds in registers: float32 fma, or pairs of 16-bit integers. Returns how many were done.
int64_t multiply_add_loop(int64_t rounds, bool integers);

}  // namespace kvass
