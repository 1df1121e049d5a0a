// The log-mel spectrogram that Whisper models are trained on, over a whole recording:
//   x        samples / 32768, then 160 zeros; 200 samples are reflected at each end
//   X[t]     the Fourier transform of 400 samples from 160·t on, times a periodic Hann function
//   mel[t]   filters · |X[t]|², triangles of area 1 on Slaney's scale, 0 to 8,000 Hz
//   out[t]   (max(log10(max(mel[t], 1e-10)), top − 8) + 4) / 4, top = the largest log10 of the recording
//   frames   samples / 160 + 1, of 10 ms each
// The floor (top − 8) is global, so every frame is computed twice: once for `top`, once when it is asked for. No memory
// grows with the length of the recording. The transform is kissfft in double precision.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"

namespace kvass {

inline constexpr int64_t kHopSamples = 160;
inline constexpr int64_t kFramesPerSecond = 100;

class LogMel {
 public:
  // `samples` must outlive the object; mel_bins is at least 1. Computes `top`.
  LogMel(std::span<const int16_t> samples, int64_t mel_bins, ThreadPool& pool);
  ~LogMel();

  int64_t frames() const { return frames_; }
  int64_t mel_bins() const { return mel_bins_; }

  // Writes frames [begin, begin + count) to out [mel_bins][width], followed by zeros up to `width`.
  void window(int64_t begin, int64_t count, int64_t width, float* out) const;

 private:
  struct Transform;
  struct Filter {
    int64_t first = 0;           // frequency bin of weights[0]
    std::vector<float> weights;  // up to the last one that is not 0
  };
  void make_filters();
  void frame(const Transform& transform, int64_t t, float* out) const;  // log10, without the floor; [mel_bins]

  std::span<const int16_t> samples_;
  int64_t mel_bins_;
  int64_t frames_;
  ThreadPool& pool_;
  std::vector<Filter> filters_;                         // [mel_bins]
  std::vector<std::unique_ptr<Transform>> transforms_;  // [threads]
  float top_ = -10.0f;
};

}  // namespace kvass
