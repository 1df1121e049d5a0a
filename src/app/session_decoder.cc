#include "app/session_decoder.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <numeric>

namespace kvass {

Result<std::unique_ptr<SessionDecoder>> SessionDecoder::create(const OpenModel& model,
                                                               const SpeechSessionOptions& options) {
  std::unique_ptr<SessionDecoder> decoder(new SessionDecoder);
  if (!model.speech) return bad_input(model.path, "a speech model", "one that writes text");
  decoder->shape_ = model.speech->shape;
  SessionOptions session = speech_session(decoder->shape_, options.sequences, options.threads);
  session.decode_method = model.methods.size() > 1;
  KVASS_ASSIGN_OR_RETURN(decoder->session_, Session::create(model.engine, session, model.methods));
  const CacheOptions caches = speech_caches(decoder->shape_, options.caches.value_or(model.defaults.storage()));
  for (int64_t i = 0; i < options.sequences; ++i) {
    KVASS_ASSIGN_OR_RETURN(decoder->sequences_.emplace_back(), Sequence::create(model.engine, caches));
  }
  decoder->order_.resize(decoder->sequences_.size());
  std::iota(decoder->order_.begin(), decoder->order_.end(), size_t{0});
  for (const auto& [layer, head] : model.speech->alignment_heads) {
    decoder->heads_.push_back({static_cast<CrossId>(layer), head});
  }
  return decoder;
}

size_t SessionDecoder::cache_bytes() const {
  size_t bytes = 0;
  for (const auto& sequence : sequences_) bytes += sequence->cache_bytes();
  return bytes;
}

Status SessionDecoder::encode(const float* mel) {
  const auto begin = std::chrono::steady_clock::now();
  // The others let go of the encoder output, so that the new one is written in its place.
  for (size_t i = 1; i < order_.size(); ++i) KVASS_RETURN_IF_ERROR(sequences_[order_[i]]->clear());
  live_ = 0;
  const std::array<int64_t, 2> shape = {shape_.mels, shape_.frames};
  KVASS_RETURN_IF_ERROR(session_->encode(*sequences_[order_[0]], {mel, DType::f32, shape}, cancel_));
  encode_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  ++encoded_windows_;
  return {};
}

Result<StepResult> SessionDecoder::begin(std::span<const int32_t> tokens, StepRequest request) {
  Sequence& sequence = *sequences_[order_[0]];
  KVASS_RETURN_IF_ERROR(sequence.rewind(0));
  live_ = 1;
  const kvass::Run run{&sequence, 0, tokens};
  request.runs = {&run, 1};
  request.cancel = cancel_;
  return session_->step(request);
}

Result<std::span<const float>> SessionDecoder::prefill(std::span<const int32_t> tokens, std::span<const int32_t> rows) {
  KVASS_ASSIGN_OR_RETURN(const StepResult result, begin(tokens, {.logits = rows}));
  return result.logits;
}

Result<std::span<const float>> SessionDecoder::step(std::span<const int32_t> parents, std::span<const int32_t> tokens) {
  if (tokens.size() != parents.size() || tokens.empty() || tokens.size() > sequences_.size()) {
    return bad_input("sequences of a step", "1 to " + std::to_string(sequences_.size()), std::to_string(tokens.size()));
  }
  // The first child of a sequence is that sequence; others take one that nobody continues.
  constexpr size_t kNobody = SIZE_MAX;
  std::vector<size_t> next(tokens.size(), kNobody);
  std::vector<bool> taken(sequences_.size(), false);
  for (size_t i = 0; i < parents.size(); ++i) {
    if (parents[i] < 0 || static_cast<size_t>(parents[i]) >= live_) {
      return bad_input("parent of a sequence", "one of " + std::to_string(live_) + " live ones",
                       std::to_string(parents[i]));
    }
    const size_t sequence = order_[static_cast<size_t>(parents[i])];
    if (!taken[sequence]) next[i] = sequence;
    taken[sequence] = true;
  }
  for (size_t i = 0; i < next.size(); ++i) {
    if (next[i] != kNobody) continue;
    // Where it stood before is most likely to have much in common.
    size_t free = order_[i];
    if (taken[free]) free = static_cast<size_t>(std::find(taken.begin(), taken.end(), false) - taken.begin());
    KVASS_RETURN_IF_ERROR(sequences_[free]->copy_from(*sequences_[order_[static_cast<size_t>(parents[i])]]));
    next[i] = free;
    taken[free] = true;
  }
  std::copy(next.begin(), next.end(), order_.begin());
  size_t at = next.size();
  for (size_t i = 0; i < taken.size(); ++i) {
    if (!taken[i] || std::find(next.begin(), next.end(), i) == next.end()) order_[at++] = i;
  }
  live_ = next.size();
  std::vector<kvass::Run> runs;
  std::vector<int32_t> rows;
  for (size_t i = 0; i < live_; ++i) {
    Sequence& sequence = *sequences_[order_[i]];
    runs.push_back({&sequence, sequence.length(), tokens.subspan(i, 1)});
    rows.push_back(static_cast<int32_t>(i));
  }
  KVASS_ASSIGN_OR_RETURN(const StepResult result, session_->step({.runs = runs, .logits = rows, .cancel = cancel_}));
  return result.logits;
}

Status SessionDecoder::align(std::span<const int32_t> tokens,
                             const std::function<void(int64_t, const float*)>& on_logits, float* attention) {
  // As the session lays them out: room for as many rows as a step may have.
  const auto count = static_cast<int64_t>(tokens.size());
  const int64_t stride = session_->options().rows * shape_.source_rows;
  std::vector<float> weights(heads_.size() * static_cast<size_t>(stride));
  KVASS_RETURN_IF_ERROR(begin(tokens, {.cross_weights = {heads_, weights.data()}}).status());
  for (size_t i = 0; i < heads_.size(); ++i) {
    std::copy_n(weights.data() + static_cast<int64_t>(i) * stride, count * shape_.source_rows,
                attention + static_cast<int64_t>(i) * count * shape_.source_rows);
  }
  const int64_t block = session_->options().head_rows;
  for (int64_t first = 0; first < count; first += block) {
    std::vector<int32_t> rows(static_cast<size_t>(std::min(block, count - first)));
    std::iota(rows.begin(), rows.end(), static_cast<int32_t>(first));
    KVASS_ASSIGN_OR_RETURN(const StepResult result, session_->step({.logits = rows, .cancel = cancel_}));
    for (size_t i = 0; i < rows.size(); ++i) {
      on_logits(first + static_cast<int64_t>(i), result.logits.data() + i * static_cast<size_t>(shape_.vocabulary));
    }
  }
  return {};
}

}  // namespace kvass
