// kvass inspect: what a file holds.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "file/gguf.h"
#include "model/model.h"

namespace kvass {
namespace {

struct InspectFlags {
  std::string file;
  bool program = false;
  bool json = false;
};

nlohmann::json file_json(const Gguf& file) {
  nlohmann::json metadata = nlohmann::json::object();
  for (const GgufEntry& entry : file.entries()) metadata[std::string(entry.key)] = file.printable(entry);
  nlohmann::json tensors = nlohmann::json::array();
  for (const GgufTensor& tensor : file.tensors()) {
    tensors.push_back({{"name", tensor.name}, {"type", ggml_type_name(tensor.type)}, {"shape", tensor.shape}, {"bytes", tensor.bytes}});
  }
  return {{"kind", "gguf"}, {"version", file.version()}, {"metadata", std::move(metadata)}, {"tensors", std::move(tensors)}};
}

void print_file(const Gguf& file) {
  fmt::print("GGUF version {}, {} metadata entries, {} tensors\n", file.version(), file.entries().size(), file.tensors().size());
  for (const GgufEntry& entry : file.entries()) {
    const std::string type = entry.type == GgufValueType::array ? fmt::format("{}[{}]", gguf_value_type_name(entry.element), entry.count)
                                                                : std::string(gguf_value_type_name(entry.type));
    fmt::print("  {:<44} {:<14} {}\n", entry.key, type, file.printable(entry));
  }
  for (const GgufTensor& tensor : file.tensors()) {
    std::string shape;
    for (int64_t size : tensor.shape) shape += (shape.empty() ? "" : " x ") + std::to_string(size);
    fmt::print("  {:<44} {:<14} {:<20} {:>12} bytes\n", tensor.name, ggml_type_name(tensor.type), shape, tensor.bytes);
  }
}

Status run(const InspectFlags& flags) {
  KVASS_ASSIGN_OR_RETURN(const Gguf file, Gguf::open(flags.file));
  if (flags.program) {
    KVASS_ASSIGN_OR_RETURN(const ModelProgram model, build_program(file));
    const std::string text = print_program(model.program);
    if (flags.json) return print_json({{"kind", "program"}, {"family", model.family}, {"text", text}});
    fmt::print("{}", text);
    return flush_stdout();
  }
  if (flags.json) return print_json(file_json(file));
  print_file(file);
  return flush_stdout();
}

}  // namespace

CommandAction add_inspect(CLI::App& command) {
  auto flags = std::make_shared<InspectFlags>();
  command.description("Print what a model file holds");
  command.footer("Example:\n  kvass inspect model.gguf --program");
  command.add_option("FILE", flags->file, "A GGUF file")->required();
  command.add_flag("--program", flags->program, "The program that kvass makes of it: one line an operator");
  command.add_flag("--json", flags->json, "One JSON object instead of text");
  return [flags] { return run(*flags); };
}

}  // namespace kvass
