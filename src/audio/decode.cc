#include "audio/decode.h"

#include <fmt/format.h>
#include <samplerate.h>
#include <sndfile.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>

#include "base/platform.h"

namespace kvass {
namespace {

constexpr int64_t kBlockFrames = 8192;
// Beyond these a header is damaged rather than a recording unusual.
constexpr int kLeastRate = 1000;
constexpr int kMostRate = 1'000'000;
constexpr int kMostChannels = 256;

constexpr char kExpected[] = "an audio file (WAV, FLAC, OGG or MP3)";

// A file in memory as libsndfile reads it.
struct Memory {
  std::span<const uint8_t> bytes;
  sf_count_t at = 0;

  static SF_VIRTUAL_IO functions() {
    SF_VIRTUAL_IO io{};
    io.get_filelen = [](void* self) { return static_cast<Memory*>(self)->size(); };
    io.seek = [](sf_count_t offset, int whence, void* self) {
      return static_cast<Memory*>(self)->seek(offset, whence);
    };
    io.read = [](void* out, sf_count_t count, void* self) { return static_cast<Memory*>(self)->read(out, count); };
    io.write = [](const void*, sf_count_t, void*) { return sf_count_t{0}; };
    io.tell = [](void* self) { return static_cast<Memory*>(self)->at; };
    return io;
  }
  sf_count_t size() const { return static_cast<sf_count_t>(bytes.size()); }
  sf_count_t seek(sf_count_t offset, int whence) {
    const sf_count_t origin = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? at : size();
    if (offset < -origin || offset > size() - origin) return -1;
    return at = origin + offset;
  }
  sf_count_t read(void* out, sf_count_t count) {
    count = std::clamp<sf_count_t>(count, 0, size() - at);
    if (count > 0) std::memcpy(out, bytes.data() + at, static_cast<size_t>(count));
    at += count;
    return count;
  }
};

struct CloseFile {
  void operator()(SNDFILE* file) const { sf_close(file); }
};
using File = std::unique_ptr<SNDFILE, CloseFile>;

// A stream of one channel at some rate into 16-bit samples at 16 kHz.
class Resampler {
 public:
  Resampler(int rate, std::vector<int16_t>& out) : ratio_(static_cast<double>(kSampleRate) / rate), out_(out) {
    if (rate == kSampleRate) return;
    int error = 0;
    state_.reset(src_new(SRC_SINC_MEDIUM_QUALITY, 1, &error));
    if (!state_) throw std::bad_alloc();  // of a constant kind: memory is all that can be missing
    resampled_.resize(static_cast<size_t>(std::ceil(static_cast<double>(kBlockFrames) * ratio_)) + 64);
  }

  // `last`: the stream ends with these.
  Status take(std::span<const float> mono, bool last) {
    if (!state_) {
      for (float sample : mono) keep(sample);
      return {};
    }
    SRC_DATA data{};
    data.data_in = mono.data();
    data.input_frames = static_cast<long>(mono.size());
    data.src_ratio = ratio_;
    data.end_of_input = last ? 1 : 0;
    while (true) {
      data.data_out = resampled_.data();
      data.output_frames = static_cast<long>(resampled_.size());
      if (const int error = src_process(state_.get(), &data); error != 0) {
        return bad_input("resampling", "samples that can be resampled", src_strerror(error));
      }
      for (long i = 0; i < data.output_frames_gen; ++i) keep(resampled_[static_cast<size_t>(i)]);
      data.data_in += data.input_frames_used;
      data.input_frames -= data.input_frames_used;
      if (data.output_frames_gen == 0 && (data.input_frames == 0 || data.input_frames_used == 0)) return {};
    }
  }

 private:
  struct Free {
    void operator()(SRC_STATE* state) const { src_delete(state); }
  };
  void keep(float sample) {
    const float scaled = std::nearbyint(sample * 32768.0f);
    out_.push_back(scaled >= -32768.0f ? static_cast<int16_t>(std::min(scaled, 32767.0f)) : int16_t{-32768});
  }

  double ratio_;
  std::vector<int16_t>& out_;
  std::unique_ptr<SRC_STATE, Free> state_;  // null: the rate is right already
  std::vector<float> resampled_;
};

Result<std::vector<int16_t>> read_samples(SNDFILE* file, const SF_INFO& info, const std::string& name) {
  if (info.samplerate < kLeastRate || info.samplerate > kMostRate) {
    return bad_input(name + ": sample rate", fmt::format("{} to {}", kLeastRate, kMostRate),
                     std::to_string(info.samplerate));
  }
  if (info.channels < 1 || info.channels > kMostChannels) {
    return bad_input(name + ": channels", fmt::format("1 to {}", kMostChannels), std::to_string(info.channels));
  }
  const auto channels = static_cast<size_t>(info.channels);
  std::vector<int16_t> samples;
  Resampler resampler(info.samplerate, samples);
  std::vector<float> block(static_cast<size_t>(kBlockFrames) * channels);
  std::vector<float> mono(static_cast<size_t>(kBlockFrames));
  while (true) {
    const sf_count_t frames = sf_readf_float(file, block.data(), kBlockFrames);
    const auto count = static_cast<size_t>(std::max<sf_count_t>(frames, 0));
    for (size_t i = 0; i < count; ++i) {
      float sum = 0.0f;
      for (size_t c = 0; c < channels; ++c) sum += block[i * channels + c];
      mono[i] = std::isfinite(sum) ? sum / static_cast<float>(channels) : 0.0f;
    }
    const bool last = count == 0;
    if (Status status = resampler.take({mono.data(), count}, last); !status.ok()) {
      return status.with_message(name + ": " + status.message());
    }
    if (last) break;
  }
  samples.shrink_to_fit();
  return samples;
}

Result<std::vector<uint8_t>> read_stdin() {
  std::vector<uint8_t> bytes;
  constexpr size_t kBlock = size_t{1} << 20;
  while (true) {
    const size_t at = bytes.size();
    bytes.resize(at + kBlock);
    const int64_t count = platform::read_standard_input(bytes.data() + at, kBlock);
    bytes.resize(at + static_cast<size_t>(std::max<int64_t>(count, 0)));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return bad_input("stdin", kExpected, std::strerror(errno));
    if (count == 0) return bytes;
  }
}

}  // namespace

Result<std::vector<int16_t>> decode_audio(std::span<const uint8_t> bytes, const std::string& name) {
  if (bytes.empty()) return bad_input(name, kExpected, "an empty file");
  Memory memory{bytes};
  SF_VIRTUAL_IO io = Memory::functions();
  SF_INFO info{};
  const File file(sf_open_virtual(&io, SFM_READ, &info, &memory));
  if (!file) return bad_input(name, kExpected, sf_strerror(nullptr));
  return read_samples(file.get(), info, name);
}

Result<std::vector<int16_t>> decode_audio(const std::string& path) {
  if (path == "-") {
    KVASS_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, read_stdin());
    return decode_audio(bytes, "stdin");
  }
  // libsndfile would wait on a pipe or read a folder; what is wrong with a path is said by its own name.
  using platform::FileKind;
  const platform::FileInfo about = platform::file_info(path);
  if (about.kind == FileKind::none) return bad_input(path, kExpected, std::strerror(errno));
  if (about.kind != FileKind::file)
    return bad_input(path, kExpected, about.kind == FileKind::folder ? "a folder" : "no file");
  if (about.bytes == 0) return bad_input(path, kExpected, "an empty file");
  if (!platform::may_read(path)) return bad_input(path, kExpected, std::strerror(errno));
  SF_INFO info{};
  const File file(sf_open(path.c_str(), SFM_READ, &info));
  if (!file) return bad_input(path, kExpected, sf_strerror(nullptr));
  return read_samples(file.get(), info, path);
}

}  // namespace kvass
