// A model file of either kind, its metadata read and verified, no weights yet: a GGUF, of which a family makes a
// program, or a .kvp, which has one. Every job opens models through this.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "app/stream_options.h"
#include "base/thread_pool.h"
#include "file/gguf.h"
#include "kvass/options.h"
#include "kvass/status.h"
#include "kvass/tensor.h"
#include "kvp/kvp.h"
#include "model/model.h"
#include "ops/linear/requantise.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace kvass {

// How weights come into memory, and into whose: the model runs where they are.
struct WeightOptions {
  std::optional<WeightType> type;  // what every matrix becomes whose rows allow it; none: what the file has
  std::optional<Pages> pages;      // default: mapped, for a .kvp; a GGUF's are packed into memory
  bool check = false;              // a .kvp: read all weights and compare their hashes
  Device device = Device::cpu;
};
Result<Device> parse_device(std::string_view text);  // cpu, cuda, rocm
Result<Pages> parse_pages(std::string_view text);    // mapped, huge
// An error where they ask for what a file of this kind has not.
Status check_weight_options(const WeightOptions& options, bool is_static, const std::string& path);

class ModelFile {
 public:
  static Result<ModelFile> open(const std::string& path);

  bool is_static() const { return std::holds_alternative<KvpFile>(file_); }
  const KvpFile& kvp() const { return std::get<KvpFile>(file_); }
  const std::string& path() const { return path_; }
  const Program& program() const;
  const std::string& family() const;
  int64_t trained_context() const;
  Result<std::string> chat_template() const;  // jinja; empty: none
  // What the streams of the file are unless they say otherwise: for a .kvp those that it was exported for.
  StreamOptions stream_options() const;
  std::vector<MethodPlan> methods() const;  // planned ones; none: a GGUF
  Result<Vocabulary> vocabulary() const;
  Result<Tokenizer> tokenizer() const;

  // What load_weights maps, of memory or of the file.
  Result<size_t> weight_bytes(const WeightOptions& options) const;
  // The file is not used any more afterwards: its pages may have become the weights.
  Result<WeightStore> load_weights(const WeightOptions& options, ThreadPool& pool);
  Program take_program() { return std::move(program_); }

 private:
  ModelFile(std::string path, Gguf file, ModelProgram model);
  ModelFile(std::string path, KvpFile file);
  // What weight i of a .kvp becomes with these options.
  std::optional<WeightType> wanted(size_t i, const WeightOptions& options) const;
  size_t stored_bytes(size_t i, const WeightOptions& options) const;
  Result<WeightStore> copied_weights(const WeightOptions& options, ThreadPool& pool) const;

  std::string path_;
  std::variant<Gguf, KvpFile> file_;
  ModelProgram model_;  // of a GGUF, without the program
  Program program_;
  std::vector<bool> kept_;  // [weights] of a .kvp: those that keep their type
};

}  // namespace kvass
