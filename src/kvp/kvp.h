// .kvp: a program in a file, with everything that running it takes: operators, packed weights, vocabulary, caches and
// the places of all values. docs/export.md has the format, schema.fbs the fields.
//
//     [fixed header | FlatBuffer | section 0 | section 1 | …]      sections begin on pages of 4096 bytes
//
// Opening maps the file and verifies all of it but the weights' bytes, which are only read when they are used (or when
// asked: check_weights). Files are taken for hostile: what has passed `open` can be run, and reads and writes nothing
// outside its buffers. A file that is changed while it is mapped is found by check(), after the bytes were read.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/file_map.h"
#include "base/hash.h"
#include "base/new_file.h"
#include "base/on_progress.h"
#include "base/thread_pool.h"
#include "kvass/cache_plan.h"
#include "kvass/status.h"
#include "ops/linear/linear.h"
#include "ops/linear/weight_store.h"
#include "plan/method.h"
#include "program/program.h"
#include "text/speech_tokenizer.h"
#include "text/vocabulary.h"

namespace kvass {

inline constexpr char kKvpMagic[] = "KVASSKVP";  // 8 bytes without the terminator
inline constexpr uint32_t kKvpVersion = 1;       // of the file's layout; the FlatBuffer grows by itself
inline constexpr size_t kKvpHeaderBytes = 64;
inline constexpr size_t kKvpPage = 4096;  // bytes: sections begin on these

// What a model that transcribes has beside its program and its tokens.
struct KvpSpeech {
  std::vector<std::pair<int64_t, int64_t>> alignment_heads;  // (decoder layer, head): those that follow the audio
};

// Everything but the weights.
struct KvpModel {
  std::string producer;  // "kvass 0.1.0"
  std::string family;
  std::string source;  // the name of the file that it was exported from
  std::string chat_template;
  int64_t trained_context = 0;  // tokens
  Math math = Math::a16;
  Program program;
  CacheOptions caches;
  std::vector<MethodPlan> methods;  // the longest first
  std::optional<KvpSpeech> speech;  // none: a model that writes text
};

// Tokens that each layer keeps visible: the export rule (cache_plan.h), but for a decoder beside an encoder that takes
// its whole context in one step, and has nothing else to keep.
Result<std::vector<int64_t>> kept_tokens(const Program& program, const CacheOptions& caches);

struct KvpSection {
  uint64_t offset = 0;  // bytes from the start of the file
  uint64_t bytes = 0;
  Hash128 hash;
};

class KvpFile {
 public:
  static Result<KvpFile> open(const std::string& path);
  static Result<KvpFile> open(FileMap file);
  // The same of bytes that outlive it, at an address that is a multiple of 64; messages name it `name`.
  static Result<KvpFile> parse(std::span<const uint8_t> bytes, const std::string& name);

  const std::string& name() const { return name_; }
  uint32_t version() const { return version_; }
  const KvpModel& model() const { return model_; }
  const CachePlan& cache_plan() const { return cache_plan_; }
  const std::vector<KvpSection>& sections() const { return sections_; }
  const std::vector<PackedWeight>& matrices() const { return matrices_; }  // as in WeightStore, in the file's bytes
  const std::vector<const float*>& vectors() const { return vectors_; }
  size_t section_bytes() const;

  // What the tokens say is for Tokenizer::create or SpeechTokenizer::create to check. A model has one of them; the
  // first is in the file's bytes.
  Result<VocabularyView> vocabulary() const;
  Result<SpeechVocabulary> speech_vocabulary() const;
  Status check_weights(ThreadPool& pool) const;  // reads every section and compares its hash
  // FileMap::check() of the file: to be asked after bytes of it were read and before they are used.
  Status check() const { return map_ ? map_->check() : Status(); }

  // The weights where they are: of a file that `open` mapped. Nothing else of it may be used afterwards.
  WeightStore take_weights() &&;

 private:
  friend class KvpReader;
  KvpFile() = default;
  std::string name_;
  std::optional<FileMap> map_;
  std::span<const uint8_t> bytes_;
  std::span<const uint8_t> table_;  // the FlatBuffer
  uint32_t version_ = 0;
  KvpModel model_;
  CachePlan cache_plan_;
  std::vector<KvpSection> sections_;
  std::vector<PackedWeight> matrices_;
  std::vector<const float*> vectors_;
};

// Whether a file can be written at `path`, and what is there is one of these, or empty.
Status check_kvp_path(const std::string& path);

// Whether a file of these bytes begins as a .kvp does.
bool is_kvp(std::span<const uint8_t> bytes);

// Writes the file beside `path` and renames it (base/new_file.h): it appears whole or not at all. Of a model that
// transcribes the vocabulary has pieces alone. `cache_lens`: kept_tokens. `held`: the caller's lock of `path`; null: it
// is taken. Returns its bytes.
Result<size_t> write_kvp(const std::string& path, const KvpModel& model, const Vocabulary& vocabulary,
                         const WeightStore& weights, const std::vector<int64_t>& cache_lens,
                         const FileLock* held = nullptr, const OnProgress& progress = {});

}  // namespace kvass
