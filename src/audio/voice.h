// Finds the parts of a recording that may contain speech, by energy alone: a gate that keeps silence from the
// recogniser. Not a voice detector: music and noise pass. Thresholds follow the recording's own quiet and loud parts.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace kvass {

// Frames [begin, end) of 10 ms each.
struct FrameRange {
  int64_t begin = 0;
  int64_t end = 0;
};

// The ranges to transcribe among the first `frames` frames, ascending and disjoint. They include pauses of less than
// two seconds, and 0.4 s on either side. Empty if everything is silent.
std::vector<FrameRange> find_voice(std::span<const int16_t> samples, int64_t frames);

}  // namespace kvass
