#include "audio/decode.h"

#include <fmt/format.h>
#include <samplerate.h>
#include <sndfile.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <memory>
#include <new>

#include "base/os_error.h"
#include "base/platform.h"

namespace kvass {
namespace {

constexpr int64_t kBlockFrames = 8192;
// Outside these limits the header is more likely damaged than the recording unusual.
constexpr int kLeastRate = 1000;
constexpr int kMostRate = 1'000'000;
constexpr int kMostChannels = 256;

constexpr char kExpected[] = "an audio file (WAV, FLAC, OGG or MP3)";

// AAC in its ADTS form, which libsndfile takes for MP3: the same first twelve bits, and then a layer of 0.
bool is_adts(std::span<const uint8_t> start) {
  return start.size() >= 2 && start[0] == 0xff && (start[1] & 0xf6) == 0xf0;
}
Status adts_error(const std::string& name) { return bad_input(name, kExpected, "AAC (ADTS)"); }

// Whether `info.frames` is what the file says of itself. Of other formats it may be an estimate, as of an MP3 file
// without a table of its frames, or be cut to the bytes that are there.
bool length_is_declared(SNDFILE* file, const SF_INFO& info) {
  if (info.frames <= 0 || info.frames == SF_COUNT_MAX) return false;
  switch (info.format & SF_FORMAT_TYPEMASK) {
    case SF_FORMAT_FLAC:
      return true;
    case SF_FORMAT_MPEG: {
      const int mode = sf_command(file, SFC_GET_BITRATE_MODE, nullptr, 0);
      return mode == SF_BITRATE_MODE_VARIABLE || mode == SF_BITRATE_MODE_AVERAGE;  // known from the table alone
    }
    default:
      return false;
  }
}

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

// Resamples one channel of any rate to 16-bit samples at 16 kHz.
class Resampler {
 public:
  Resampler(int rate, std::vector<int16_t>& out) : ratio_(static_cast<double>(kSampleRate) / rate), out_(out) {
    if (rate == kSampleRate) return;
    int error = 0;
    state_.reset(src_new(SRC_SINC_MEDIUM_QUALITY, 1, &error));
    if (!state_) throw std::bad_alloc();  // the other arguments are constants: only memory can be missing
    resampled_.resize(static_cast<size_t>(std::ceil(static_cast<double>(kBlockFrames) * ratio_)) + 64);
  }

  // `last`: these are the recording's last samples.
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
  std::unique_ptr<SRC_STATE, Free> state_;  // null: the input already has 16 kHz
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
  sf_count_t decoded = 0;
  const auto seconds = [&](sf_count_t of) { return static_cast<double>(of) / info.samplerate; };
  while (true) {
    const sf_count_t frames = sf_readf_float(file, block.data(), kBlockFrames);
    decoded += std::max<sf_count_t>(frames, 0);
    // Asked after every read: the next one forgets it and finds the file at its end.
    if (sf_error(file) != SF_ERR_NO_ERROR) {
      return bad_input(name, "audio that can be decoded to its end",
                       fmt::format("damage at {:.2f} s: {}", seconds(decoded), sf_strerror(file)));
    }
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
  if (decoded < info.frames && length_is_declared(file, info)) {
    return bad_input(name, fmt::format("{:.2f} s of audio, as the file says", seconds(info.frames)),
                     fmt::format("{:.2f} s (cut off)", seconds(decoded)));
  }
  samples.shrink_to_fit();
  return samples;
}

// Why libsndfile opened nothing.
Status not_opened(const std::string& name) {
  const StatusCode code = sf_error(nullptr) == SF_ERR_SYSTEM ? StatusCode::io : StatusCode::bad_input;
  return Status::error(code, expected_message(name, kExpected, sf_strerror(nullptr)));
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
    if (count < 0) return os_error("stdin", kExpected, errno);
    if (count == 0) return bytes;
  }
}

}  // namespace

Result<std::vector<int16_t>> decode_audio(std::span<const uint8_t> bytes, const std::string& name) {
  if (bytes.empty()) return bad_input(name, kExpected, "an empty file");
  if (is_adts(bytes)) return adts_error(name);
  Memory memory{bytes};
  SF_VIRTUAL_IO io = Memory::functions();
  SF_INFO info{};
  const File file(sf_open_virtual(&io, SFM_READ, &info, &memory));
  if (!file) return not_opened(name);
  return read_samples(file.get(), info, name);
}

Result<std::vector<int16_t>> decode_audio(const std::string& path) {
  if (path == "-") {
    KVASS_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, read_stdin());
    return decode_audio(bytes, "stdin");
  }
  // libsndfile would block on a pipe and try to read a folder: check the path first, for a clear message.
  using platform::FileKind;
  const platform::FileInfo about = platform::file_info(path);
  if (about.kind == FileKind::none) return os_error(path, kExpected, errno);
  if (about.kind != FileKind::file)
    return bad_input(path, kExpected, about.kind == FileKind::folder ? "a folder" : "no file");
  if (about.bytes == 0) return bad_input(path, kExpected, "an empty file");
  if (!platform::may_read(path)) return os_error(path, kExpected, errno);
  std::array<uint8_t, 2> start{};
  std::ifstream(path, std::ios::binary).read(reinterpret_cast<char*>(start.data()), start.size());
  if (is_adts(start)) return adts_error(path);
  SF_INFO info{};
  const File file(sf_open(path.c_str(), SFM_READ, &info));
  if (!file) return not_opened(path);
  return read_samples(file.get(), info, path);
}

}  // namespace kvass
