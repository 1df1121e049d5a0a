#include "audio/log_mel.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <complex>
#include <kissfft/kissfft.hh>
#include <numbers>

#include "audio/decode.h"

namespace kvass {
namespace {

constexpr int64_t kSize = 400;  // samples of a frame
constexpr int64_t kBins = kSize / 2 + 1;
constexpr int64_t kPadding = kSize / 2;
constexpr int64_t kBlockFrames = 64;

// Slaney's scale: linear up to 1,000 Hz, logarithmic above.
double mel_to_hertz(double mel) {
  constexpr double kLinear = 200.0 / 3.0;  // Hz a mel
  constexpr double kBreak = 1000.0;
  const double break_mel = kBreak / kLinear;
  return mel < break_mel ? kLinear * mel : kBreak * std::exp(std::log(6.4) / 27.0 * (mel - break_mel));
}

}  // namespace

// The buffers of one thread.
struct LogMel::Transform {
  Transform() : fft(kSize / 2, false) {
    for (int64_t i = 0; i < kSize; ++i) {
      // Rounded to float, as in the models' own front end.
      window[static_cast<size_t>(i)] = static_cast<float>(
          0.5 - 0.5 * std::cos(2.0 * std::numbers::pi * static_cast<double>(i) / static_cast<double>(kSize)));
    }
  }
  kissfft<double> fft;  // of half the size: pairs of real samples are complex inputs
  std::array<float, kSize> window;
  mutable std::array<double, kSize> input;
  mutable std::array<std::complex<double>, kSize / 2> output;  // [0] holds the first and the last bin
  mutable std::array<float, kBins> power;
};

LogMel::LogMel(std::span<const int16_t> samples, int64_t mel_bins, ThreadPool& pool)
    : samples_(samples),
      mel_bins_(mel_bins),
      frames_(static_cast<int64_t>(samples.size()) / kHopSamples + 1),
      pool_(pool) {
  assert(mel_bins > 0);
  make_filters();
  for (int i = 0; i < pool.threads(); ++i) transforms_.push_back(std::make_unique<Transform>());
  std::vector<float> tops(static_cast<size_t>(pool.threads()), -10.0f);
  const auto width = static_cast<size_t>(mel_bins);
  std::vector<float> rows(tops.size() * width);
  pool_.run((frames_ + kBlockFrames - 1) / kBlockFrames, [&](int64_t block, int thread) {
    float* const row = rows.data() + static_cast<size_t>(thread) * width;
    float top = tops[static_cast<size_t>(thread)];
    for (int64_t t = block * kBlockFrames; t < std::min(frames_, (block + 1) * kBlockFrames); ++t) {
      frame(*transforms_[static_cast<size_t>(thread)], t, row);
      for (size_t i = 0; i < width; ++i) top = std::max(top, row[i]);
    }
    tops[static_cast<size_t>(thread)] = top;
  });
  top_ = *std::max_element(tops.begin(), tops.end());
}

LogMel::~LogMel() = default;

void LogMel::make_filters() {
  constexpr double kTopMel = 45.245640471924965;  // 8,000 Hz
  std::vector<double> edges(static_cast<size_t>(mel_bins_) + 2);
  for (size_t i = 0; i < edges.size(); ++i) {
    edges[i] = mel_to_hertz(kTopMel * static_cast<double>(i) / static_cast<double>(edges.size() - 1));
  }
  filters_.resize(static_cast<size_t>(mel_bins_));
  for (size_t mel = 0; mel < filters_.size(); ++mel) {
    const double low = edges[mel], middle = edges[mel + 1], high = edges[mel + 2];
    Filter& filter = filters_[mel];
    for (int64_t bin = 0; bin < kBins; ++bin) {
      const double hertz = static_cast<double>(bin) * static_cast<double>(kSampleRate) / static_cast<double>(kSize);
      const double weight = std::min((hertz - low) / (middle - low), (high - hertz) / (high - middle));
      if (weight <= 0.0) continue;
      if (filter.weights.empty()) filter.first = bin;
      filter.weights.push_back(static_cast<float>(weight * 2.0 / (high - low)));
    }
  }
}

void LogMel::frame(const Transform& transform, int64_t t, float* out) const {
  const auto count = static_cast<int64_t>(samples_.size());
  const int64_t length = count + kHopSamples;
  for (int64_t i = 0; i < kSize; ++i) {
    int64_t at = t * kHopSamples - kPadding + i;
    while (at < 0 || at >= length)
      at = at < 0 ? -at : 2 * (length - 1) - at;  // a short recording is reflected more than once
    const double sample = at < count ? static_cast<double>(samples_[static_cast<size_t>(at)]) / 32768.0 : 0.0;
    transform.input[static_cast<size_t>(i)] = sample * static_cast<double>(transform.window[static_cast<size_t>(i)]);
  }
  transform.fft.transform_real(transform.input.data(), transform.output.data());
  const auto power = [](double real, double imaginary) {
    return static_cast<float>(real * real + imaginary * imaginary);
  };
  transform.power[0] = power(transform.output[0].real(), 0.0);
  transform.power[kBins - 1] = power(transform.output[0].imag(), 0.0);
  for (size_t bin = 1; bin < kBins - 1; ++bin) {
    transform.power[bin] = power(transform.output[bin].real(), transform.output[bin].imag());
  }
  for (size_t mel = 0; mel < filters_.size(); ++mel) {
    double sum = 0.0;
    const float* const from = transform.power.data() + filters_[mel].first;
    const std::vector<float>& weights = filters_[mel].weights;
    for (size_t i = 0; i < weights.size(); ++i) sum += static_cast<double>(from[i]) * static_cast<double>(weights[i]);
    out[mel] = static_cast<float>(std::log10(std::max(sum, 1e-10)));
  }
}

void LogMel::window(int64_t begin, int64_t count, int64_t width, float* out) const {
  assert(begin >= 0 && count >= 0 && begin + count <= frames_ && count <= width);
  const auto bins = static_cast<size_t>(mel_bins_);
  std::vector<float> rows(static_cast<size_t>(pool_.threads()) * bins);
  const float floor = top_ - 8.0f;
  pool_.run((count + kBlockFrames - 1) / kBlockFrames, [&](int64_t block, int thread) {
    float* const row = rows.data() + static_cast<size_t>(thread) * bins;
    for (int64_t t = block * kBlockFrames; t < std::min(count, (block + 1) * kBlockFrames); ++t) {
      frame(*transforms_[static_cast<size_t>(thread)], begin + t, row);
      for (size_t mel = 0; mel < bins; ++mel) {
        out[mel * static_cast<size_t>(width) + static_cast<size_t>(t)] = (std::max(row[mel], floor) + 4.0f) / 4.0f;
      }
    }
  });
  for (size_t mel = 0; mel < bins; ++mel) {
    std::fill_n(out + mel * static_cast<size_t>(width) + static_cast<size_t>(count), static_cast<size_t>(width - count),
                0.0f);
  }
}

}  // namespace kvass
