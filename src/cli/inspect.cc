// kvass inspect: what a file holds, or which backends the operators have on this machine.
#include "app/inspect.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "app/chart.h"
#include "base/new_file.h"
#include "cli/command.h"
#include "cli/model_diff.h"
#include "kvass/ops.h"

namespace kvass {
namespace {

struct InspectFlags {
  std::string file;
  std::vector<std::string> diff;  // two models
  bool program = false;
  bool ops = false;
  bool json = false;
  bool check = false;
  bool clean = false;
  int64_t mask = -1;
  std::string svg;
};

constexpr int64_t kMaskRows = 8;

nlohmann::json masks_json(const CachePlan& caches, int64_t position) {
  nlohmann::json list = nlohmann::json::array();
  for (const LayerMask& mask : layer_masks(caches, position, std::min(kMaskRows, caches.chunk))) {
    nlohmann::json rows = nlohmann::json::array();
    for (size_t i = 0; i < mask.rows.size(); ++i) {
      rows.push_back({{"position", mask.position + static_cast<int64_t>(i)},
                      {"sink_end", mask.rows[i].sink_end},
                      {"begin", mask.rows[i].begin},
                      {"end", mask.rows[i].end}});
    }
    list.push_back(
        {{"layers", mask.layers}, {"kind", layout_kind_name(mask.layout.kind())}, {"rows", std::move(rows)}});
  }
  return list;
}

// What a program has beside metadata and tensors.
void add_static(const StaticProgram& file, int64_t mask, nlohmann::json& json) {
  const Program& program = file.program;
  nlohmann::json values = nlohmann::json::array(), ops = nlohmann::json::array(), states = nlohmann::json::array(),
                 methods = nlohmann::json::array();
  for (const Value& value : program.values) {
    values.push_back({{"name", value.name}, {"width", value.width}, {"rows", extent_name(value.extent)}});
  }
  for (const Op& op : program.ops) {
    nlohmann::json weights = nlohmann::json::array();
    for (WeightId id : op.weights) weights.push_back(program.weights[static_cast<size_t>(id)].name);
    ops.push_back({{"kind", op_kind_name(op.kind)},
                   {"name", op.name},
                   {"inputs", op.inputs},
                   {"outputs", op.outputs},
                   {"weights", std::move(weights)},
                   {"state", op.state},
                   {"devices", runs_on_devices(op.kind)}});
  }
  size_t cache_bytes = 0;
  for (size_t i = 0; i < file.caches.layers.size(); ++i) {
    const LayerCache& layer = file.caches.layers[i];
    const size_t bytes = static_cast<size_t>(file.cache_lens[i]) * layer.shape.key_bytes() / kTileKeys *
                         static_cast<size_t>(layer.shape.kv_heads);
    cache_bytes += 2 * bytes;
    states.push_back({{"name", program.states[i].name},
                      {"kind", layout_kind_name(layer.layout.kind())},
                      {"window", layer.layout.window()},
                      {"kv_heads", layer.shape.kv_heads},
                      {"head_dim", layer.shape.head_dim},
                      {"dtype", dtype_name(layer.shape.dtype)},
                      {"cache_len", file.cache_lens[i]},
                      {"slots", layer.slots()},
                      {"k_bytes", bytes},
                      {"v_bytes", bytes},
                      {"allocated_bytes", layer.bytes()}});
  }
  for (const MethodPlan& method : file.methods) {
    methods.push_back({{"name", method.name},
                       {"rows", method.rows},
                       {"head_rows", method.head_rows},
                       {"sequences", method.sequences},
                       {"threads", method.threads},
                       {"arena_bytes", method.arena.bytes},
                       {"arena_sum_bytes", method.arena.sum_bytes},
                       {"arena_bound_bytes", method.arena.bound_bytes},
                       {"value_offsets", method.arena.values},
                       {"workspace_offsets", method.arena.workspace},
                       {"workspace_bytes", method.workspace_bytes}});
  }
  nlohmann::json crosses = nlohmann::json::array();
  for (const CrossState& cross : program.crosses) {
    crosses.push_back({{"name", cross.name},
                       {"kv_heads", cross.kv_heads},
                       {"head_dim", cross.head_dim},
                       {"most_rows", program.source.rows}});
  }
  json["cross_caches"] = std::move(crosses);
  json["methods"] = std::move(methods);
  json["values"] = std::move(values);
  json["states"] = std::move(states);
  json["ops"] = std::move(ops);
  json["cache_bytes"] = cache_bytes;
  json["allocated_bytes"] = file.caches.bytes;
  if (mask >= 0) json["masks"] = masks_json(file.caches, mask);
}

void print_static(const StaticProgram& file, int64_t mask) {
  for (const MethodPlan& method : file.methods) {
    print("method {:<10} {:>6} rows, {:>3} rows of logits, {} ops, {} threads, arena {}; {} side by side, bound {}\n",
          method.name, method.rows, method.head_rows, file.program.ops.size(), method.threads,
          human_bytes(method.arena.bytes), human_bytes(method.arena.sum_bytes), human_bytes(method.arena.bound_bytes));
  }
  print("\n{:>5}  {:<10} {:>9} {:>9} {:>9} {:>14} {:>14}\n", "layer", "layout", "window", "cache_len", "slots",
        "allocated", "at");
  for (size_t i = 0; i < file.caches.layers.size(); ++i) {
    const LayerCache& layer = file.caches.layers[i];
    print("{:>5}  {:<10} {:>9} {:>9} {:>9} {:>14} {:>14}\n", i, layout_kind_name(layer.layout.kind()),
          layer.layout.window() == 0 ? "all" : std::to_string(layer.layout.window()), file.cache_lens[i], layer.slots(),
          layer.bytes(), layer.sink_offset);
  }
  for (const CrossState& cross : file.program.crosses) {
    print("{}: keys and values of up to {} source rows, {} x {}\n", cross.name, file.program.source.rows,
          cross.kv_heads, cross.head_dim);
  }
  if (mask < 0) return;
  for (const LayerMask& one : layer_masks(file.caches, mask, std::min(kMaskRows, file.caches.chunk))) {
    print("\nlayers of {} (first: {}, {} in all)\n", layout_kind_name(one.layout.kind()), one.layers[0],
          one.layers.size());
    for (size_t i = 0; i < one.rows.size(); ++i) {
      const RowVisibility& row = one.rows[i];
      print("  position {:>8} sees {}keys {} to {}\n", one.position + static_cast<int64_t>(i),
            row.sink_end > 0 ? fmt::format("sinks 0 to {}, ", row.sink_end - 1) : "", row.begin, row.end - 1);
    }
  }
}

nlohmann::json file_json(const FileSummary& file) {
  nlohmann::json metadata = nlohmann::json::object();
  for (const FileEntry& entry : file.metadata) {
    std::visit([&](const auto& value) { metadata[entry.key] = value; }, entry.value);
  }
  nlohmann::json tensors = nlohmann::json::array();
  for (const FileTensor& tensor : file.tensors) {
    tensors.push_back({{"name", tensor.name}, {"type", tensor.type}, {"shape", tensor.shape}, {"bytes", tensor.bytes}});
  }
  nlohmann::json out = {{"kind", file.kind}, {"metadata", std::move(metadata)}, {"tensors", std::move(tensors)}};
  if (file.version > 0) out["version"] = file.version;
  return out;
}

void print_file(const FileSummary& file) {
  const std::string version = file.version > 0 ? fmt::format(" version {}", file.version) : "";
  print("{}{}, {} metadata entries, {} tensors\n", file.kind, version, file.metadata.size(), file.tensors.size());
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

// Removes the temporaries of killed writers. Refused while another process writes the file.
Status clean(const InspectFlags& flags) {
  KVASS_ASSIGN_OR_RETURN(const Temporaries found, remove_temporaries(flags.file));
  KVASS_RETURN_IF_ERROR(FileLock::acquire(flags.file).status());  // its end removes a lock that is left
  if (flags.json) return print_json({{"removed", found.removed}, {"kept", found.kept}});
  for (const std::string& path : found.removed) print("removed {}\n", one_line(path));
  for (const std::string& path : found.kept) print("kept {}: its writer may be alive\n", one_line(path));
  return flush_stdout();
}

Status run(const InspectFlags& flags) {
  if (flags.clean) return clean(flags);
  if (flags.ops) return print_ops(flags.json);
  if (!flags.diff.empty()) return print_model_difference(flags.diff[0], flags.diff[1], flags.json);
  if (flags.program) {
    KVASS_ASSIGN_OR_RETURN(const ProgramSummary program, inspect_program(flags.file));
    if (flags.json) return print_json({{"kind", "program"}, {"family", program.family}, {"text", program.text}});
    write_stdout(program.text);
    return flush_stdout();
  }
  KVASS_ASSIGN_OR_RETURN(const FileSummary file, inspect_file(flags.file));
  nlohmann::json json;
  if (flags.json) {
    json = file_json(file);
  } else {
    print_file(file);
  }
  if (file.kind == "kvass program" || flags.check || flags.mask >= 0 || !flags.svg.empty()) {
    KVASS_ASSIGN_OR_RETURN(const StaticProgram program, inspect_static(flags.file, flags.check));
    if (!flags.svg.empty()) {
      KVASS_RETURN_IF_ERROR(write_picture(flags.svg, arena_svg(program.program, program.methods.front())));
    }
    if (flags.json) {
      add_static(program, flags.mask, json);
    } else {
      print("\n");
      print_static(program, flags.mask);
    }
  }
  return flags.json ? print_json(json) : flush_stdout();
}

}  // namespace

CommandAction add_inspect(CLI::App& command) {
  auto flags = std::make_shared<InspectFlags>();
  command.description(
      "Print what a file holds: a model's metadata, tensors or program, a static program's plan, or a snapshot's\n"
      "header; what two models do not have in common; or which backends the operators have");
  command.footer(
      "With --diff the exit code is 0 where the models are the same and 1 where they differ. A folder is read as the "
      "GGUF\n"
      "file that `kvass convert` makes of it.\n"
      "Examples:\n"
      "  kvass inspect model.gguf --program\n"
      "  kvass inspect --diff ./checkpoint model.gguf\n"
      "  kvass inspect --ops");
  CLI::Option* file =
      command.add_option("FILE", flags->file, "A GGUF file, a Hugging Face folder, a .kvp file or a snapshot")
          ->type_name("");
  command.add_flag("--ops", flags->ops, "The operators' backends, and why one is not available; no FILE")
      ->excludes(file);
  command
      .add_option("--diff", flags->diff,
                  "What two models differ in: metadata, types and shapes of tensors, and the largest difference of\n"
                  "their numbers; no FILE")
      ->type_name("A B")
      ->expected(2)
      ->excludes(file);
  command.add_flag("--program", flags->program, "The program that kvass makes of it: one line an operator");
  command.add_flag("--json", flags->json, "JSON on one line instead of text");
  command.add_flag("--check", flags->check, "Of a .kvp: read the weights and compare their hashes");
  command.add_flag("--clean", flags->clean,
                   "Remove the temporaries that killed writers of FILE left: FILE.tmp-… and FILE.lock");
  command.add_option("--mask", flags->mask, "Of a .kvp: what the rows of a step at this position see, for each layout")
      ->type_name("POSITION");
  command.add_option("--svg", flags->svg, "Of a .kvp: a picture of its arena over the ops, as an SVG file")
      ->type_name("FILE");
  const std::vector<std::string> modes = {"--ops", "--diff", "--clean", "--program"};
  for (size_t i = 0; i < modes.size(); ++i) {
    CLI::Option* mode = command.get_option(modes[i]);
    for (size_t j = 0; j < i; ++j) mode->excludes(modes[j]);
    for (const char* of_kvp : {"--check", "--mask", "--svg"}) mode->excludes(of_kvp);
  }
  command.parse_complete_callback([flags] {
    if (flags->file.empty() && !flags->ops && flags->diff.empty()) throw CLI::RequiredError("FILE");
  });
  return [flags] { return run(*flags); };
}

}  // namespace kvass
