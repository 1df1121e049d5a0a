#include "app/inspect.h"

#include <fmt/format.h>

#include <iterator>
#include <nlohmann/json.hpp>

#include "file/gguf.h"
#include "model/model.h"

namespace kvass {

Result<nlohmann::json> inspect_file_json(const std::string& path) {
  KVASS_ASSIGN_OR_RETURN(const Gguf file, Gguf::open(path));
  nlohmann::json metadata = nlohmann::json::object();
  for (const GgufEntry& entry : file.entries()) metadata[std::string(entry.key)] = file.printable(entry);
  nlohmann::json tensors = nlohmann::json::array();
  for (const GgufTensor& tensor : file.tensors()) {
    tensors.push_back({{"name", tensor.name},
                       {"type", ggml_type_name(tensor.type)},
                       {"shape", tensor.shape},
                       {"bytes", tensor.bytes}});
  }
  return nlohmann::json{{"kind", "gguf"}, {"version", file.version()}, {"metadata", metadata}, {"tensors", tensors}};
}

Result<std::string> inspect_file(const std::string& path) {
  KVASS_ASSIGN_OR_RETURN(const Gguf file, Gguf::open(path));
  std::string text = fmt::format("GGUF version {}, {} metadata entries, {} tensors\n", file.version(),
                                 file.entries().size(), file.tensors().size());
  auto out = std::back_inserter(text);
  for (const GgufEntry& entry : file.entries()) {
    const std::string type = entry.type == GgufValueType::array
                                 ? fmt::format("{}[{}]", gguf_value_type_name(entry.element), entry.count)
                                 : std::string(gguf_value_type_name(entry.type));
    fmt::format_to(out, "  {:<44} {:<14} {}\n", entry.key, type, file.printable(entry));
  }
  for (const GgufTensor& tensor : file.tensors()) {
    std::string shape;
    for (int64_t size : tensor.shape) shape += (shape.empty() ? "" : " x ") + std::to_string(size);
    fmt::format_to(out, "  {:<44} {:<14} {:<20} {:>12} bytes\n", tensor.name, ggml_type_name(tensor.type), shape,
                   tensor.bytes);
  }
  return text;
}

Result<std::string> inspect_program(const std::string& path) {
  KVASS_ASSIGN_OR_RETURN(const Gguf file, Gguf::open(path));
  KVASS_ASSIGN_OR_RETURN(const ModelProgram model, build_program(file));
  return print_program(model.program);
}

}  // namespace kvass
