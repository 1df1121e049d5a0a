// A speech model's file of any format, its metadata read and no weights yet: a CTranslate2 folder (model.bin), a
// Hugging Face folder (model.safetensors), a ggml file, or a .kvp. What opens a model to transcribe, and what exports
// one, begin here.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "app/model_file.h"
#include "file/tensor_source.h"
#include "kvass/cache_plan.h"
#include "kvass/status.h"
#include "model/speech.h"
#include "session/session.h"
#include "text/speech_tokenizer.h"

namespace kvass {

inline constexpr int64_t kSpeechSequences = 5;  // beams and draws that live at a time unless flags say otherwise

// Whether a model in one of the formats that a .kvp is made of begins there.
bool is_speech_source(const std::string& path);

// What a session and its sequences take to transcribe: a step may bring the decoder's whole context.
SessionOptions speech_session(const SpeechShape& shape, int64_t sequences, int threads);
CacheOptions speech_caches(const SpeechShape& shape, DType dtype);

class SpeechFile {
 public:
  static Result<SpeechFile> open(const std::string& path);

  const std::string& path() const { return path_; }
  const std::string& format() const { return format_; }  // "CTranslate2"
  const std::string& family() const { return family_; }
  const SpeechShape& shape() const { return shape_; }
  const SpeechVocabulary& vocabulary() const { return vocabulary_; }  // a row of the program for each token
  // (decoder layer, head): those that follow the audio. There are such heads.
  const std::vector<std::pair<int64_t, int64_t>>& alignment_heads() const { return alignment_heads_; }
  const Program& program() const { return program_; }
  // What transcribing uses unless flags say otherwise: float32, or what a .kvp was exported for.
  Math math() const { return math_; }
  DType kv() const { return kv_; }
  const std::vector<MethodPlan>& methods() const { return methods_; }  // planned ones; none: not a .kvp

  // The file is not used any more afterwards: its pages may have become the weights.
  Result<WeightStore> load_weights(const WeightOptions& options, ThreadPool& pool);
  SpeechVocabulary take_vocabulary() { return std::move(vocabulary_); }
  Program take_program() { return std::move(program_); }

 private:
  SpeechFile() = default;

  std::string path_, format_, family_;
  SpeechShape shape_;
  SpeechVocabulary vocabulary_;
  std::vector<std::pair<int64_t, int64_t>> alignment_heads_;
  Program program_;
  Math math_ = Math::f32;
  DType kv_ = DType::f32;
  std::vector<MethodPlan> methods_;
  std::optional<ModelFile> kvp_;
  std::unique_ptr<TensorSource> tensors_;  // where it is no .kvp, and
  std::vector<std::string> names_;         // [weights] their tensors
};

}  // namespace kvass
