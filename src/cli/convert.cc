// kvass convert: a folder of Hugging Face, or a GGUF file, as a GGUF file.
#include "app/convert.h"

#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/fields.h"
#include "cli/model_flags.h"
#include "cli/progress.h"

namespace kvass {
namespace {

struct ConvertFlags {
  ConvertOptions options;
  ModelFlags weights;
  bool json = false;
};

Status run(const ConvertFlags& flags) {
  ConvertOptions options = flags.options;
  KVASS_ASSIGN_OR_RETURN(const WeightOptions weights, flags.weights.resolve());
  if (weights.type) options.weights = weight_type_name(*weights.type);
  options.on_written = Progress::of_bytes("the file");
  KVASS_ASSIGN_OR_RETURN(const ConvertSummary summary, convert_model(options));
  for (const std::string& warning : summary.warnings) say("kvass: warning: {}\n", warning);
  if (flags.json) {
    return print_json({{"file", options.out},
                       {"file_bytes", summary.file_bytes},
                       {"metadata", summary.metadata},
                       {"tensors", summary.tensors},
                       {"converted", summary.converted},
                       {"warnings", summary.warnings}});
  }
  say("kvass: {}: {}, {} metadata entries, {} tensors, {} of them converted\n", options.out,
      human_bytes(summary.file_bytes), summary.metadata, summary.tensors, summary.converted);
  return {};
}

}  // namespace

CommandAction add_convert(CLI::App& command) {
  auto flags = std::make_shared<ConvertFlags>();
  command.description("Write a Hugging Face folder, or a GGUF file with other weights, as a GGUF file");
  command.footer(
      "The folder: config.json, *.safetensors, tokenizer.json and what stands beside them. The file gives the logits "
      "of\n"
      "the folder, to the bit; other programs that read GGUF take it too.\n"
      "Examples:\n"
      "  kvass convert ./checkpoint -o model.gguf\n"
      "  kvass convert ./checkpoint -o small.gguf --weights q8_0");
  ModelFlags::add_model(command, flags->options.model, "A Hugging Face folder or a GGUF file of a text model")
      ->required();
  command
      .add_option(flags_of("ExportOptions.out"), flags->options.out,
                  "The file to write; it appears whole or not at all")
      ->required()
      ->type_name("FILE");
  flags->weights.add_weights(command);
  command
      .add_option(flags_of("StreamOptions.threads"), flags->options.threads, "Threads; 0: as many as the machine has")
      ->type_name("N")
      ->capture_default_str();
  command.add_flag("--json", flags->json, "One JSON object on stdout instead of a line on stderr");
  return [flags] { return run(*flags); };
}

}  // namespace kvass
