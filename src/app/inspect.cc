#include "app/inspect.h"

#include "file/gguf.h"
#include "model/model.h"

namespace kvass {
namespace {

FileEntry entry_of(const Gguf& file, const GgufEntry& from) {
  FileEntry entry{std::string(from.key), std::string(gguf_value_type_name(from.type)), file.printable(from), {}};
  entry.value = entry.shown;
  switch (from.type) {
    case GgufValueType::array:
      entry.type = std::string(gguf_value_type_name(from.element)) + "[" + std::to_string(from.count) + "]";
      break;
    case GgufValueType::string:
      if (const Result<std::string_view> text = file.get_string(from.key); text.ok())
        entry.value = std::string(text.value());
      break;
    case GgufValueType::boolean:
      if (const Result<bool> value = file.get_bool(from.key); value.ok()) entry.value = value.value();
      break;
    case GgufValueType::f32:
    case GgufValueType::f64:
      if (const Result<double> value = file.get_float(from.key); value.ok()) entry.value = value.value();
      break;
    default:  // an integer; a u64 that no int64 holds stays a text
      if (const Result<int64_t> value = file.get_int(from.key); value.ok()) entry.value = value.value();
  }
  return entry;
}

}  // namespace

Result<FileSummary> inspect_file(const std::string& path) {
  KVASS_ASSIGN_OR_RETURN(const Gguf file, Gguf::open(path));
  FileSummary summary{"gguf", file.version(), {}, {}};
  for (const GgufEntry& entry : file.entries()) summary.metadata.push_back(entry_of(file, entry));
  for (const GgufTensor& tensor : file.tensors()) {
    summary.tensors.push_back({tensor.name, std::string(ggml_type_name(tensor.type)), tensor.shape, tensor.bytes});
  }
  return summary;
}

Result<ProgramSummary> inspect_program(const std::string& path) {
  KVASS_ASSIGN_OR_RETURN(const Gguf file, Gguf::open(path));
  KVASS_ASSIGN_OR_RETURN(const ModelProgram model, build_program(file));
  return ProgramSummary{model.family, print_program(model.program)};
}

}  // namespace kvass
