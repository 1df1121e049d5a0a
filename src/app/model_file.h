// A model file of any kind, its metadata read and verified, no weights yet: a GGUF or the files of a speech model, of
// which a family makes a program, or a .kvp, which has one. A job opens it once: what its streams are unless they say
// otherwise, what a plan of it takes (plan.h), then the model itself (open.h).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "app/speech_source.h"
#include "app/stream_options.h"
#include "base/thread_pool.h"
#include "file/gguf.h"
#include "file/tensor_source.h"
#include "kvass/options.h"
#include "kvass/status.h"
#include "kvass/tensor.h"
#include "kvp/kvp.h"
#include "model/model.h"
#include "model/speech.h"
#include "ops/linear/requantise.h"
#include "text/speech_tokenizer.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace kvass {

// How weights come into memory, and into whose: the model runs where they are.
struct WeightOptions {
  std::optional<WeightType> type;  // what every matrix becomes whose rows allow it; none: what the file has
  std::optional<Pages> pages;      // default: mapped, for a .kvp; a GGUF's are packed into memory
  bool check = false;              // a .kvp: read all weights and compare their hashes
  Device device = Device::cpu;
  OnProgress on_loaded{};  // of the bytes of weights in memory
};
Result<Device> parse_device(std::string_view text);  // cpu, cuda, rocm
Result<Pages> parse_pages(std::string_view text);    // mapped, huge
// An error where they ask for what a file of this kind has not.
Status check_weight_options(const WeightOptions& options, bool is_static, const std::string& path);

inline constexpr int64_t kSpeechSequences = 5;  // beams and draws that live at a time unless flags say otherwise

// What a model that transcribes has beside its program, in place of a text vocabulary.
struct SpeechParts {
  SpeechShape shape;
  SpeechVocabulary vocabulary;  // a row of the program for each token
  // (decoder layer, head): those that follow the audio. There are such heads.
  std::vector<std::pair<int64_t, int64_t>> alignment_heads;
};

class ModelFile {
 public:
  static Result<ModelFile> open(const std::string& path_or_name);  // a name: model_names.h

  const std::string& path() const { return path_; }
  const std::string& format() const { return format_; }  // ModelContents::format
  bool is_static() const { return std::holds_alternative<KvpFile>(file_); }
  const KvpFile& kvp() const { return std::get<KvpFile>(file_); }
  const Program& program() const;
  const std::string& family() const;
  int64_t trained_context() const;
  // For people: what the file leaves open, and what was taken for it.
  const std::vector<std::string>& notes() const { return model_.notes; }
  // What the streams of the file are unless they say otherwise: for a .kvp those that it was exported for, for a speech
  // model float32 throughout.
  StreamOptions stream_options() const;
  std::vector<MethodPlan> methods() const;  // planned ones; none: not a .kvp

  const SpeechParts* speech() const { return speech_ ? &*speech_ : nullptr; }  // null: a model that writes text
  // Of a model that writes text; an error for others.
  Result<std::string> chat_template() const;  // jinja; empty: none
  Result<Vocabulary> vocabulary() const;
  Result<Tokenizer> tokenizer() const;

  // What load_weights maps, of memory or of the file.
  Result<size_t> weight_bytes(const WeightOptions& options) const;
  // The file is not used any more afterwards: its pages may have become the weights.
  Result<WeightStore> load_weights(const WeightOptions& options, ThreadPool& pool);
  Program take_program() { return std::move(program_); }

 private:
  ModelFile() = default;
  Status take(KvpFile kvp);
  Status take(SpeechSource source);
  Status take(Gguf gguf);
  Status check_speech() const;
  void note_tokens_without_rows();
  Status check_text() const;
  ModelProgram with_program() const;  // of what is not a .kvp
  // What weight i of a .kvp becomes with these options.
  std::optional<WeightType> wanted(size_t i, const WeightOptions& options) const;
  size_t stored_bytes(size_t i, const WeightOptions& options) const;
  Result<WeightStore> copied_weights(const WeightOptions& options, ThreadPool& pool) const;

  std::string path_, format_;
  std::variant<std::monostate, Gguf, std::unique_ptr<TensorSource>, KvpFile> file_;
  ModelProgram model_;  // of what is not a .kvp, without the program
  Program program_;
  std::optional<SpeechParts> speech_;
  std::vector<bool> kept_;  // [weights] of a .kvp: those that keep their type
};

}  // namespace kvass
