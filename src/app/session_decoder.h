// A session over a model that transcribes, as the SpeechDecoder that the search works with.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "app/open.h"
#include "app/speech_decoder.h"
#include "app/speech_plan.h"
#include "kvass/cache_plan.h"
#include "kvass/status.h"
#include "model/speech.h"
#include "session/session.h"

namespace kvass {

struct SpeechSessionOptions {
  int64_t sequences = 1;        // that live at a time
  std::optional<DType> caches;  // storage of keys and values; none: the model's own
  int threads = 1;
};

class SessionDecoder final : public SpeechDecoder {
 public:
  // For a model that transcribes.
  static Result<std::unique_ptr<SessionDecoder>> create(const OpenModel& model, const SpeechSessionOptions& options);

  int64_t vocabulary() const override { return shape_.vocabulary; }
  int64_t context() const override { return shape_.context; }
  int64_t mel_bins() const override { return shape_.mels; }
  int64_t frames() const override { return shape_.frames; }
  int64_t source_rows() const override { return shape_.source_rows; }
  int64_t most_sequences() const override { return static_cast<int64_t>(sequences_.size()); }
  int64_t alignment_heads() const override { return static_cast<int64_t>(heads_.size()); }

  void set_cancel(const std::atomic<bool>* cancel) override { cancel_ = cancel; }
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
  Result<StepResult> begin(std::span<const int32_t> tokens, StepRequest request);  // whose runs are the tokens

  SpeechShape shape_;
  std::unique_ptr<Session> session_;
  // The live sequences are the first `live_` of order_. A sequence that takes another's place copies what differs.
  std::vector<std::unique_ptr<Sequence>> sequences_;
  std::vector<size_t> order_;
  size_t live_ = 0;
  const std::atomic<bool>* cancel_ = nullptr;
  std::vector<CrossHead> heads_;  // a cross cache is its decoder layer's
  double encode_seconds_ = 0.0;
  int64_t encoded_windows_ = 0;
};

}  // namespace kvass
