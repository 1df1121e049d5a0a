#include "app/speech_source.h"

#include <utility>

#include "base/platform.h"
#include "file/ct2.h"
#include "file/ggml_speech.h"
#include "file/json_fields.h"
#include "file/safetensors_source.h"
#include "model/folder.h"

namespace kvass {
namespace {

using nlohmann::json;

bool is_file(const std::string& path) { return platform::file_info(path).kind == platform::FileKind::file; }

template <class Source>
std::unique_ptr<TensorSource> owned(Source source) {
  return std::make_unique<Source>(std::move(source));
}

// "alignment_heads": [[layer, head], …]
Status read_alignment_heads(const json& config, const std::string& path, SpeechSource& out) {
  if (!config.is_object()) return {};
  const auto found = config.find("alignment_heads");
  if (found == config.end() || found->is_null()) return {};
  const auto refuse = [&] { return bad_input(path + ": alignment_heads", "pairs of a layer and a head", "others"); };
  if (!found->is_array()) return refuse();
  for (const json& pair : *found) {
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_number_unsigned() || !pair[1].is_number_unsigned()) {
      return refuse();
    }
    out.alignment_heads.emplace_back(pair[0].get<int64_t>(), pair[1].get<int64_t>());
  }
  return {};
}

// Values by which a model of the same tensors computes something else than the speech family builds.
Status check_config(const json& config, const std::string& path) {
  const auto heads = config.find("encoder_attention_heads");
  const std::pair<const char*, json> known[] = {
      {"activation_function", "gelu"}, {"scale_embedding", false}, {"decoder_attention_heads", *heads}};
  for (const auto& [key, value] : known) {
    const auto found = config.find(key);
    if (found == config.end() || *found == value) continue;
    return unsupported(path + ": " + key, value.dump(), found->dump().substr(0, 80));
  }
  return {};
}

Result<SpeechSource> open_ct2(const std::string& folder) {
  SpeechSource out;
  out.format = "CTranslate2";
  KVASS_ASSIGN_OR_RETURN(Ct2Model file, Ct2Model::open(folder + "/model.bin"));
  KVASS_ASSIGN_OR_RETURN(out.heads, file.integer("encoder/num_heads"));
  if (out.heads < 1) return bad_input(file.name() + ": encoder/num_heads", "at least 1", std::to_string(out.heads));
  KVASS_ASSIGN_OR_RETURN(out.vocabulary, read_speech_vocabulary(folder));
  KVASS_ASSIGN_OR_RETURN(const JsonTree config, read_json_file(folder + "/config.json"));
  KVASS_RETURN_IF_ERROR(read_alignment_heads(config.root(), folder + "/config.json", out));
  out.tensors = owned(std::move(file));
  return out;
}

Result<SpeechSource> open_hugging_face(const std::string& folder) {
  SpeechSource out;
  out.format = "safetensors";
  KVASS_ASSIGN_OR_RETURN(SafeTensorsSource file, SafeTensorsSource::open(folder + "/model.safetensors"));
  KVASS_ASSIGN_OR_RETURN(const JsonTree tree, read_json_file(folder + "/config.json"));
  const json& config = tree.root();
  const auto heads = config.is_object() ? config.find("encoder_attention_heads") : config.end();
  if (heads == config.end() || !heads->is_number_unsigned() || heads->get<uint64_t>() < 1 ||
      heads->get<uint64_t>() > 1024) {
    return bad_input(folder + "/config.json: encoder_attention_heads", "1 to 1024", "none or another");
  }
  out.heads = heads->get<int64_t>();
  KVASS_RETURN_IF_ERROR(check_config(config, folder + "/config.json"));
  KVASS_ASSIGN_OR_RETURN(out.vocabulary, read_speech_vocabulary(folder));
  const std::string generation = folder + "/generation_config.json";
  KVASS_ASSIGN_OR_RETURN(const JsonTree more, read_json_file(generation));
  KVASS_RETURN_IF_ERROR(read_alignment_heads(more.root(), generation, out));
  if (out.alignment_heads.empty()) KVASS_RETURN_IF_ERROR(read_alignment_heads(config, folder + "/config.json", out));
  out.tensors = owned(std::move(file));
  return out;
}

}  // namespace

Result<SpeechSource> open_ggml_speech(FileMap map) {
  SpeechSource out;
  out.format = "ggml";
  const std::string path = map.path();
  KVASS_ASSIGN_OR_RETURN(GgmlSpeech file, GgmlSpeech::open(std::move(map)));
  out.heads = file.sizes().audio_heads;
  KVASS_ASSIGN_OR_RETURN(out.vocabulary, complete_speech_vocabulary(path, file.pieces(), file.sizes().vocabulary));
  out.tensors = owned(std::move(file));
  return out;
}

bool is_speech_model_folder(const std::string& path) {
  if (is_file(path + "/model.bin")) return true;
  const Result<JsonTree> config = read_json_file(path + "/config.json");
  return config.ok() && is_speech_folder(JsonFields(config->root(), path));
}

Result<SpeechSource> open_speech_folder(const std::string& path) {
  if (is_file(path + "/model.bin")) return open_ct2(path);
  if (is_file(path + "/model.safetensors")) return open_hugging_face(path);
  return bad_input(path, "model.bin (CTranslate2) or model.safetensors (Hugging Face) in the folder", "neither");
}

}  // namespace kvass
