// What transcribing needs of a model: windows of a spectrogram in, logits of token sequences out. SessionDecoder
// implements it with a model; tests implement it with recorded logits. One caller at a time. Calls in a wrong order are
// a mistake of the caller: they assert or fail. An error loses nothing but the window.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>

#include "kvass/status.h"

namespace kvass {

class SpeechDecoder {
 public:
  virtual ~SpeechDecoder() = default;

  virtual int64_t vocabulary() const = 0;  // tokens
  virtual int64_t context() const = 0;     // positions of a sequence: 448
  virtual int64_t mel_bins() const = 0;
  virtual int64_t frames() const = 0;          // of a window: 3000 of 10 ms
  virtual int64_t source_rows() const = 0;     // that the encoder makes of them: 1500
  virtual int64_t most_sequences() const = 0;  // that live at a time

  // Where it is set, calls fail soon with StatusCode::cancelled, and the window is lost; null: none. Outlives the
  // calls.
  virtual void set_cancel(const std::atomic<bool>*) {}

  // A window, [mel_bins][frames]. All sequences are forgotten.
  virtual Status encode(const float* mel) = 0;

  // One new sequence of these tokens; others are forgotten, the window stays. The logits of `rows` of it (ascending
  // indices of tokens): [rows.size()][vocabulary], valid until the next call.
  virtual Result<std::span<const float>> prefill(std::span<const int32_t> tokens, std::span<const int32_t> rows) = 0;

  // The live sequences become copies of sequences that lived before, each with one more token: sequence i goes on from
  // parents[i] with tokens[i]. The logits of each: [tokens.size()][vocabulary], valid until the next call.
  virtual Result<std::span<const float>> step(std::span<const int32_t> parents, std::span<const int32_t> tokens) = 0;

  // A sequence of its own, for the times of words; the live ones are forgotten. `on_logits` gets every row's logits
  // [vocabulary] in order. attention [heads][tokens.size()][source_rows]: what the heads that follow the audio looked
  // at, as probabilities over all source rows.
  virtual int64_t alignment_heads() const = 0;
  virtual Status align(std::span<const int32_t> tokens, const std::function<void(int64_t, const float*)>& on_logits,
                       float* attention) = 0;
};

}  // namespace kvass
