// Whisper base against CTranslate2 and PyTorch in float32: layers, encoder output, logits, probabilities.
// KVASS_SPEECH_MODEL names the folder of the model (model.bin); without it, or without the goldens, tests are skipped
// with a message.
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>

#include "file/ct2.h"
#include "file/safetensors.h"
#include "goldens.h"
#include "model/speech.h"
#include "session/session.h"

namespace kvass {
namespace {

std::string why_no_model() {
  const char* folder = std::getenv("KVASS_SPEECH_MODEL");
  if (folder == nullptr || *folder == 0) return "set KVASS_SPEECH_MODEL to the folder of whisper-base to run this test";
  if (!std::ifstream(folder + std::string("/model.bin")).good()) return std::string(folder) + "/model.bin is not there";
  if (!testing::golden_path("whisper/jfk.safetensors")) return "no goldens in " KVASS_GOLDENS_DIR;
  return "";
}

#define KVASS_NEEDS_SPEECH_MODEL() \
  if (const std::string why = why_no_model(); !why.empty()) GTEST_SKIP() << why

constexpr int32_t kStart = 50258, kEnglish = 50259, kTranscribe = 50359, kNoTimestamps = 50363, kNoSpeech = 50362;

std::vector<float> numbers(const SafeTensors& file, const std::string& name) {
  const SafeTensor& tensor = *file.find(name);
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

struct Model {
  std::shared_ptr<const Engine> engine;
  SpeechShape shape;
};

Model load(Math math, std::optional<WeightType> type = {}) {
  ThreadPool pool(2);
  const Ct2Model file = Ct2Model::open(std::getenv("KVASS_SPEECH_MODEL") + std::string("/model.bin")).value();
  SpeechProgram built = build_speech_program(file, file.integer("encoder/num_heads").value()).value();
  WeightStore weights = load_weights(file, built.model, type, pool).value();
  const Isa isa = choose_isa(detect_cpu_features(), "").value();
  return {Engine::create(built.model.program, std::move(weights), {math, isa}).value(), built.shape};
}

// The spectrogram of jfk.wav as the encoder's input: the first `frames` frames, followed by zeros.
std::vector<float> jfk(int64_t frames) {
  const SafeTensors file = SafeTensors::open(*testing::golden_path("whisper/jfk.safetensors")).value();
  const std::vector<float> mel = numbers(file, "fw_mel_full");
  std::vector<float> input(80 * 3000, 0.0f);
  for (int64_t channel = 0; channel < 80; ++channel) {
    std::copy_n(mel.begin() + channel * 1101, frames, input.begin() + channel * 3000);
  }
  return input;
}

class Speech {
 public:
  explicit Speech(Math math, std::optional<WeightType> type = {}, DType caches = DType::f32)
      : model_(load(math, type)) {
    session_ = Session::create(model_.engine, {.rows = 64, .head_rows = 32, .sequences = 5, .threads = 2}).value();
    stream_ = sequence(caches);
  }
  std::unique_ptr<Sequence> sequence(DType caches) {
    return Sequence::create(model_.engine, {.context = 448, .chunk = 64, .dtype = caches}).value();
  }
  void encode(const std::vector<float>& input) {
    const std::array<int64_t, 2> shape = {80, 3000};
    const Status status = session_->encode(*stream_, {input.data(), DType::f32, shape});
    ASSERT_TRUE(status.ok()) << status.message();
  }
  // Logits of every token of the step.
  std::vector<std::vector<float>> step(const std::vector<int32_t>& tokens) {
    const kvass::Run run{stream_.get(), stream_->length(), tokens};
    const Status status = session_->step({std::span(&run, 1)}).status();
    EXPECT_TRUE(status.ok()) << status.message();
    std::vector<std::vector<float>> all;
    for (int32_t row = 0; row < static_cast<int32_t>(tokens.size()); ++row) {
      const std::span<const float> logits = session_->step({.logits = std::span(&row, 1)}).value().logits;
      all.emplace_back(logits.begin(), logits.end());
    }
    return all;
  }
  Session& session() { return *session_; }
  Sequence& stream() { return *stream_; }
  const Model& model() const { return model_; }

 private:
  Model model_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<Sequence> stream_;
};

// Checks the root mean square and the largest of the differences.
void expect_near(const std::vector<float>& got, const std::vector<float>& expected, double rms, double most,
                 const std::string& what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  double squares = 0.0, greatest = 0.0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double difference = std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i]));
    squares += difference * difference;
    greatest = std::max(greatest, difference);
  }
  const double mean = std::sqrt(squares / static_cast<double>(got.size()));
  EXPECT_LE(mean, rms) << what;
  EXPECT_LE(greatest, most) << what;
  if (std::getenv("KVASS_SHOW") != nullptr) std::printf("%-32s rms %.2e max %.2e\n", what.c_str(), mean, greatest);
}

// [::row_step, ::column_step]
std::vector<float> slice(const float* values, int64_t rows, int64_t width, int64_t row_step, int64_t column_step) {
  std::vector<float> out;
  for (int64_t row = 0; row < rows; row += row_step) {
    for (int64_t column = 0; column < width; column += column_step) out.push_back(values[row * width + column]);
  }
  return out;
}

TEST(GoldenSpeech, EncoderAndDecoderLayersAreThoseOfPyTorch) {
  KVASS_NEEDS_SPEECH_MODEL();
  const SafeTensors file =
      SafeTensors::open(*testing::golden_path("whisper/jfk_internals_window0.safetensors")).value();
  Speech speech(Math::f32);
  std::map<std::string, std::vector<float>> seen;
  const Program& program = speech.model().engine->program();
  bool encoding = true;
  speech.session().set_probe([&](const ProbeView& probe) {
    const std::string& name = program.values[static_cast<size_t>(probe.value)].name;
    const bool cross = name.find("cross k") != std::string::npos || name.find("cross v") != std::string::npos;
    seen[(encoding ? "e " : "d ") + name] = slice(probe.data, probe.rows, probe.width,
                                                  encoding ? 50
                                                  : cross  ? 100
                                                           : 1,
                                                  16);
  });
  speech.encode(jfk(1100));
  encoding = false;
  std::vector<int32_t> tokens(static_cast<size_t>(file.find("seq")->elements()));
  std::memcpy(tokens.data(), file.find("seq")->bytes.data(), tokens.size() * 4);
  const std::vector<std::vector<float>> logits = speech.step(tokens);
  const auto check = [&](const std::string& value, const std::string& golden, double rms, double most) {
    ASSERT_TRUE(seen.contains(value)) << value;
    expect_near(seen[value], numbers(file, golden), rms, most, golden);
  };
  check("e positions", "enc_embed_out", 2e-6, 2e-5);
  check("e encoder output norm", "enc_final_after_layer_norm", 2e-5, 5e-3);
  check("d positions", "dec_embed_out", 1e-7, 1e-6);
  for (int i = 0; i < 6; ++i) {
    const std::string layer = "layer " + std::to_string(i) + " ", golden = std::to_string(i);
    if (i < 5) {
      check("e encoder " + layer + "ffn residual", "enc_layer" + golden + "_out", 2e-5, 5e-3);
      check("d " + layer + "ffn residual", "dec_layer" + golden + "_out", 5e-5, 5e-4);
    }
    check("d " + layer + "k", "dec" + golden + "_self_k_slice_1_16", 5e-5, 5e-4);
    check("d " + layer + "v bias", "dec" + golden + "_self_v_slice_1_16", 5e-5, 5e-4);
    check("d " + layer + "cross k", "dec" + golden + "_cross_k_slice_100_16", 5e-5, 1e-3);
    check("d " + layer + "cross v bias", "dec" + golden + "_cross_v_slice_100_16", 5e-5, 1e-3);
  }
  const std::vector<float> top = numbers(file, "logits_top16");
  std::vector<int32_t> ids(top.size());
  std::memcpy(ids.data(), file.find("logits_top16_ids")->bytes.data(), ids.size() * 4);
  std::vector<double> sums(tokens.size());
  std::memcpy(sums.data(), file.find("logits_logsumexp")->bytes.data(), sums.size() * 8);
  for (size_t t = 0; t < tokens.size(); ++t) {
    for (size_t i = 0; i < 16; ++i) {
      EXPECT_NEAR(logits[t][static_cast<size_t>(ids[t * 16 + i])], top[t * 16 + i], 5e-4) << t;
    }
    double sum = 0.0;
    for (const float x : logits[t]) sum += std::exp(static_cast<double>(x));
    EXPECT_NEAR(std::log(sum), sums[t], 2e-4) << t;
  }
}

TEST(GoldenSpeech, FirstLogitsAndProbabilitiesAreThoseOfTheGoldens) {
  KVASS_NEEDS_SPEECH_MODEL();
  const SafeTensors file = SafeTensors::open(*testing::golden_path("whisper/jfk.safetensors")).value();
  Speech speech(Math::f32);
  speech.encode(jfk(1100));
  const float* source = speech.stream().cross()->source();
  expect_near(slice(source, 1500, 512, 50, 16), numbers(file, "enc_window0_torch_slice"), 2e-5, 5e-3, "encoder, torch");
  expect_near(slice(source, 1500, 512, 50, 16), numbers(file, "enc_window0_ct2_slice"), 2e-5, 5e-3, "encoder, ct2");
  std::vector<float> four;
  for (const int64_t row : {0, 1, 749, 1499}) four.insert(four.end(), source + row * 512, source + (row + 1) * 512);
  expect_near(four, numbers(file, "enc_window0_ct2_rows0_1_749_1499"), 2e-5, 5e-3, "encoder rows, ct2");
  const auto logits = speech.step({kStart, kEnglish, kTranscribe, kNoTimestamps});
  expect_near(logits[0], numbers(file, "logits_sot_torch"), 5e-4, 5e-4, "logits, start");
  expect_near(logits[2], numbers(file, "logits_first_step_torch"), 5e-4, 5e-4, "logits, first step");
  expect_near(logits[3], numbers(file, "logits_first_step_no_timestamps_torch"), 5e-4, 5e-4, "logits, no timestamps");
}

TEST(GoldenSpeech, LanguageAndNoSpeechProbabilitiesAreThoseOfTheGoldens) {
  KVASS_NEEDS_SPEECH_MODEL();
  const nlohmann::json golden = *testing::load_golden("whisper/jfk.json");
  Speech speech(Math::f32);
  speech.encode(jfk(1101));  // language detection includes the last frame
  const std::vector<float> logits = speech.step({kStart})[0];
  double sum = 0.0;
  for (int32_t id = kEnglish; id < kEnglish + 99; ++id)
    sum += std::exp(static_cast<double>(logits[static_cast<size_t>(id)]));
  const double english = std::exp(static_cast<double>(logits[kEnglish])) / sum;
  EXPECT_NEAR(english, golden["language"]["probability"].get<double>(), 2e-5);
  ASSERT_TRUE(speech.stream().rewind(0).ok());
  speech.encode(jfk(1100));
  const std::vector<float> start = speech.step({kStart})[0];
  double all = 0.0;
  for (const float x : start) all += std::exp(static_cast<double>(x));
  const double silence = std::exp(static_cast<double>(start[kNoSpeech])) / all;
  EXPECT_NEAR(silence, golden["runs"]["greedy_condition_default"]["windows"][0]["no_speech_prob"].get<double>(), 2e-5);
}

TEST(GoldenSpeech, APromptAtOnceHasTheBitsOfOneTokenAtATime) {
  KVASS_NEEDS_SPEECH_MODEL();
  Speech speech(Math::f32);
  speech.encode(jfk(1100));
  const std::vector<int32_t> prompt = {kStart, kEnglish, kTranscribe, kNoTimestamps, 400, 370, 452, 7177};
  const std::vector<std::vector<float>> at_once = speech.step(prompt);
  EXPECT_EQ(speech.session().executed(OpKind::update_cross_attn_cache), 6);
  ASSERT_TRUE(speech.stream().rewind(0).ok());
  for (size_t t = 0; t < prompt.size(); ++t) {
    const std::vector<float> alone = speech.step({prompt[t]})[0];
    EXPECT_EQ(std::memcmp(alone.data(), at_once[t].data(), alone.size() * sizeof(float)), 0) << t;
  }
  EXPECT_EQ(speech.session().executed(OpKind::update_cross_attn_cache), 6);  // once a window
}

TEST(GoldenSpeech, TheArenaIsWithinATenthOfWhatLivesAtOnce) {
  KVASS_NEEDS_SPEECH_MODEL();
  Speech speech(Math::f32);
  const ArenaPlan& plan = speech.session().arena_plan();
  EXPECT_LE(static_cast<double>(plan.bytes), 1.1 * static_cast<double>(plan.bound_bytes));
  std::printf("arena %zu, bound %zu, side by side %zu bytes\n", plan.bytes, plan.bound_bytes, plan.sum_bytes);
}

// Prints the time of an encode; nothing is checked.
TEST(GoldenSpeech, TimesOfAnEncode) {
  KVASS_NEEDS_SPEECH_MODEL();
  if (std::getenv("KVASS_SHOW") == nullptr) GTEST_SKIP() << "set KVASS_SHOW to see them";
  const std::vector<float> input = jfk(1100);
  for (const auto& [name, math, type] :
       {std::tuple("f32", Math::f32, std::optional<WeightType>(WeightType::F32)),
        std::tuple("f16", Math::f32, std::optional<WeightType>()),
        std::tuple("q8_0 a16", Math::a16, std::optional<WeightType>(WeightType::Q8_0)),
        std::tuple("q8_0 a8", Math::a8, std::optional<WeightType>(WeightType::Q8_0))}) {
    Speech speech(math, type);
    double best = 1e9;
    for (int i = 0; i < 5; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      speech.encode(input);
      best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    double step = 1e9;
    speech.step({kStart, kEnglish, kTranscribe});
    for (int i = 0; i < 20; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      speech.step({400});
      step = std::min(step, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    std::printf("%-10s encode %.3f s, step %.2f ms\n", name, best, 1e3 * step);
  }
}

}  // namespace
}  // namespace kvass
