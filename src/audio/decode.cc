#include "audio/decode.h"

#include <fmt/format.h>
#include <samplerate.h>
#include <sndfile.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>
#include <optional>

#include "audio/container.h"
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

// Bytes as libsndfile reads them, from memory or from a file. It takes what it gets, and a read that fails for the end:
// so the failure is kept here, for whoever asked for the samples.
class Source {
 public:
  virtual ~Source() = default;
  sf_count_t size() const { return size_; }
  int error() const { return error_; }  // errno of a read that failed, or gave less than the file had; 0: none

  // What the header says of the samples (container.h). A size of 0 that stands for all that is there is read as the
  // largest from here on.
  std::optional<SampleBytes> sample_bytes() {
    const auto read_at = [this](uint64_t at, std::span<uint8_t> out) {
      const auto size = static_cast<uint64_t>(size_), count = static_cast<uint64_t>(out.size());
      if (error_ != 0 || at > size || count > size - at) return false;
      return take(static_cast<sf_count_t>(at), out.data(), static_cast<sf_count_t>(count), error_) ==
             static_cast<sf_count_t>(count);
    };
    const std::optional<SampleBytes> found = find_sample_bytes(read_at, static_cast<uint64_t>(size_));
    if (found && found->zero_at) zero_at_ = static_cast<sf_count_t>(*found->zero_at);
    return found;
  }

  static SF_VIRTUAL_IO functions() {
    SF_VIRTUAL_IO io{};
    io.get_filelen = [](void* self) { return static_cast<Source*>(self)->size_; };
    io.seek = [](sf_count_t offset, int whence, void* self) {
      return static_cast<Source*>(self)->seek(offset, whence);
    };
    io.read = [](void* out, sf_count_t count, void* self) { return static_cast<Source*>(self)->read(out, count); };
    io.write = [](const void*, sf_count_t, void*) { return sf_count_t{0}; };
    io.tell = [](void* self) { return static_cast<Source*>(self)->at_; };
    return io;
  }

 protected:
  explicit Source(size_t bytes) : size_(static_cast<sf_count_t>(bytes)) {}
  // Up to `count` bytes from `at` on, which are there; fewer only with an errno.
  virtual sf_count_t take(sf_count_t at, void* out, sf_count_t count, int& error) = 0;

 private:
  sf_count_t seek(sf_count_t offset, int whence) {
    const sf_count_t origin = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? at_ : size_;
    if (offset < -origin || offset > size_ - origin) return -1;
    return at_ = origin + offset;
  }
  sf_count_t read(void* out, sf_count_t count) {
    count = std::clamp<sf_count_t>(count, 0, size_ - at_);
    if (error_ != 0 || count == 0) return 0;
    count = take(at_, out, count, error_);
    for (sf_count_t i = 0; i < 4 && zero_at_ >= 0; ++i) {
      const sf_count_t place = zero_at_ + i - at_;
      if (place >= 0 && place < count) static_cast<uint8_t*>(out)[place] = 0xff;
    }
    at_ += count;
    return count;
  }

  sf_count_t size_;
  sf_count_t at_ = 0;
  sf_count_t zero_at_ = -1;  // four bytes that are read as the largest size; -1: none
  int error_ = 0;
};

class Memory final : public Source {
 public:
  explicit Memory(std::span<const uint8_t> bytes) : Source(bytes.size()), bytes_(bytes) {}

 private:
  sf_count_t take(sf_count_t at, void* out, sf_count_t count, int&) override {
    std::memcpy(out, bytes_.data() + at, static_cast<size_t>(count));
    return count;
  }
  std::span<const uint8_t> bytes_;
};

// Owns the descriptor.
class OpenFile final : public Source {
 public:
  OpenFile(int file, size_t bytes) : Source(bytes), file_(file) {}
  ~OpenFile() override { platform::close_file(file_); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

 private:
  sf_count_t take(sf_count_t at, void* out, sf_count_t count, int& error) override {
    sf_count_t got = 0;
    while (got < count) {
      const int64_t now = platform::read_at(file_, static_cast<size_t>(at + got), static_cast<char*>(out) + got,
                                            static_cast<size_t>(count - got));
      if (now < 0 && errno == EINTR) continue;
      if (now <= 0) {
        error = now < 0 ? errno : ENODATA;  // the file has become shorter
        break;
      }
      got += now;
    }
    return got;
  }
  int file_;
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

Status cancelled_error(const std::string& name) {
  return Status::error(StatusCode::cancelled, name + ": cancelled while it was read");
}
bool is_set(const std::atomic<bool>* flag) { return flag != nullptr && flag->load(std::memory_order_relaxed); }

// Memory for the samples that are to be expected, so that they are not copied as they become more. What a header says
// may be wrong: no more than audio of `bytes` has in all likelihood. Pages that are not written to are not there.
void reserve(std::vector<int16_t>& samples, const SF_INFO& info, sf_count_t bytes) {
  constexpr double kMostSamplesPerByte = 32.0;
  if (info.frames <= 0 || info.frames == SF_COUNT_MAX) return;
  const double expected = static_cast<double>(info.frames) * kSampleRate / info.samplerate + kBlockFrames;
  samples.reserve(static_cast<size_t>(std::min(expected, kMostSamplesPerByte * static_cast<double>(bytes))));
}

// A part of a recording is not taken for the whole, and damage not for silence. `found`: what the header says of the
// samples. `silent`: frames of which a channel had no number.
Status check_whole(SNDFILE* file, const SF_INFO& info, const std::optional<SampleBytes>& found, sf_count_t decoded,
                   sf_count_t silent, const std::string& name) {
  const auto seconds = [&](sf_count_t of) { return static_cast<double>(of) / info.samplerate; };
  if (found && found->declared.value_or(0) > found->available) {
    return bad_input(name, fmt::format("{} bytes of samples, as the file says", *found->declared),
                     fmt::format("{}, which are {:.2f} s (cut off)", found->available, seconds(decoded)));
  }
  if (decoded < info.frames && length_is_declared(file, info)) {
    return bad_input(name, fmt::format("{:.2f} s of audio, as the file says", seconds(info.frames)),
                     fmt::format("{:.2f} s (cut off)", seconds(decoded)));
  }
  if (decoded == 0 && found && found->available > 0 && found->declared.value_or(1) > 0) {
    return bad_input(name, "a whole sample of each channel at least", fmt::format("{} bytes", found->available));
  }
  if (decoded > 0 && silent == decoded) return bad_input(name, "samples that are numbers", "none: NaN or infinity");
  return {};
}

Result<std::vector<int16_t>> read_samples(SNDFILE* file, const SF_INFO& info, Source& source,
                                          const std::optional<SampleBytes>& found, const std::string& name,
                                          const std::atomic<bool>* cancel) {
  if (info.samplerate < kLeastRate || info.samplerate > kMostRate) {
    return bad_input(name + ": sample rate", fmt::format("{} to {}", kLeastRate, kMostRate),
                     std::to_string(info.samplerate));
  }
  if (info.channels < 1 || info.channels > kMostChannels) {
    return bad_input(name + ": channels", fmt::format("1 to {}", kMostChannels), std::to_string(info.channels));
  }
  const auto channels = static_cast<size_t>(info.channels);
  std::vector<int16_t> samples;
  reserve(samples, info, source.size());
  Resampler resampler(info.samplerate, samples);
  std::vector<float> block(static_cast<size_t>(kBlockFrames) * channels);
  std::vector<float> mono(static_cast<size_t>(kBlockFrames));
  sf_count_t decoded = 0, silent = 0;
  const auto seconds = [&](sf_count_t of) { return static_cast<double>(of) / info.samplerate; };
  while (true) {
    const sf_count_t frames = sf_readf_float(file, block.data(), kBlockFrames);
    decoded += std::max<sf_count_t>(frames, 0);
    if (source.error() != 0) return os_error(name, "audio that can be read to its end", source.error());
    if (is_set(cancel)) return cancelled_error(name);
    // Asked after every read: the next one forgets it and finds the file at its end.
    if (sf_error(file) != SF_ERR_NO_ERROR) {
      return bad_input(name, "audio that can be decoded to its end",
                       fmt::format("damage at {:.2f} s: {}", seconds(decoded), sf_strerror(file)));
    }
    const auto count = static_cast<size_t>(std::max<sf_count_t>(frames, 0));
    for (size_t i = 0; i < count; ++i) {
      float sum = 0.0f;
      for (size_t c = 0; c < channels; ++c) sum += block[i * channels + c];
      silent += std::isfinite(sum) ? 0 : 1;
      mono[i] = std::isfinite(sum) ? sum / static_cast<float>(channels) : 0.0f;
    }
    const bool last = count == 0;
    if (Status status = resampler.take({mono.data(), count}, last); !status.ok()) {
      return status.with_message(name + ": " + status.message());
    }
    if (last) break;
  }
  KVASS_RETURN_IF_ERROR(check_whole(file, info, found, decoded, silent, name));
  if (samples.capacity() - samples.size() > samples.size() / 8) samples.shrink_to_fit();
  return samples;
}

// Why libsndfile opened nothing.
Status not_opened(const Source& source, const std::string& name) {
  if (source.error() != 0) return os_error(name, kExpected, source.error());
  const StatusCode code = sf_error(nullptr) == SF_ERR_SYSTEM ? StatusCode::io : StatusCode::bad_input;
  return Status::error(code, expected_message(name, kExpected, sf_strerror(nullptr)));
}

Result<std::vector<uint8_t>> read_stdin(const std::atomic<bool>* cancel) {
  std::vector<uint8_t> bytes;
  constexpr size_t kBlock = size_t{1} << 20;
  constexpr size_t kMost = size_t{4} << 30;  // as large as a WAV file can be
  while (bytes.size() <= kMost) {
    const size_t at = bytes.size();
    bytes.resize(at + kBlock);
    const int64_t count = platform::read_standard_input(bytes.data() + at, kBlock);
    const int error = errno;
    bytes.resize(at + static_cast<size_t>(std::max<int64_t>(count, 0)));
    if (is_set(cancel)) return cancelled_error("stdin");
    if (count < 0 && error == EINTR) continue;
    if (count < 0) return os_error("stdin", kExpected, error);
    if (count == 0) return bytes;
  }
  return bad_input("stdin", "at most " + std::to_string(kMost) + " bytes of audio", "more");
}

Result<std::vector<int16_t>> decode(Source& source, const std::string& name, const std::atomic<bool>* cancel) {
  const std::optional<SampleBytes> found = source.sample_bytes();
  SF_VIRTUAL_IO io = Source::functions();
  SF_INFO info{};
  const File file(sf_open_virtual(&io, SFM_READ, &info, &source));
  if (!file || source.error() != 0) return not_opened(source, name);
  return read_samples(file.get(), info, source, found, name, cancel);
}

}  // namespace

Result<std::vector<int16_t>> decode_audio(std::span<const uint8_t> bytes, const std::string& name,
                                          const std::atomic<bool>* cancel) {
  if (bytes.empty()) return bad_input(name, kExpected, "an empty file");
  if (is_adts(bytes)) return adts_error(name);
  Memory memory{bytes};
  return decode(memory, name, cancel);
}

Result<std::vector<int16_t>> decode_audio(const std::string& path, const std::atomic<bool>* cancel) {
  if (path == "-") {
    KVASS_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, read_stdin(cancel));
    return decode_audio(bytes, "stdin", cancel);
  }
  using platform::FileKind;
  const int descriptor = platform::open_to_read(path);
  if (descriptor < 0) return os_error(path, kExpected, errno);
  const platform::FileInfo about = platform::file_info(descriptor);
  OpenFile file(descriptor, about.bytes);
  if (about.kind == FileKind::none) return os_error(path, kExpected, errno);
  if (about.kind != FileKind::file)
    return bad_input(path, kExpected, about.kind == FileKind::folder ? "a folder" : "no file");
  if (about.bytes == 0) return bad_input(path, kExpected, "an empty file");
  std::array<uint8_t, 2> start{};
  const int64_t count = platform::read_at(descriptor, 0, start.data(), start.size());
  if (count < 0) return os_error(path, kExpected, errno);
  if (is_adts(std::span(start).first(static_cast<size_t>(count)))) return adts_error(path);
  return decode(file, path, cancel);
}

}  // namespace kvass
