#include "audio/decode.h"

#include <gtest/gtest.h>
#include <sndfile.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <numbers>
#include <thread>

#include "damage.h"
#include "effort.h"
#include "scratch.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

// A file with the same tone of 440 Hz in every channel.
std::string tone(const Scratch& scratch, const std::string& name, int rate, int channels, int format, int frames) {
  SF_INFO info{};
  info.samplerate = rate;
  info.channels = channels;
  info.format = format;
  const std::string path = scratch.file(name);
  SNDFILE* const file = sf_open(path.c_str(), SFM_WRITE, &info);
  EXPECT_NE(file, nullptr) << sf_strerror(nullptr);
  std::vector<float> samples(static_cast<size_t>(frames) * static_cast<size_t>(channels));
  for (size_t i = 0; i < samples.size(); ++i) {
    const auto t = static_cast<double>(i / static_cast<size_t>(channels)) / rate;
    samples[i] = static_cast<float>(0.5 * std::sin(2.0 * std::numbers::pi * 440.0 * t));
  }
  EXPECT_EQ(sf_writef_float(file, samples.data(), frames), frames);
  sf_close(file);
  return path;
}

// The tone's share of the samples' energy.
double tone_share(const std::vector<int16_t>& samples) {
  double re = 0, im = 0, all = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    const double angle = 2.0 * std::numbers::pi * 440.0 * static_cast<double>(i) / kSampleRate;
    re += samples[i] * std::cos(angle);
    im += samples[i] * std::sin(angle);
    all += static_cast<double>(samples[i]) * samples[i];
  }
  return 2.0 * (re * re + im * im) / (all * static_cast<double>(samples.size()));
}

TEST(DecodeAudio, TakesEveryFormatRateAndChannelCount) {
  const Scratch scratch;
  const struct {
    const char* name;
    int rate, channels, format;
  } cases[] = {{"a.wav", 16000, 1, SF_FORMAT_WAV | SF_FORMAT_PCM_16},
               {"b.wav", 8000, 1, SF_FORMAT_WAV | SF_FORMAT_PCM_U8},
               {"c.wav", 48000, 7, SF_FORMAT_WAV | SF_FORMAT_FLOAT},
               {"d.flac", 44100, 2, SF_FORMAT_FLAC | SF_FORMAT_PCM_24},
               {"e.ogg", 22050, 2, SF_FORMAT_OGG | SF_FORMAT_VORBIS},
               {"f.mp3", 44100, 1, SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III},
               {"g.wav", 96000, 1, SF_FORMAT_WAV | SF_FORMAT_DOUBLE}};
  for (const auto& c : cases) {
    const std::string path = tone(scratch, c.name, c.rate, c.channels, c.format, c.rate);
    const Result<std::vector<int16_t>> samples = decode_audio(path);
    ASSERT_TRUE(samples.ok()) << samples.status().message();
    // MP3 pads its ends.
    EXPECT_NEAR(static_cast<double>(samples->size()), 16000.0, std::string(c.name) == "f.mp3" ? 1700.0 : 40.0)
        << c.name;
    EXPECT_GT(tone_share(samples.value()), 0.9) << c.name;
    EXPECT_NEAR(*std::max_element(samples->begin() + 4000, samples->begin() + 8000), 16384, 700) << c.name;
  }
}

TEST(DecodeAudio, SixteenBitsAtSixteenKilohertzStayAsTheyAre) {
  const Scratch scratch;
  SF_INFO info{};
  info.samplerate = 16000;
  info.channels = 1;
  info.format = SF_FORMAT_WAV | SF_FORMAT_PCM_16;
  std::vector<int16_t> all;
  for (int value = -32768; value <= 32767; ++value) all.push_back(static_cast<int16_t>(value));
  SNDFILE* const file = sf_open(scratch.file("all.wav").c_str(), SFM_WRITE, &info);
  sf_write_short(file, all.data(), static_cast<sf_count_t>(all.size()));
  sf_close(file);
  EXPECT_EQ(decode_audio(scratch.file("all.wav")).value(), all);
}

TEST(DecodeAudio, WhatIsNoAudioIsOneLine) {
  const Scratch scratch;
  const auto message = [](const Result<std::vector<int16_t>>& result) {
    const std::string text = result.ok() ? "" : result.status().message();
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    return text;
  };
  expect_words(message(decode_audio("/nowhere.wav")), {"/nowhere.wav: expected an audio file", "No such file"});
  expect_words(message(decode_audio(scratch.file(""))), {"a folder"});
  const std::vector<uint8_t> text(1000, 'x');
  expect_words(message(decode_audio(text, "f")), {"f: expected an audio file"});
  expect_words(message(decode_audio(std::span<const uint8_t>(), "f")), {"an empty file"});
}

// Writes the bytes of a little-endian integer into a file.
void patch(const std::string& path, std::streamoff at, uint64_t value, int size = 4) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(at);
  for (int i = 0; i < size; ++i) file.put(static_cast<char>(value >> (8 * i) & 255));
}

TEST(DecodeAudio, APartOfARecordingIsNotTakenForTheWhole) {
  const Scratch scratch;
  const struct {
    const char* name;
    int format;
  } formats[] = {{"a.wav", SF_FORMAT_WAV | SF_FORMAT_PCM_16},
                 {"b.wav", SF_FORMAT_WAVEX | SF_FORMAT_FLOAT},
                 {"c.wav", SF_FORMAT_RF64 | SF_FORMAT_PCM_16},
                 {"d.w64", SF_FORMAT_W64 | SF_FORMAT_PCM_16},
                 {"e.aiff", SF_FORMAT_AIFF | SF_FORMAT_PCM_16},
                 {"f.au", SF_FORMAT_AU | SF_FORMAT_PCM_16},
                 {"g.wav", SF_FORMAT_WAV | SF_FORMAT_MS_ADPCM},
                 {"h.flac", SF_FORMAT_FLAC | SF_FORMAT_PCM_16},
                 {"i.wav", SF_FORMAT_WAV | SF_FORMAT_PCM_16 | SF_ENDIAN_BIG}};
  for (const auto& format : formats) {
    const std::string path = tone(scratch, format.name, 16000, 2, format.format, 16000);
    const uintmax_t whole = std::filesystem::file_size(path);
    EXPECT_GE(decode_audio(path).value().size(), 16000u) << format.name;
    for (const uintmax_t bytes : {whole - 2000, whole / 2, uintmax_t{8000}}) {
      std::filesystem::resize_file(path, bytes);
      const Result<std::vector<int16_t>> cut = decode_audio(path);
      ASSERT_FALSE(cut.ok()) << format.name << ": " << bytes << " bytes give " << cut.value().size();
      if (format.name[0] != 'h')
        expect_words(cut.status().message(), {"expected ", "as the file says, got ", "(cut off)"});
    }
  }
  const std::string path = tone(scratch, "whole.wav", 16000, 1, SF_FORMAT_WAV | SF_FORMAT_PCM_16, 16000);
  std::filesystem::resize_file(path, 44);
  expect_words(decode_audio(path).status().message(), {"expected 32000 bytes of samples", "got 0"});
}

TEST(DecodeAudio, AStreamOfUnknownLengthGivesWhatItHas) {
  const Scratch scratch;
  for (const uint64_t size : {uint64_t{0}, uint64_t{0xffffffff}, uint64_t{0x7ffff000}, uint64_t{0x80000000}}) {
    const std::string path = tone(scratch, "stream.wav", 16000, 1, SF_FORMAT_WAV | SF_FORMAT_PCM_16, 16000);
    std::filesystem::resize_file(path, 44 + 2 * 5000);
    patch(path, 4, size == 0 ? 0 : size - 8);
    patch(path, 40, size);
    const Result<std::vector<int16_t>> samples = decode_audio(path);
    ASSERT_TRUE(samples.ok()) << size << ": " << samples.status().message();
    EXPECT_EQ(samples->size(), 5000u) << size;
    std::filesystem::resize_file(path, 44);
    EXPECT_EQ(decode_audio(path).value().size(), 0u) << size;
    if (size != 0) continue;
    std::ofstream(path, std::ios::binary | std::ios::app) << std::string("note\4\0\0\0text", 12);
    EXPECT_EQ(decode_audio(path).value().size(), 0u) << "no samples, and another chunk";
  }
}

TEST(DecodeAudio, WhatHasNoSampleIsNotSilence) {
  const Scratch scratch;
  const std::string path = tone(scratch, "one.wav", 16000, 2, SF_FORMAT_WAV | SF_FORMAT_PCM_16, 1);
  std::filesystem::resize_file(path, 44 + 3);
  patch(path, 40, 3);
  expect_words(decode_audio(path).status().message(), {"a whole sample of each channel", "3 bytes"});
  SF_INFO info{};
  info.samplerate = 16000;
  info.channels = 1;
  info.format = SF_FORMAT_WAV | SF_FORMAT_FLOAT;
  for (const float value : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> samples(20'000, value);
    const std::string broken = scratch.file("nan.wav");
    for (const bool one_is_fine : {false, true}) {
      if (one_is_fine) samples[15'000] = 0.25f;
      SNDFILE* const file = sf_open(broken.c_str(), SFM_WRITE, &info);
      sf_write_float(file, samples.data(), static_cast<sf_count_t>(samples.size()));
      sf_close(file);
      const Result<std::vector<int16_t>> result = decode_audio(broken);
      ASSERT_EQ(result.ok(), one_is_fine);
      if (!one_is_fine) expect_words(result.status().message(), {"samples that are numbers", "NaN or infinity"});
    }
  }
}

// A WAV file of so many seconds of silence at 16 kHz that takes no room on the disk.
std::string silence(const Scratch& scratch, const char* name, size_t seconds) {
  const std::string path = tone(scratch, name, 16000, 1, SF_FORMAT_WAV | SF_FORMAT_PCM_16, 16);
  const size_t bytes = seconds * 32000;
  std::filesystem::resize_file(path, 44 + bytes);
  patch(path, 4, 36 + bytes);
  patch(path, 40, bytes);
  return path;
}

TEST(DecodeAudio, AFileThatBecomesShorterMeanwhileIsAnErrorNotAShorterRecording) {
  const Scratch scratch;
  constexpr size_t kSeconds = 2000;
  int refused = 0;
  for (int wait = 0; wait < 40; wait += 2) {
    const std::string path = silence(scratch, "shrinks.wav", kSeconds);
    std::thread cut([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(wait));
      std::filesystem::resize_file(path, 44 + 1000);
    });
    const Result<std::vector<int16_t>> samples = decode_audio(path);
    cut.join();
    if (samples.ok()) {
      EXPECT_EQ(samples->size(), kSeconds * 16000);
    } else if (samples.status().code() == StatusCode::bad_input) {  // cut before it was opened
      expect_words(samples.status().message(), {"shrinks.wav", "(cut off)"});
    } else {
      ++refused;
      EXPECT_EQ(samples.status().code(), StatusCode::io) << samples.status().message();
      expect_words(samples.status().message(), {"shrinks.wav: expected audio that can be read to its end"});
    }
  }
  EXPECT_GT(refused, 0) << "every file was read before it was cut, or afterwards";
}

TEST(DecodeAudio, SamplesTakeLittleMoreThanTheirOwnMemory) {
  const Scratch scratch;
  for (const size_t seconds : {100u, 1000u, 1100u, 1900u}) {
    const Result<std::vector<int16_t>> samples = decode_audio(silence(scratch, "long.wav", seconds));
    ASSERT_TRUE(samples.ok()) << samples.status().message();
    EXPECT_EQ(samples->size(), seconds * 16000);
    EXPECT_LE(samples->capacity(), samples->size() + samples->size() / 8);
  }
  // Memory is reserved once: what was read is not copied as more comes.
  const std::string path = silence(scratch, "once.wav", 600);
  rusage before{}, after{};
  ASSERT_EQ(::getrusage(RUSAGE_SELF, &before), 0);
  ASSERT_TRUE(decode_audio(path).ok());
  ASSERT_EQ(::getrusage(RUSAGE_SELF, &after), 0);
  if (!kSanitized) {
    EXPECT_LT(after.ru_minflt - before.ru_minflt, 3 * 600 * 32000 / 4096 / 2);
  }
}

TEST(DecodeAudio, ACancelEndsIt) {
  const Scratch scratch;
  const std::string path = silence(scratch, "cancelled.wav", 100);
  const std::atomic<bool> cancel{true};
  const Status status = decode_audio(path, &cancel).status();
  EXPECT_EQ(status.code(), StatusCode::cancelled);
}

TEST(DecodeAudio, ACancelEndsTheWaitForStandardInputWithoutASignal) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const int before = ::dup(STDIN_FILENO);
  ::dup2(ends[0], STDIN_FILENO);
  EXPECT_EQ(::write(ends[1], "RIFF", 4), 4);
  std::atomic<bool> cancel{false};
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    cancel = true;
  });
  EXPECT_EQ(decode_audio("-", &cancel).status().code(), StatusCode::cancelled);
  other.join();
  ::dup2(before, STDIN_FILENO);
  for (const int file : {before, ends[0], ends[1]}) ::close(file);
}

// Bytes of a file; the part [begin, end) of it, in shares of its size, is overwritten.
std::vector<uint8_t> damaged(const std::string& path, double begin, double end) {
  std::ifstream file(path, std::ios::binary);
  std::vector<uint8_t> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto at = [&](double share) { return static_cast<size_t>(share * static_cast<double>(bytes.size())); };
  for (size_t i = at(begin); i < at(end); ++i) bytes[i] = static_cast<uint8_t>(i * i * 7919 >> 3);
  return bytes;
}

TEST(DecodeAudio, AFileThatCannotBeDecodedToItsEndIsAnErrorWithTheSecond) {
  const Scratch scratch;
  const std::string flac = tone(scratch, "a.flac", 16000, 1, SF_FORMAT_FLAC | SF_FORMAT_PCM_16, 64000),
                    mp3 = tone(scratch, "a.mp3", 16000, 1, SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III, 64000);
  const auto message = [](const std::vector<uint8_t>& bytes) {
    const Result<std::vector<int16_t>> samples = decode_audio(bytes, "f");
    return samples.ok() ? "" : samples.status().message();
  };
  for (const std::string& path : {flac, mp3}) {
    SCOPED_TRACE(path);
    EXPECT_EQ(message(damaged(path, 0, 0)), "") << "whole";
    std::vector<uint8_t> cut = damaged(path, 0, 0);
    cut.resize(cut.size() / 2);
    EXPECT_NE(message(cut), "");
    // The damage begins at 2 s of 4, where frames are about as long as each other.
    const std::string text = message(damaged(path, 0.5, 0.9));
    expect_words(text, {"f: expected ", " s"});
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  }
  expect_words(message(damaged(flac, 0.5, 0.51)),
               {"f: expected audio that can be decoded to its end, got damage at ", " s: "});
  // From a path it is the same.
  std::vector<uint8_t> bytes = damaged(flac, 0.5, 0.51);
  const std::string path = scratch.file("damaged.flac");
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  expect_words(decode_audio(path).status().message(), {"damaged.flac", "got damage at "});
}

TEST(DecodeAudio, AacIsSaidToBeWhatItIs) {
  std::vector<uint8_t> bytes(4000);
  bytes[0] = 0xff;
  bytes[1] = 0xf1;
  EXPECT_EQ(decode_audio(bytes, "f.mp3").status().message(),
            "f.mp3: expected an audio file (WAV, FLAC, OGG or MP3), got AAC (ADTS)");
}

}  // namespace
}  // namespace kvass
