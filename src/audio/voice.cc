#include "audio/voice.h"

#include <algorithm>
#include <cmath>

#include "audio/log_mel.h"

namespace kvass {
namespace {

constexpr int64_t kPauseFrames = 200;  // a shorter pause is part of the speech around it
constexpr int64_t kMarginFrames = 40;
constexpr int64_t kLeastFrames = 5;  // a shorter sound is a click
constexpr float kSilence = -60.0f;   // dB of full scale: anything quieter is silence in any recording
constexpr float kAboveQuiet = 9.0f;  // dB: speech is this much louder than the quiet parts
constexpr float kBelowLoud = 35.0f;  // dB: a sound this much quieter than the loud parts is not speech

// The level of every frame in dB of full scale, [frames].
std::vector<float> levels(std::span<const int16_t> samples, int64_t frames) {
  std::vector<float> out(static_cast<size_t>(frames), -120.0f);
  for (size_t t = 0; t < out.size(); ++t) {
    const size_t begin = std::min(samples.size(), t * kHopSamples);
    const size_t end = std::min(samples.size(), begin + kHopSamples);
    double sum = 0.0;
    for (size_t i = begin; i < end; ++i) sum += static_cast<double>(samples[i]) * samples[i];
    if (sum == 0.0) continue;
    const double mean = sum / static_cast<double>(end - begin) / (32768.0 * 32768.0);
    out[t] = static_cast<float>(10.0 * std::log10(mean));
  }
  return out;
}

float quantile(std::vector<float> values, double part) {
  const auto at = static_cast<ptrdiff_t>(part * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<size_t>(at)];
}

}  // namespace

std::vector<FrameRange> find_voice(std::span<const int16_t> samples, int64_t frames) {
  if (frames <= 0) return {};
  const std::vector<float> level = levels(samples, frames);
  const float quiet = quantile(level, 0.1);
  const float loud = quantile(level, 0.95);
  // If quiet and loud are close, there is no pause to measure: only a level far below both is silence.
  const float threshold = std::max(kSilence, std::min(quiet + kAboveQuiet, loud - kBelowLoud));
  std::vector<FrameRange> found;
  for (int64_t t = 0; t < frames; ++t) {
    if (level[static_cast<size_t>(t)] <= threshold) continue;
    if (!found.empty() && t - found.back().end < kPauseFrames) {
      found.back().end = t + 1;
    } else {
      found.push_back({t, t + 1});
    }
  }
  std::erase_if(found, [](const FrameRange& range) { return range.end - range.begin < kLeastFrames; });
  std::vector<FrameRange> out;
  for (const FrameRange& range : found) {
    const FrameRange wide{std::max<int64_t>(0, range.begin - kMarginFrames),
                          std::min(frames, range.end + kMarginFrames)};
    if (!out.empty() && wide.begin <= out.back().end) {
      out.back().end = wide.end;
    } else {
      out.push_back(wide);
    }
  }
  return out;
}

}  // namespace kvass
