#include "model/family.h"

#include <cmath>

#include "ops/linear/weight.h"

namespace kvass {
namespace {

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

Status check_shape(const Gguf& file, const GgufTensor& tensor, std::vector<int64_t> expected) {
  if (std::equal(tensor.shape.begin(), tensor.shape.end(), expected.begin(), expected.end())) return {};
  return bad_input(file.name() + ": tensor '" + tensor.name + "'", "shape " + shape_text(expected),
                   shape_text(tensor.shape));
}

}  // namespace

Result<int64_t> FamilyReader::integer(std::string_view key, int64_t least, int64_t most) const {
  const std::string name = prefix_ + "." + std::string(key);
  KVASS_ASSIGN_OR_RETURN(const int64_t value, file_.get_int(name));
  if (value >= least && value <= most) return value;
  return bad_input(file_.name() + ": " + name, std::to_string(least) + " to " + std::to_string(most),
                   std::to_string(value));
}

Result<int64_t> FamilyReader::integer_or(std::string_view key, int64_t fallback, int64_t least, int64_t most) const {
  return has(key) ? integer(key, least, most) : Result<int64_t>(fallback);
}

Result<double> FamilyReader::real(std::string_view key) const {
  const std::string name = prefix_ + "." + std::string(key);
  KVASS_ASSIGN_OR_RETURN(const double value, file_.get_float(name));
  if (std::isfinite(value)) return value;
  return bad_input(file_.name() + ": " + name, "a finite number", std::to_string(value));
}

Result<double> FamilyReader::real_or(std::string_view key, double fallback) const {
  return has(key) ? real(key) : Result<double>(fallback);
}

Result<WeightId> FamilyReader::matrix(const std::string& tensor, int64_t outputs, int64_t inputs) {
  KVASS_ASSIGN_OR_RETURN(const GgufTensor* source, file_.tensor(tensor));
  KVASS_RETURN_IF_ERROR(check_shape(file_, *source, {inputs, outputs}));
  tensors_.push_back(tensor);
  return builder_.matrix(tensor, outputs, inputs);
}

Result<WeightId> FamilyReader::vector(const std::string& tensor, int64_t width) {
  KVASS_ASSIGN_OR_RETURN(const GgufTensor* source, file_.tensor(tensor));
  KVASS_RETURN_IF_ERROR(check_shape(file_, *source, {width}));
  if (source->type != GgmlType::F32) {
    return bad_input(file_.name() + ": tensor '" + tensor + "'", "type F32", ggml_type_name(source->type));
  }
  tensors_.push_back(tensor);
  return builder_.vector(tensor, width);
}

ModelProgram FamilyReader::finish(std::string family, int64_t trained_context) && {
  return {std::move(family), std::move(builder_).finish(), std::move(tensors_), trained_context};
}

}  // namespace kvass
