// kvass export: a model as one file with everything that running it takes.
#include "app/export.h"

#include <nlohmann/json.hpp>

#include "app/open.h"
#include "cli/command.h"
#include "cli/config.h"
#include "cli/fields.h"
#include "cli/model_flags.h"
#include "cli/progress.h"
#include "cli/stream_flags.h"

namespace kvass {
namespace {

struct ExportFlags {
  ExportOptions options;
  int64_t sliding_window = 0;
  int64_t sliding_window_pattern = 0;
  const CLI::Option* window_given = nullptr;
  const CLI::Option* pattern_given = nullptr;
  ModelFlags weights;
  bool json = false;
  StreamFlags stream;
};

Status run(const ExportFlags& flags) {
  ExportOptions options = flags.options;
  KVASS_ASSIGN_OR_RETURN(ModelFile file, ModelFlags::open(options.model));
  KVASS_ASSIGN_OR_RETURN(options.stream, flags.stream.resolve(file.stream_options()));
  if (flags.window_given->count() > 0) options.sliding_window = flags.sliding_window;
  if (flags.pattern_given->count() > 0) options.sliding_window_pattern = flags.sliding_window_pattern;
  KVASS_ASSIGN_OR_RETURN(const WeightOptions weights, flags.weights.resolve());
  if (weights.type) options.weights = weight_type_name(*weights.type);
  KVASS_ASSIGN_OR_RETURN(const ExportSummary summary,
                         export_program(std::move(file), options, weights.on_loaded, Progress::of_bytes("the file")));
  for (const std::string& warning : summary.warnings) say("kvass: warning: {}\n", warning);
  if (flags.json) {
    return print_json({{"file", options.out},
                       {"file_bytes", summary.file_bytes},
                       {"weight_bytes", summary.weight_bytes},
                       {"cache_bytes", summary.cache_bytes},
                       {"cross_bytes", summary.cross_bytes},
                       {"arena_bytes", summary.arena_bytes},
                       {"layers", summary.layers},
                       {"methods", summary.methods},
                       {"warnings", summary.warnings}});
  }
  std::string methods;
  for (const std::string& method : summary.methods) methods += (methods.empty() ? "" : ", ") + method;
  say("kvass: {}: {} ({}), weights {}, caches {} a sequence{}, arena {}\n", options.out,
      human_bytes(summary.file_bytes), methods, human_bytes(summary.weight_bytes), human_bytes(summary.cache_bytes),
      summary.cross_bytes > 0 ? ", cross caches " + human_bytes(summary.cross_bytes) : "",
      human_bytes(summary.arena_bytes));
  return {};
}

}  // namespace

CommandAction add_export(CLI::App& command) {
  auto flags = std::make_shared<ExportFlags>();
  command.description("Write a model as one file that holds all that running it takes: a static program (.kvp)");
  command.footer(
      "The file has packed weights, vocabulary, methods, caches and the place of every value; `run`, `score`, `chat`,\n"
      "`plan`, `inspect`, `verify` and `bench` take it like a GGUF and give the same bits. Sliding windows are the\n"
      "model's own unless they are given: a window alone makes every layer slide, with a pattern P every P-th layer\n"
      "keeps the whole context. A line warns where that changes what the model says.\n"
      "Examples:\n"
      "  kvass export model.gguf -o model.kvp --max-context-len 8192 --input-len 32\n"
      "  kvass export speech-model/ -o speech.kvp --weights q8_0\n"
      "  kvass export model.gguf -o small.kvp --max-context-len 8192 --input-len 32 --sliding-window 4096 \\\n"
      "      --sliding-window-pattern 5 --multifunction --weights q8_0");
  command
      .add_option("MODEL", flags->options.model,
                  "A GGUF file, a speech model (a CTranslate2 or Hugging Face folder, a ggml-*.bin file),\n"
                  "or a .kvp file to plan anew")
      ->required()
      ->type_name("");
  command
      .add_option(flags_of("ExportOptions.out"), flags->options.out,
                  "The file to write; it appears whole or not at all")
      ->required()
      ->type_name("FILE");
  command.add_flag(flags_of("ExportOptions.multifunction"), flags->options.multifunction,
                   "A method `prefill` of --input-len tokens and a `decode` of one, which share weights and caches");
  command.add_flag("--json", flags->json, "One JSON object on stdout instead of a line on stderr");
  flags->window_given = command
                            .add_option(flags_of("ExportOptions.sliding_window"), flags->sliding_window,
                                        "Tokens that a sliding layer looks back on (default: the model's own)")
                            ->type_name("TOKENS")
                            ->group("Layers");
  flags->pattern_given =
      command
          .add_option(flags_of("ExportOptions.sliding_window_pattern"), flags->sliding_window_pattern,
                      "Beside a window: every P-th layer keeps the whole context (default: none)")
          ->type_name("P")
          ->group("Layers");
  flags->weights.add_weights(command);
  flags->stream.add(command);
  add_config(command);
  return [flags] { return run(*flags); };
}

}  // namespace kvass
