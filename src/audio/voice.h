// Where a recording may have speech in it, by energy alone: a gate that keeps silence from the recogniser. Not a
// detector of voices: music and noise pass. Thresholds follow the recording's own quiet and loud parts.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace kvass {

// A stretch of 10 ms frames, [begin, end).
struct FrameRange {
  int64_t begin = 0;
  int64_t end = 0;
};

// The stretches to transcribe among the first `frames` frames, in order and apart: pauses of less than two seconds
// belong to them, and 0.4 s on either side. Empty when all is silent.
std::vector<FrameRange> find_voice(std::span<const int16_t> samples, int64_t frames);

}  // namespace kvass
