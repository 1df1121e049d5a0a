// kvass plan: every byte of a stream before anything is loaded, for a model file or for bare layers.
#include "app/plan.h"

#include <nlohmann/json.hpp>

#include "app/chart.h"
#include "cli/command.h"
#include "cli/config.h"
#include "cli/fields.h"
#include "cli/model_flags.h"
#include "cli/stream_flags.h"

namespace kvass {
namespace {

struct PlanFlags {
  std::string model;
  LayerPattern pattern;
  int64_t sliding_window = 0;
  int64_t sliding_window_pattern = 0;
  bool json = false;
  std::string svg;  // file; empty: none
  StreamFlags stream;
  ModelFlags weights;
  std::vector<const CLI::Option*> needed;  // where there is no MODEL
  const CLI::Option* window_given = nullptr;
  const CLI::Option* pattern_given = nullptr;
};

// A file, or layers by flags.
Result<PlannedModel> planned_model(const PlanFlags& flags, const std::optional<ModelFile>& file) {
  KVASS_ASSIGN_OR_RETURN(const WeightOptions weights, flags.weights.resolve());
  if (file) return PlannedModel::of(*file, weights);
  if (weights.type || weights.pages || weights.check) {
    return bad_input(weights.type    ? "WeightOptions.type"
                     : weights.pages ? "WeightOptions.pages"
                                     : "WeightOptions.check",
                     "MODEL beside it", "bare layers, which have no weights");
  }
  for (const CLI::Option* needed : flags.needed) {
    if (needed->count() == 0) throw CLI::RequiredError("MODEL, or --layers, --kv-heads and --head-dim,");
  }
  LayerPattern pattern = flags.pattern;
  if (flags.window_given->count() > 0) pattern.sliding_window = flags.sliding_window;
  if (flags.pattern_given->count() > 0) pattern.sliding_window_pattern = flags.sliding_window_pattern;
  return PlannedModel::of(pattern);
}

nlohmann::json plan_json(const PlannedModel& model, const MemoryPlan& plan, const CacheTotals& totals,
                         const ArenaFigures& arena) {
  nlohmann::json layers = nlohmann::json::array();
  for (size_t i = 0; i < plan.caches.layers.size(); ++i) {
    const LayerCache& layer = plan.caches.layers[i];
    layers.push_back({{"layer", i},
                      {"kind", layout_kind_name(layer.layout.kind())},
                      {"cache_len", totals.cache_lens[i]},
                      {"slots", layer.slots()},
                      {"k_bytes", totals.k_bytes[i]},
                      {"v_bytes", totals.k_bytes[i]},
                      {"allocated_bytes", layer.bytes()}});
  }
  nlohmann::json json = {{"layers", std::move(layers)},
                         {"cache_bytes", totals.cache_bytes},
                         {"all_full_bytes", totals.all_full_bytes},
                         {"all_sliding_bytes", nullptr},
                         {"allocated_bytes", plan.cache_bytes()},
                         {"arena_bytes", nullptr},
                         {"sequences", plan.sequences}};
  if (totals.all_sliding_bytes) json["all_sliding_bytes"] = *totals.all_sliding_bytes;
  if (!model.has_program()) return json;
  json["arena_bytes"] = plan.arena_bytes;
  json["arena_peak_bytes"] = arena.bytes;
  json["arena_sum_bytes"] = arena.sum_bytes;
  json["arena_bound_bytes"] = arena.bound_bytes;
  json["cross_bytes"] = plan.cross_bytes;
  json["weight_bytes"] = plan.weight_bytes;
  json["total_bytes"] = plan.total_bytes();
  return json;
}

void print_table(const PlannedModel& model, const MemoryPlan& plan, const CacheTotals& totals,
                 const ArenaFigures& arena) {
  print("{:>5}  {:<20} {:>9} {:>9} {:>12} {:>12} {:>12}\n", "layer", "layout", "cache_len", "slots", "K bytes",
        "V bytes", "allocated");
  for (size_t i = 0; i < plan.caches.layers.size(); ++i) {
    const LayerCache& layer = plan.caches.layers[i];
    print("{:>5}  {:<20} {:>9} {:>9} {:>12} {:>12} {:>12}\n", i, layout_text(layer.layout), totals.cache_lens[i],
          layer.slots(), totals.k_bytes[i], totals.k_bytes[i], layer.bytes());
  }
  const auto line = [](const char* name, size_t bytes) {
    print("{:<54} {:>14}  {:>10}\n", name, bytes, human_bytes(bytes));
  };
  print("\n");
  line("keys and values of cache_len tokens a layer", totals.cache_bytes);
  line("  … if every layer kept the whole context", totals.all_full_bytes);
  if (totals.all_sliding_bytes) line("  … if every layer kept the sliding window only", *totals.all_sliding_bytes);
  print("\n");
  line("caches as mapped (room for a step, whole tiles)", plan.caches.bytes);
  if (plan.sequences > 1) line(fmt::format("  … of {} sequences", plan.sequences).c_str(), plan.cache_bytes());
  if (!model.has_program()) return;
  if (plan.cross_bytes > 0) line("encoder output, shared by all sequences", plan.cross_bytes);
  line("arena", plan.arena_bytes);
  line("  … of it values and workspaces", arena.bytes);
  line("  … if each had bytes of its own", arena.sum_bytes);
  line("  … the most that lives at one time: no plan is below", arena.bound_bytes);
  line("weights", plan.weight_bytes);
  line("in all", plan.total_bytes());
}

// What the stream takes in all, and each layer's cache.
std::string plan_picture(const std::string& model, const MemoryPlan& plan) {
  const auto of = [](size_t bytes) { return static_cast<double>(bytes); };
  BarGroup whole{"In all: " + human_bytes(plan.total_bytes()), {}};
  const auto add = [&](const char* kind, size_t bytes) {
    if (bytes > 0) whole.bars.push_back({kind, {{kind, of(bytes)}}, human_bytes(bytes)});
  };
  add("weights", plan.weight_bytes);
  add("caches", plan.cache_bytes());
  add("encoder output", plan.cross_bytes);
  add("arena", plan.arena_bytes);
  BarGroup layers{"Caches of one sequence: " + human_bytes(plan.caches.bytes), {}};
  for (size_t i = 0; i < plan.caches.layers.size(); ++i) {
    const LayerCache& layer = plan.caches.layers[i];
    layers.bars.push_back({"layer " + std::to_string(i),
                           {{std::string(layout_kind_name(layer.layout.kind())), of(layer.bytes())}},
                           layout_text(layer.layout) + ", " + human_bytes(layer.bytes())});
  }
  return bar_chart("Memory plan" + (model.empty() ? "" : " of " + model), {whole, layers});
}

Status run(const PlanFlags& flags) {
  if (!flags.svg.empty()) KVASS_RETURN_IF_ERROR(check_picture(flags.svg));
  std::optional<ModelFile> file;
  if (!flags.model.empty()) {
    KVASS_ASSIGN_OR_RETURN(file, ModelFlags::open(flags.model));
  }
  KVASS_ASSIGN_OR_RETURN(const StreamOptions options,
                         flags.stream.resolve(file ? file->stream_options() : StreamOptions()));
  KVASS_ASSIGN_OR_RETURN(const PlannedModel model, planned_model(flags, file));
  if (file) {
    KVASS_ASSIGN_OR_RETURN(const CacheOptions caches, resolve_caches(options, file->trained_context()));
    warn_of_context(caches, file->trained_context());
  }
  KVASS_ASSIGN_OR_RETURN(const MemoryPlan plan, model.plan(options, /*head_rows=*/1));
  KVASS_ASSIGN_OR_RETURN(const CacheTotals totals, model.totals(options));
  ArenaFigures arena;
  if (model.has_program()) {
    KVASS_ASSIGN_OR_RETURN(arena, model.arena(options, /*head_rows=*/1));
  }
  KVASS_RETURN_IF_ERROR(model.check_limit(options, /*head_rows=*/1));
  if (!flags.svg.empty()) KVASS_RETURN_IF_ERROR(write_picture(flags.svg, plan_picture(flags.model, plan)));
  if (flags.json) return print_json(plan_json(model, plan, totals, arena));
  print_table(model, plan, totals, arena);
  return flush_stdout();
}

}  // namespace

CommandAction add_plan(CLI::App& command) {
  auto flags = std::make_shared<PlanFlags>();
  command.description("Print what a run would allocate, to the byte; loads no weights");
  command.footer(
      "cache_len follows the export rule: --max-context-len minus --input-len in full layers, the sliding window or\n"
      "that, whichever is less, in sliding ones; with sinks S + W. What is mapped has room for a step's own tokens.\n"
      "Examples:\n"
      "  kvass plan model.gguf --context 32768 --kv bf16\n"
      "  kvass plan model.gguf --attention-sink 4,2044 --chunk 128 --memory-limit 300M\n"
      "  kvass plan --layers 35 --kv-heads 1 --head-dim 256 --max-context-len 8192 --input-len 32 \\\n"
      "      --sliding-window 4096 --sliding-window-pattern 5");
  CLI::Option* model = command
                           .add_option("MODEL", flags->model,
                                       "A GGUF or .kvp file, or a Hugging Face folder; without one, layers by flags")
                           ->type_name("");
  command.add_flag("--json", flags->json, "One JSON object instead of the table");
  command.add_option("--svg", flags->svg, "A picture of the plan, beside the table")->type_name("FILE");
  const auto shape = [&](const std::string& name, int64_t& value, const char* type, const char* what) {
    CLI::Option* option = command.add_option(name, value, what);
    return option->type_name(type)->group("Layers, instead of MODEL")->excludes(model);
  };
  flags->needed = {
      shape(flags_of("LayerPattern.layers"), flags->pattern.layers, "N", "Layers"),
      shape(flags_of("LayerPattern.kv_heads"), flags->pattern.kv_heads, "N", "Heads of keys and values in a layer"),
      shape(flags_of("LayerPattern.head_dim"), flags->pattern.head_dim, "N", "Channels of a head")};
  flags->window_given = shape(flags_of("LayerPattern.sliding_window"), flags->sliding_window, "TOKENS",
                              "Tokens that a sliding layer looks back on (default: every layer is full)");
  flags->pattern_given = shape(flags_of("LayerPattern.sliding_window_pattern"), flags->sliding_window_pattern, "P",
                               "Every P-th layer is full, the others slide (default: every layer slides)");
  flags->stream.add(command);
  flags->weights.add(command);
  flags->weights.add_device(command);
  flags->stream.add_memory_limit(command);
  flags->stream.add_sequences(command, "Sequences that run together, each with such caches");
  add_config(command);
  return [flags] { return run(*flags); };
}

}  // namespace kvass
