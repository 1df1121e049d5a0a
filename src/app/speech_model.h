// Opening a speech model: whatever its format, to an engine and a tokenizer; and the SpeechDecoder that a session over
// that engine is. Formats: a CTranslate2 folder (model.bin), a Hugging Face folder (model.safetensors), a ggml file.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "app/speech_decoder.h"
#include "kvass/status.h"
#include "model/speech.h"
#include "ops/linear/linear.h"
#include "session/engine.h"
#include "session/session.h"
#include "text/speech_tokenizer.h"

namespace kvass {

// f32, f16, bf16, q8_0, q4_0; empty: none, as the file has them.
Result<std::optional<WeightType>> parse_weights(std::string_view text);

struct SpeechModelOptions {
  Math math = Math::f32;
  std::optional<WeightType> weights;  // what matrices are packed as; none: as the file has them
  int threads = 1;
};

struct SpeechModel {
  std::string path;
  std::string format;  // "CTranslate2"
  SpeechShape shape;
  std::shared_ptr<const Engine> engine;
  std::shared_ptr<const SpeechTokenizer> tokenizer;
  std::vector<std::pair<int64_t, int64_t>> alignment_heads;  // (decoder layer, head): those that follow the audio
  double load_seconds = 0.0;
};

Result<SpeechModel> open_speech_model(const std::string& path, const SpeechModelOptions& options);

struct SpeechSessionOptions {
  int64_t sequences = 1;      // that live at a time
  DType caches = DType::f32;  // storage of keys and values
  int threads = 1;
};

class SessionDecoder final : public SpeechDecoder {
 public:
  static Result<std::unique_ptr<SessionDecoder>> create(const SpeechModel& model, const SpeechSessionOptions& options);

  int64_t vocabulary() const override { return shape_.vocabulary; }
  int64_t context() const override { return shape_.context; }
  int64_t mel_bins() const override { return shape_.mels; }
  int64_t frames() const override { return shape_.frames; }
  int64_t source_rows() const override { return shape_.source_rows; }
  int64_t most_sequences() const override { return static_cast<int64_t>(sequences_.size()); }
  int64_t alignment_heads() const override { return static_cast<int64_t>(heads_.size()); }

  Status encode(const float* mel) override;
  Result<std::span<const float>> prefill(std::span<const int32_t> tokens, std::span<const int32_t> rows) override;
  Result<std::span<const float>> step(std::span<const int32_t> parents, std::span<const int32_t> tokens) override;
  Status align(std::span<const int32_t> tokens, const std::function<void(int64_t, const float*)>& on_logits,
               float* attention) override;

  Session& session() { return *session_; }
  double encode_seconds() const { return encode_seconds_; }  // in all
  int64_t encoded_windows() const { return encoded_windows_; }
  size_t cache_bytes() const;

 private:
  SessionDecoder() = default;
  Status begin(std::span<const int32_t> tokens);

  SpeechShape shape_;
  std::unique_ptr<Session> session_;
  // The live sequences are the first `live_` of order_. A sequence that takes another's place copies what differs.
  std::vector<std::unique_ptr<Sequence>> sequences_;
  std::vector<size_t> order_;
  size_t live_ = 0;
  std::vector<CrossHead> heads_;  // a cross cache is its decoder layer's
  double encode_seconds_ = 0.0;
  int64_t encoded_windows_ = 0;
};

}  // namespace kvass
