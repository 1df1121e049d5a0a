// What a family's source file uses: metadata under the architecture's prefix, weights checked against the file as they
// are bound, and the builder. Private to model/.
#pragma once

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
  bool has(std::string_view key) const { return file_.has(prefix_ + "." + std::string(key)); }
  Result<std::string_view> text(std::string_view key) const {
    return file_.get_string(prefix_ + "." + std::string(key));
  }

  // Bind a tensor of the file to a new weight of the program. [outputs][inputs], or a vector of `width` float32.
  Result<WeightId> matrix(const std::string& tensor, int64_t outputs, int64_t inputs);
  Result<WeightId> vector(const std::string& tensor, int64_t width);

  const Gguf& file() const { return file_; }
  ProgramBuilder& builder() { return builder_; }
  ModelProgram finish(std::string family, int64_t trained_context) &&;

 private:
  const Gguf& file_;
  std::string prefix_;
  ProgramBuilder builder_;
  std::vector<std::string> tensors_;
};

#define KVASS_FAMILY(name) Result<ModelProgram> build_##name(const Gguf& file);
#include "model/families.inc"
#undef KVASS_FAMILY

}  // namespace kvass
