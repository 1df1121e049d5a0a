// kvass plan: every byte of a stream before anything is loaded.
#include "app/plan.h"

#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/stream_flags.h"

namespace kvass {
namespace {

struct PlanFlags {
  std::string model;
  bool json = false;
  StreamFlags stream;
};

nlohmann::json plan_json(const MemoryPlan& plan) {
  nlohmann::json layers = nlohmann::json::array();
  for (size_t i = 0; i < plan.layers.size(); ++i) {
    const LayerPlan& layer = plan.layers[i];
    layers.push_back({{"layer", i},
                      {"kind", layout_kind_name(layer.kind)},
                      {"cache_len", layer.cache_len},
                      {"slots", layer.slots},
                      {"k_bytes", layer.k_bytes},
                      {"v_bytes", layer.k_bytes},
                      {"allocated_bytes", layer.allocated_bytes}});
  }
  return {{"layers", std::move(layers)},
          {"cache_bytes", plan.cache_bytes},
          {"all_full_bytes", plan.all_full_bytes},
          {"all_sliding_bytes", plan.all_sliding_bytes},
          {"allocated_bytes", plan.allocated_bytes},
          {"arena_bytes", plan.arena_bytes},
          {"weight_bytes", plan.weight_bytes},
          {"total_bytes", plan.total_bytes()}};
}

void print_table(const MemoryPlan& plan) {
  print("{:>5}  {:<10} {:>10} {:>8} {:>12} {:>12} {:>12}\n", "layer", "kind", "tokens", "slots", "K bytes", "V bytes",
        "allocated");
  for (size_t i = 0; i < plan.layers.size(); ++i) {
    const LayerPlan& layer = plan.layers[i];
    const std::string tokens = layer.kind == LayoutKind::sink_ring
                                   ? fmt::format("{}+{}", layer.sink, layer.cache_len - layer.sink)
                                   : fmt::format("{}", layer.cache_len);
    print("{:>5}  {:<10} {:>10} {:>8} {:>12} {:>12} {:>12}\n", i, layout_kind_name(layer.kind), tokens, layer.slots,
          layer.k_bytes, layer.k_bytes, layer.allocated_bytes);
  }
  const auto line = [](const char* name, size_t bytes) {
    print("{:<50} {:>14}  {:>10}\n", name, bytes, human_bytes(bytes));
  };
  print("\n");
  line("caches, the tokens that layers keep in sight", plan.cache_bytes);
  line("  … if every layer kept the whole context", plan.all_full_bytes);
  line("  … if every layer kept the model's window only", plan.all_sliding_bytes);
  print("\n");
  line("caches as mapped (room for a chunk, whole tiles)", plan.allocated_bytes);
  line("arena", plan.arena_bytes);
  line("weights", plan.weight_bytes);
  line("in all", plan.total_bytes());
}

Status run(const PlanFlags& flags) {
  KVASS_ASSIGN_OR_RETURN(const StreamOptions options, flags.stream.resolve());
  KVASS_ASSIGN_OR_RETURN(const MemoryPlan plan, plan_memory(flags.model, options, /*head_rows=*/1));
  if (flags.json) return print_json(plan_json(plan));
  print_table(plan);
  return flush_stdout();
}

}  // namespace

CommandAction add_plan(CLI::App& command) {
  auto flags = std::make_shared<PlanFlags>();
  command.description("Print what a run would allocate, to the byte; loads no weights");
  command.footer(
      "Examples:\n"
      "  kvass plan model.gguf --context 32768 --kv bf16\n"
      "  kvass plan model.gguf --attention-sink 4,2044 --chunk 128");
  command.add_option("MODEL", flags->model, "A GGUF file")->required()->type_name("");
  command.add_flag("--json", flags->json, "One JSON object instead of the table");
  flags->stream.add(command);
  return [flags] { return run(*flags); };
}

}  // namespace kvass
