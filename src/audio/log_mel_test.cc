#include "audio/log_mel.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "audio/decode.h"
#include "file/safetensors.h"
#include "goldens.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

TEST(LogMel, OneThreadAndThreeGiveTheSameFrames) {
  std::vector<int16_t> samples(40000);
  for (size_t i = 0; i < samples.size(); ++i) samples[i] = static_cast<int16_t>((i * i * 7919) % 20000);
  ThreadPool one(1), three(3);
  const LogMel a(samples, 80, one), b(samples, 80, three);
  EXPECT_EQ(a.frames(), 251);
  std::vector<float> x(80 * 300), y(80 * 300), part(80 * 50);
  a.window(0, 251, 300, x.data());
  b.window(0, 251, 300, y.data());
  EXPECT_EQ(x, y);
  a.window(100, 20, 50, part.data());
  for (size_t mel = 0; mel < 80; ++mel) {
    for (size_t t = 0; t < 50; ++t) EXPECT_EQ(part[mel * 50 + t], t < 20 ? x[mel * 300 + 100 + t] : 0.0f);
    for (size_t t = 251; t < 300; ++t) EXPECT_EQ(x[mel * 300 + t], 0.0f);
  }
}

TEST(LogMel, ShortAndSilentRecordingsAreFinite) {
  ThreadPool pool(1);
  for (const size_t size : {size_t{0}, size_t{1}, size_t{159}, size_t{160}, size_t{1600}}) {
    const std::vector<int16_t> samples(size, 0);
    const LogMel mel(samples, 128, pool);
    EXPECT_EQ(mel.frames(), static_cast<int64_t>(size / 160 + 1));
    std::vector<float> out(static_cast<size_t>(128 * mel.frames()));
    mel.window(0, mel.frames(), mel.frames(), out.data());
    for (const float value : out) EXPECT_EQ(value, -1.5f);
  }
}

TEST(LogMel, EqualsTheGoldens) {
  for (const char* clip : {"jfk", "en_short", "en_two_minutes", "en_8k", "en_44k_stereo", "de"}) {
    const auto json = load_golden(std::string("whisper/") + clip + ".json");
    if (!json) GTEST_SKIP() << "no goldens";
    const Result<SafeTensors> golden = SafeTensors::open(*golden_path(std::string("whisper/") + clip + ".safetensors"));
    ASSERT_TRUE(golden.ok()) << golden.status().message();
    std::vector<int16_t> samples;
    if (const SafeTensor* const pcm = golden->find("pcm16k_int16")) {
      samples.resize(static_cast<size_t>(pcm->elements()));
      std::memcpy(samples.data(), pcm->bytes.data(), pcm->bytes.size());
    } else {
      const std::string file = (*json)["clip"].get<std::string>();
      const Result<std::vector<int16_t>> decoded = decode_audio(std::string(KVASS_GOLDENS_DIR) + "/../audio/" + file);
      ASSERT_TRUE(decoded.ok()) << decoded.status().message();
      samples = decoded.value();
    }
    EXPECT_EQ(samples.size(), (*json)["pcm16k"]["n_samples"].get<size_t>()) << clip;
    ThreadPool pool(2);
    const LogMel mel(samples, 80, pool);
    const auto frames = static_cast<size_t>(mel.frames());
    ASSERT_EQ(frames, (*json)["features_fw"]["shape"][1].get<size_t>()) << clip;
    std::vector<float> out(80 * frames);
    mel.window(0, mel.frames(), mel.frames(), out.data());
    const auto compare = [&](const char* name, size_t first_mel, size_t mel_step, size_t first, size_t step) {
      const SafeTensor* const tensor = golden->find(name);
      if (tensor == nullptr) return;
      const auto rows = static_cast<size_t>(tensor->shape[0]), columns = static_cast<size_t>(tensor->shape[1]);
      double worst = 0, sum = 0;
      for (size_t i = 0; i < rows; ++i) {
        for (size_t j = 0; j < columns; ++j) {
          float expected = 0;
          std::memcpy(&expected, tensor->bytes.data() + 4 * (i * columns + j), 4);
          const double error = std::abs(out[(first_mel + i * mel_step) * frames + first + j * step] - expected);
          worst = std::max(worst, error);
          sum += error * error;
        }
      }
      EXPECT_LE(worst, 1e-4) << clip << " " << name;
      EXPECT_LE(std::sqrt(sum / static_cast<double>(rows * columns)), 5e-6) << clip << " " << name;
    };
    compare("fw_mel_full", 0, 1, 0, 1);
    compare("fw_mel_first100", 0, 1, 0, 1);
    compare("fw_mel_stride_4_25", 0, 4, 0, 25);
    compare("fw_mel_last20", 0, 1, frames - 20, 1);
  }
}

}  // namespace
}  // namespace kvass
