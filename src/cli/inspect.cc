// kvass inspect: what a file holds, or which backends the operators have on this machine.
#include "app/inspect.h"

#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "kvass/ops.h"

namespace kvass {
namespace {

struct InspectFlags {
  std::string file;
  bool program = false;
  bool ops = false;
  bool json = false;
};

nlohmann::json file_json(const FileSummary& file) {
  nlohmann::json metadata = nlohmann::json::object();
  for (const FileEntry& entry : file.metadata) {
    std::visit([&](const auto& value) { metadata[entry.key] = value; }, entry.value);
  }
  nlohmann::json tensors = nlohmann::json::array();
  for (const FileTensor& tensor : file.tensors) {
    tensors.push_back({{"name", tensor.name}, {"type", tensor.type}, {"shape", tensor.shape}, {"bytes", tensor.bytes}});
  }
  return {{"kind", file.kind},
          {"version", file.version},
          {"metadata", std::move(metadata)},
          {"tensors", std::move(tensors)}};
}

void print_file(const FileSummary& file) {
  print("{} version {}, {} metadata entries, {} tensors\n", file.kind, file.version, file.metadata.size(),
        file.tensors.size());
  for (const FileEntry& entry : file.metadata) print("  {:<44} {:<15} {}\n", entry.key, entry.type, entry.shown);
  for (const FileTensor& tensor : file.tensors) {
    std::string shape;
    for (int64_t size : tensor.shape) shape += (shape.empty() ? "" : " x ") + std::to_string(size);
    print("  {:<44} {:<15} {:<20} {:>12} bytes\n", tensor.name, tensor.type, shape, tensor.bytes);
  }
}

Status print_ops(bool json) {
  nlohmann::json rows = nlohmann::json::array();
  if (!json) print("{:<24} {:<8} {:<12} {:>8}  {}\n", "operator", "device", "backend", "priority", "available");
  for (const Backend& row : list_backends()) {
    rows.push_back({{"op", row.op},
                    {"device", device_name(row.device)},
                    {"backend", row.name},
                    {"priority", row.priority},
                    {"available", row.available},
                    {"reason", row.reason}});
    if (json) continue;
    print("{:<24} {:<8} {:<12} {:>8}  {}\n", row.op, device_name(row.device), row.name, row.priority,
          row.available ? "yes" : "no: " + row.reason);
  }
  return json ? print_json(rows) : flush_stdout();
}

Status run(const InspectFlags& flags) {
  if (flags.ops) return print_ops(flags.json);
  if (flags.program) {
    KVASS_ASSIGN_OR_RETURN(const ProgramSummary program, inspect_program(flags.file));
    if (flags.json) return print_json({{"kind", "program"}, {"family", program.family}, {"text", program.text}});
    write_stdout(program.text);
    return flush_stdout();
  }
  KVASS_ASSIGN_OR_RETURN(const FileSummary file, inspect_file(flags.file));
  if (flags.json) return print_json(file_json(file));
  print_file(file);
  return flush_stdout();
}

}  // namespace

CommandAction add_inspect(CLI::App& command) {
  auto flags = std::make_shared<InspectFlags>();
  command.description(
      "Print what a file holds: a model's metadata, tensors or program, or a snapshot's header; or which backends the "
      "operators have");
  command.footer("Examples:\n  kvass inspect model.gguf --program\n  kvass inspect --ops");
  CLI::Option* file = command.add_option("FILE", flags->file, "A GGUF file or a snapshot")->type_name("");
  command.add_flag("--ops", flags->ops, "The operators' backends, and why one is not available; no FILE")
      ->excludes(file);
  command.add_flag("--program", flags->program, "The program that kvass makes of it: one line an operator");
  command.add_flag("--json", flags->json, "JSON on one line instead of text");
  command.parse_complete_callback([flags] {
    if (flags->file.empty() && !flags->ops) throw CLI::RequiredError("FILE");
  });
  return [flags] { return run(*flags); };
}

}  // namespace kvass
