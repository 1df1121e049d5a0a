#include "cli/model_flags.h"

#include "cli/command.h"
#include "cli/fields.h"
#include "cli/progress.h"

namespace kvass {

CLI::Option* ModelFlags::add_model(CLI::App& command, std::string& model, const std::string& text) {
  return command.add_option("-m,--model,MODEL", model, text)->type_name("");
}

void ModelFlags::add_weights(CLI::App& command) {
  command
      .add_option(flags_of("WeightOptions.type"), weights_,
                  "Quantise every matrix anew, to f32, f16, bf16, q8_0 or q4_0; results change\n"
                  "(default: as the file has them)")
      ->type_name("TYPE")
      ->group("Weights");
}

void ModelFlags::add(CLI::App& command) {
  add_weights(command);
  command
      .add_option(flags_of("WeightOptions.pages"), pages_,
                  "Weights of a .kvp file: mapped (used where the file is, ready at once) or huge (copied\n"
                  "into memory with huge pages) (default: mapped)")
      ->type_name("PAGES")
      ->group("Weights");
  command
      .add_flag(flags_of("WeightOptions.check"), check_,
                "Read the weights of a .kvp file and compare their hashes first")
      ->group("Weights");
}

void ModelFlags::add_device(CLI::App& command) {
  command
      .add_option(flags_of("WeightOptions.device"), device_,
                  "Where the model runs: cpu, or cuda or rocm (weights, caches and arena lie in its memory;\n"
                  "results are the same bits)")
      ->type_name("DEVICE")
      ->group("Stream")
      ->capture_default_str();
  gpu_layers_given_ =
      command
          .add_option("--gpu-layers,--n-gpu-layers", gpu_layers_,
                      "-ngl N of other programs: only 0 is taken, for a model runs on one device as a whole")
          ->type_name("0")
          ->group("Stream");
}

Result<ModelFile> ModelFlags::open(const std::string& model, bool quiet) {
  KVASS_ASSIGN_OR_RETURN(ModelFile file, ModelFile::open(model));
  for (const std::string& note : file.notes()) {
    if (!quiet) say("kvass: note: {}\n", note);
  }
  return file;
}

Result<WeightOptions> ModelFlags::resolve(bool quiet) const {
  WeightOptions options;
  options.on_loaded = Progress::of_bytes("weights", quiet);
  if (!weights_.empty()) {
    KVASS_ASSIGN_OR_RETURN(options.type, parse_weight_type(weights_));
  }
  if (!pages_.empty()) {
    KVASS_ASSIGN_OR_RETURN(options.pages, parse_pages(pages_));
  }
  options.check = check_;
  if (gpu_layers_given_ != nullptr && gpu_layers_given_->count() > 0) {
    if (gpu_layers_ != 0) {
      return bad_input("--gpu-layers", "0, or --device for the whole model", std::to_string(gpu_layers_));
    }
    say("kvass: note: -ngl 0: the model runs on --device {} as a whole\n", device_);
  }
  KVASS_ASSIGN_OR_RETURN(options.device, parse_device(device_));
  return options;
}

}  // namespace kvass
