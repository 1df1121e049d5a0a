#include "file/safetensors_source.h"

#include "file/one_line.h"

namespace kvass {

Result<SafeTensorsSource> SafeTensorsSource::open(const std::string& path) {
  KVASS_ASSIGN_OR_RETURN(SafeTensors file, SafeTensors::open(path));
  return SafeTensorsSource(std::move(file), path);
}

const SafeTensor* SafeTensorsSource::find(std::string_view tensor) const {
  constexpr std::string_view kPrefix = "model.";
  if (const SafeTensor* const found = file_.find(tensor)) return found;
  return tensor.starts_with(kPrefix) ? file_.find(tensor.substr(kPrefix.size())) : nullptr;
}

Result<SourceTensor> SafeTensorsSource::tensor(std::string_view tensor) const {
  const SafeTensor* const found = find(tensor);
  const std::string field = name_ + ": tensor " + quoted_name(tensor);
  if (found == nullptr) return bad_input(field, "a tensor of that name", "none");
  SourceTensor out;
  out.name = tensor;
  out.shape = found->shape;
  out.data = found->bytes;
  if (found->dtype == "F32") {
    out.type = GgmlType::F32;
  } else if (found->dtype == "F16") {
    out.type = GgmlType::F16;
  } else if (found->dtype == "BF16") {
    out.type = GgmlType::BF16;
  } else {
    return unsupported(field + " dtype", "F32, F16 or BF16", quoted_name(found->dtype));
  }
  return out;
}

std::vector<std::string> SafeTensorsSource::names() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : file_.tensors()) names.push_back(name);
  return names;
}

}  // namespace kvass
