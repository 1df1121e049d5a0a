// The tools of a family's source file: metadata under the architecture's prefix, weights that are checked against the
// file when they are bound, and the builder. Private to model/.
#pragma once

#include <functional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "file/gguf.h"
#include "model/model.h"
#include "program/builder.h"

namespace kvass {

class FamilyReader {
 public:
  FamilyReader(const Gguf& file, std::string prefix) : file_(file), prefix_(std::move(prefix)) {}

  // Metadata `<prefix>.<key>`; integers must lie in [least, most].
  Result<int64_t> integer(std::string_view key, int64_t least, int64_t most) const;
  Result<int64_t> integer_or(std::string_view key, int64_t fallback, int64_t least, int64_t most) const;
  Result<double> real(std::string_view key) const;  // finite
  Result<double> real_or(std::string_view key, double fallback) const;
  Result<double> real_or(std::string_view key, double fallback, double least, double most) const;
  // The same of a number that has two names in files, which agree where a file has both.
  Result<double> either_or(std::string_view key, std::string_view other, double fallback, double least,
                           double most) const;
  // An array of `count` integers or bools, each in [least, most].
  Result<std::vector<int64_t>> integers(std::string_view key, int64_t count, int64_t least, int64_t most) const;
  bool is_array(std::string_view key) const;
  // rope.scaling.type; linear where the file does not say which. Its factor, of which older files have another name.
  Result<std::string_view> rotary_type() const;
  Result<double> rotary_factor() const;
  static constexpr std::string_view kOriginalContext = "rope.scaling.original_context_length";  // YaRN alone reads it
  bool has(std::string_view key) const { return file_.has(name(key)); }
  Result<std::string_view> text(std::string_view key) const { return file_.get_string(name(key)); }
  std::string field(std::string_view key) const { return file_.name() + ": " + name(key); }  // for messages

  // Bind a tensor of the file to a new weight of the program. [outputs][inputs], or a vector of `width` numbers, which
  // files have as F32, F16 or BF16.
  Result<WeightId> matrix(const std::string& tensor, int64_t outputs, int64_t inputs);
  Result<WeightId> vector(const std::string& tensor, int64_t width);
  // The numbers of a vector tensor that becomes parameters of the program instead of a weight.
  Result<std::vector<float>> numbers(const std::string& tensor, int64_t width);
  bool has_tensor(const std::string& tensor) const { return file_.find_tensor(tensor) != nullptr; }
  // An error where the file has a tensor or, under the prefix, a key that nothing asked for: the model is another than
  // the family builds. What changes no result of any text model does not count (empty tensors, keys that family.cc
  // lists), nor do tensors of which `unread(name)` is true: they change none of the family.
  Status check_all_used(bool (*unread)(std::string_view name)) const;
  // Keys that say nothing in this file, because of what other keys say: as if they were asked for.
  void skip(std::span<const std::string_view> keys) const;
  // For people: what the file leaves open, and what was taken for it.
  void note(std::string text) { notes_.push_back(std::move(text)); }
  // An error where the metadata have one of these keys with a value that is not its neutral one: the model computes
  // something that the family does not build.
  struct NeutralKey {
    std::string_view key;
    double neutral = 0.0;  // the value that means "nothing of the kind"
  };
  Status check_neutral(std::span<const NeutralKey> keys) const;

  const Gguf& file() const { return file_; }
  ProgramBuilder& builder() { return builder_; }
  ModelProgram finish(std::string family, int64_t trained_context) &&;

 private:
  std::string name(std::string_view key) const;  // `<prefix>.<key>`, which counts as asked for
  Result<const GgufTensor*> floats(const std::string& tensor, int64_t width) const;
  Status check_keys() const;

  const Gguf& file_;
  std::string prefix_;
  ProgramBuilder builder_;
  std::vector<std::string> tensors_;  // [weights]
  std::vector<std::string> numbers_;  // tensors read by numbers()
  std::vector<std::string> notes_;
  mutable std::set<std::string, std::less<>> asked_;  // keys, with their prefix
};

// The metadata that every decoder has, checked.
struct DecoderShape {
  int64_t layers = 0;
  int64_t width = 0;   // residual stream
  int64_t hidden = 0;  // feed-forward
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t context = 0;  // tokens: the trained context
  float epsilon = 0.0f;

  int64_t q_width() const { return heads * head_dim; }
  int64_t kv_width() const { return kv_heads * head_dim; }
};
// `head_dim` and `epsilon`: where the file does not say it; 0: width / heads, and an error. Refuses what no dense
// decoder of this library does: experts, attention that is not causal, scales and caps of other families, rotary
// embeddings of a part of the head.
Result<DecoderShape> read_decoder_shape(FamilyReader& reader, int64_t head_dim = 0, double epsilon = 0.0);

// The tensor of layer `layer`: "blk.3.attn_q.weight".
std::string layer_tensor(int64_t layer, std::string_view name, std::string_view kind = "weight");

#define KVASS_FAMILY(architecture, family) Result<ModelProgram> build_##family(const Gguf& file);
#include "model/families.inc"
#undef KVASS_FAMILY

}  // namespace kvass
