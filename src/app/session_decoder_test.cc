// A speech model as a .kvp is used where it is mapped, and decodes with the bits of the model that it was made of.
#include "app/session_decoder.h"

#include <gtest/gtest.h>

#include <cstring>

#include "app/export.h"
#include "app/plan.h"
#include "app/speech_source.h"
#include "program/op_spec.h"
#include "scratch.h"
#include "tiny_model.h"
#include "tiny_speech.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

class SpeechFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    TinySpeech().write_ct2(source_);
    ExportOptions options;
    options.model = source_ + "/";
    options.out = kvp_;
    options.stream.math = Math::f32;
    options.stream.kv = DType::f32;
    options.stream.threads = 2;
    options.multifunction = true;
    const Result<ExportSummary> summary = export_program(options);
    ASSERT_TRUE(summary.ok()) << summary.status().message();
    EXPECT_GT(summary->cross_bytes, 0u);
    EXPECT_EQ(summary->methods, (std::vector<std::string>{"prefill", "decode"}));
  }
  // Logits of a prompt, of beams after it, and the weights of the heads that follow the audio.
  static std::vector<float> decoded(SessionDecoder& decoder) {
    std::vector<float> mel(static_cast<size_t>(decoder.mel_bins() * decoder.frames()));
    for (size_t i = 0; i < mel.size(); ++i) mel[i] = static_cast<float>(i * 7919 % 1000) / 500.0f - 1.0f;
    EXPECT_TRUE(decoder.encode(mel.data()).ok());
    std::vector<float> all;
    const auto keep = [&](std::span<const float> values) { all.insert(all.end(), values.begin(), values.end()); };
    keep(decoder.prefill(std::vector<int32_t>{256, 260, 7}, std::vector<int32_t>{0, 2}).value());
    keep(decoder.step(std::vector<int32_t>{0, 0}, std::vector<int32_t>{9, 11}).value());
    keep(decoder.step(std::vector<int32_t>{1, 1, 0}, std::vector<int32_t>{1, 2, 3}).value());
    std::vector<float> attention(static_cast<size_t>(decoder.alignment_heads() * 3 * decoder.source_rows()));
    const std::vector<int32_t> tokens = {256, 260, 7};
    EXPECT_TRUE(decoder
                    .align(
                        tokens, [&](int64_t, const float*) {}, attention.data())
                    .ok());
    keep(attention);
    return all;
  }

  const Scratch scratch_;
  const std::string source_ = scratch_.file("model"), kvp_ = scratch_.file("speech.kvp");
};

TEST_F(SpeechFiles, AreUsedWhereTheyAreMapped) {
  const OpenModel model = open_speech_model(ModelFile::open(kvp_).value(), Math::f32, 2).value();
  EXPECT_EQ(model.format, "kvp");
  EXPECT_EQ(model.engine->weights().block.bytes(), 0u) << "no second copy";
  ASSERT_TRUE(model.engine->weights().file);
  const std::span<const uint8_t> mapped = model.engine->weights().file->bytes();
  for (const PackedWeight& matrix : model.engine->weights().matrices) {
    if (matrix.data == nullptr) continue;
    EXPECT_GE(matrix.data, mapped.data());
    EXPECT_LT(matrix.data, mapped.data() + mapped.size());
  }
  const auto decoder =
      SessionDecoder::create(model, {.sequences = kSpeechSequences, .caches = {}, .threads = 2}).value();
  ASSERT_EQ(decoder->session().methods().size(), 2u);
  EXPECT_EQ(decoder->session().methods()[1].name, "decode");

  const OpenModel source = open_speech_model(ModelFile::open(source_).value(), Math::f32, 1).value();
  const auto plain = SessionDecoder::create(source, {.sequences = 3, .caches = {}, .threads = 1}).value();
  const std::vector<float> expected = decoded(*plain), got = decoded(*decoder);
  ASSERT_EQ(expected.size(), got.size());
  EXPECT_EQ(std::memcmp(expected.data(), got.data(), got.size() * sizeof(float)), 0);
  EXPECT_EQ(source.speech->alignment_heads, model.speech->alignment_heads);
  // A window is projected once, whatever follows.
  EXPECT_EQ(decoder->session().executed(op_kind("update_cross_attn_cache")), TinySpeech::kLayers);
}

TEST_F(SpeechFiles, SayWhatTheyAre) {
  const ModelFile file = ModelFile::open(kvp_).value(), source = ModelFile::open(source_).value();
  EXPECT_EQ(file.format(), "kvp");
  EXPECT_EQ(source.format(), "CTranslate2");
  EXPECT_EQ(source.stream_options().math, Math::f32);
  EXPECT_EQ(source.stream_options().kv, DType::f32);
  ASSERT_TRUE(file.speech() && source.speech());
  const SpeechShape &shape = file.speech()->shape, &expected = source.speech()->shape;
  EXPECT_EQ(shape.mels, expected.mels);
  EXPECT_EQ(shape.frames, expected.frames);
  EXPECT_EQ(shape.source_rows, expected.source_rows);
  EXPECT_EQ(shape.width, expected.width);
  EXPECT_EQ(shape.heads, expected.heads);
  EXPECT_EQ(shape.encoder_layers, expected.encoder_layers);
  EXPECT_EQ(shape.decoder_layers, expected.decoder_layers);
  EXPECT_EQ(shape.vocabulary, expected.vocabulary);
  EXPECT_EQ(shape.context, expected.context);
}

TEST_F(SpeechFiles, ThePlanOfEveryKindIsWhatIsLoaded) {
  for (const std::string& path : {source_, kvp_}) {
    for (const std::optional<WeightType> type : {std::optional<WeightType>(), {WeightType::Q8_0}}) {
      WeightOptions weights;
      weights.type = type;
      ModelFile file = ModelFile::open(path).value();
      StreamOptions own = file.stream_options();
      own.threads = 1;
      const MemoryPlan plan = PlannedModel::of(file, weights)->plan(own, 1).value();
      const OpenModel model = open_speech_model(std::move(file), own.arithmetic(), 1, weights).value();
      EXPECT_EQ(plan.weight_bytes, model.engine->weights().bytes()) << path;
      const auto decoder =
          SessionDecoder::create(model, {.sequences = own.sequences, .caches = {}, .threads = own.threads}).value();
      EXPECT_EQ(plan.cache_bytes(), decoder->cache_bytes()) << path;
      EXPECT_EQ(plan.arena_bytes, decoder->session().arena_bytes()) << path;
    }
  }
}

TEST_F(SpeechFiles, AJobThatTakesTheOtherKindSaysSo) {
  for (const std::string& path : {source_, kvp_}) {
    EXPECT_NE(open_model(path, Math::f32, 1).status().message().find("kvass transcribe"), std::string::npos) << path;
  }
  const std::string text = scratch_.file("text.gguf");
  ASSERT_TRUE(TinyModel().writer().write(text).ok());
  const std::string message = open_speech_model(ModelFile::open(text).value(), Math::f32, 1).status().message();
  EXPECT_EQ(message, text + ": expected a speech model, got one that writes text");
}

}  // namespace
}  // namespace kvass
