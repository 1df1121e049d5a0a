// A CTranslate2 model.bin (binary version 6, specification WhisperSpec), read only, under the tensor names of Hugging
// Face: fused projections are split into their parts, so that "model.encoder.layers.0.self_attn.q_proj.weight" is a
// view of one third of "encoder/layer_0/self_attention/linear_0/weight". Every length is checked before it is used: a
// truncated, hostile or unsupported file gives one line that names the file and the variable. Not a model: see
// model/speech.h for its sizes. Owns the mapping when opened by path.
//
//   file      u32 version (6), string specification, u32 revision, u32 n, n variables, u32 m, m aliases, end of file
//   string    u16 length with the NUL, bytes, NUL
//   variable  string name, u8 rank, u32 dims [rank] outermost first, u8 type, u32 bytes, data (at any address)
//   alias     string alias, string variable
//   type      0 float32, 1 int8, 2 int16, 3 int32, 4 float16, 5 bfloat16
// int8 weights have a second variable <name>_scale, float32 [rows]: weight = int8 / scale.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_map.h"
#include "file/tensor_source.h"
#include "kvass/status.h"

namespace kvass {

enum class Ct2Type : uint8_t { f32 = 0, i8 = 1, i16 = 2, i32 = 3, f16 = 4, bf16 = 5 };
std::string_view ct2_type_name(Ct2Type type);

struct Ct2Variable {
  std::vector<int64_t> shape;  // outermost first; empty: a scalar
  Ct2Type type{};
  std::span<const uint8_t> data;
};

class Ct2Model final : public TensorSource {
 public:
  // `path`: model.bin itself.
  static Result<Ct2Model> open(const std::string& path);
  // `bytes` must outlive the result; `name` is the file's name in messages.
  static Result<Ct2Model> parse(std::span<const uint8_t> bytes, std::string name);

  const std::string& name() const override { return name_; }
  bool has(std::string_view tensor) const override;
  Result<SourceTensor> tensor(std::string_view tensor) const override;
  std::vector<std::string> names() const override;
  Status check() const override { return map_ ? map_->check() : Status(); }
  void release(std::span<const uint8_t> bytes) const override;

  // The variables as the file has them, aliases included.
  const std::string& specification() const { return specification_; }
  const std::map<std::string, Ct2Variable, std::less<>>& variables() const { return variables_; }
  // A scalar of any integer type. Error: the variable is missing or not an integer.
  Result<int64_t> integer(std::string_view variable) const;
  int64_t layers(std::string_view stack) const;  // `stack`: "encoder" or "decoder"; counts layer_<i> from 0

 private:
  friend class Ct2Parser;
  Ct2Model() = default;

  std::string name_;
  std::string specification_;
  std::optional<FileMap> map_;
  std::map<std::string, Ct2Variable, std::less<>> variables_;
};

}  // namespace kvass
