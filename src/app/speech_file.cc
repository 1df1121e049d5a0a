#include "app/speech_file.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/platform.h"
#include "file/ct2.h"
#include "file/ggml_speech.h"
#include "file/safetensors_source.h"
#include "model/alignment_heads.h"

namespace kvass {
namespace {

using nlohmann::json;

bool is_file(const std::string& path) { return platform::file_info(path).kind == platform::FileKind::file; }
bool is_folder(const std::string& path) { return platform::file_info(path).kind == platform::FileKind::folder; }

// What a file in one of the formats gives.
struct Opened {
  std::string format;
  std::unique_ptr<TensorSource> tensors;
  SpeechVocabulary vocabulary;
  int64_t heads = 0;                                         // 0: not said
  std::vector<std::pair<int64_t, int64_t>> alignment_heads;  // empty: not said
};

template <class Source>
std::unique_ptr<TensorSource> owned(Source source) {
  return std::make_unique<Source>(std::move(source));
}

// A JSON object, or null where the file is missing.
Result<json> read_json(const std::string& path) {
  if (!is_file(path)) return json();
  KVASS_ASSIGN_OR_RETURN(const FileMap map, FileMap::open(path));
  json parsed = json::parse(map.bytes().begin(), map.bytes().end(), nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return bad_input(path, "a JSON object", "something else");
  return parsed;
}

// "alignment_heads": [[layer, head], …]
Status read_alignment_heads(const json& config, const std::string& path, Opened& out) {
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

Result<Opened> open_ct2(const std::string& folder) {
  Opened out;
  out.format = "CTranslate2";
  KVASS_ASSIGN_OR_RETURN(Ct2Model file, Ct2Model::open(folder + "/model.bin"));
  KVASS_ASSIGN_OR_RETURN(out.heads, file.integer("encoder/num_heads"));
  if (out.heads < 1) return bad_input(file.name() + ": encoder/num_heads", "at least 1", std::to_string(out.heads));
  KVASS_ASSIGN_OR_RETURN(out.vocabulary, read_speech_vocabulary(folder));
  KVASS_ASSIGN_OR_RETURN(const json config, read_json(folder + "/config.json"));
  KVASS_RETURN_IF_ERROR(read_alignment_heads(config, folder + "/config.json", out));
  out.tensors = owned(std::move(file));
  return out;
}

Result<Opened> open_hugging_face(const std::string& folder) {
  Opened out;
  out.format = "safetensors";
  KVASS_ASSIGN_OR_RETURN(SafeTensorsSource file, SafeTensorsSource::open(folder + "/model.safetensors"));
  KVASS_ASSIGN_OR_RETURN(const json config, read_json(folder + "/config.json"));
  const auto heads = config.is_object() ? config.find("encoder_attention_heads") : config.end();
  if (heads == config.end() || !heads->is_number_unsigned() || heads->get<uint64_t>() < 1 ||
      heads->get<uint64_t>() > 1024) {
    return bad_input(folder + "/config.json: encoder_attention_heads", "1 to 1024", "none or another");
  }
  out.heads = heads->get<int64_t>();
  KVASS_ASSIGN_OR_RETURN(out.vocabulary, read_speech_vocabulary(folder));
  const std::string generation = folder + "/generation_config.json";
  KVASS_ASSIGN_OR_RETURN(const json more, read_json(generation));
  KVASS_RETURN_IF_ERROR(read_alignment_heads(more, generation, out));
  if (out.alignment_heads.empty()) KVASS_RETURN_IF_ERROR(read_alignment_heads(config, folder + "/config.json", out));
  out.tensors = owned(std::move(file));
  return out;
}

Result<Opened> open_ggml(const std::string& path) {
  Opened out;
  out.format = "ggml";
  KVASS_ASSIGN_OR_RETURN(GgmlSpeech file, GgmlSpeech::open(path));
  out.heads = file.sizes().audio_heads;
  KVASS_ASSIGN_OR_RETURN(out.vocabulary, complete_speech_vocabulary(path, file.pieces(), file.sizes().vocabulary));
  out.tensors = owned(std::move(file));
  return out;
}

Result<Opened> open_format(const std::string& path) {
  if (is_folder(path)) {
    if (is_file(path + "/model.bin")) return open_ct2(path);
    if (is_file(path + "/model.safetensors")) return open_hugging_face(path);
    return bad_input(path, "model.bin (CTranslate2) or model.safetensors (Hugging Face) in the folder", "neither");
  }
  return open_ggml(path);
}

}  // namespace

bool is_speech_source(const std::string& path) {
  if (is_folder(path)) return is_file(path + "/model.bin") || is_file(path + "/model.safetensors");
  return is_file(path) && is_ggml_speech(path);
}

SessionOptions speech_session(const SpeechShape& shape, int64_t sequences, int threads) {
  SessionOptions options;
  options.rows = std::max(shape.context, sequences);
  options.head_rows = std::max<int64_t>(sequences, 2);  // a prompt asks for its start and its end
  options.sequences = sequences;
  options.threads = threads;
  return options;
}

CacheOptions speech_caches(const SpeechShape& shape, DType dtype) {
  CacheOptions caches;
  caches.context = caches.chunk = shape.context;
  caches.dtype = dtype;
  return caches;
}

Result<SpeechFile> SpeechFile::open(const std::string& path) {
  SpeechFile file;
  file.path_ = path;
  if (is_kvp(path)) {
    KVASS_ASSIGN_OR_RETURN(file.kvp_, ModelFile::open(path));
    const KvpModel& model = file.kvp_->kvp().model();
    file.format_ = "kvp";
    file.family_ = model.family;
    KVASS_ASSIGN_OR_RETURN(file.vocabulary_, file.kvp_->kvp().speech_vocabulary());
    const Result<SpeechShape> shape = speech_shape(model.program);
    if (!shape.ok()) return shape.status().with_message(path + ": " + shape.status().message());
    file.shape_ = shape.value();
    file.alignment_heads_ = model.speech->alignment_heads;
    if (file.alignment_heads_.empty()) file.alignment_heads_ = known_alignment_heads(file.shape_);
    file.program_ = model.program;
    file.math_ = model.math;
    file.kv_ = model.caches.dtype;
    file.methods_ = model.methods;
  } else {
    KVASS_ASSIGN_OR_RETURN(Opened opened, open_format(path));
    KVASS_ASSIGN_OR_RETURN(SpeechProgram built, build_speech_program(*opened.tensors, opened.heads));
    file.format_ = std::move(opened.format);
    file.family_ = built.model.family;
    file.vocabulary_ = std::move(opened.vocabulary);
    file.shape_ = built.shape;
    file.alignment_heads_ =
        opened.alignment_heads.empty() ? known_alignment_heads(built.shape) : std::move(opened.alignment_heads);
    file.program_ = std::move(built.model.program);
    file.names_ = std::move(built.model.tensors);
    file.tensors_ = std::move(opened.tensors);
  }
  if (static_cast<int64_t>(file.vocabulary_.pieces.size()) != file.shape_.vocabulary) {
    return bad_input(path + ": tokens", std::to_string(file.shape_.vocabulary) + ", a row each",
                     std::to_string(file.vocabulary_.pieces.size()));
  }
  for (const auto& [layer, head] : file.alignment_heads_) {
    if (layer >= 0 && layer < file.shape_.decoder_layers && head >= 0 && head < file.shape_.heads) continue;
    return bad_input(path + ": alignment heads",
                     "layers below " + std::to_string(file.shape_.decoder_layers) + " and heads below " +
                         std::to_string(file.shape_.heads),
                     std::to_string(layer) + ", " + std::to_string(head));
  }
  return file;
}

Result<WeightStore> SpeechFile::load_weights(const WeightOptions& options, ThreadPool& pool) {
  if (kvp_) return kvp_->load_weights(options, pool);
  KVASS_RETURN_IF_ERROR(check_weight_options(options, /*is_static=*/false, path_));
  ModelProgram model;
  model.program = program_;
  model.tensors = names_;
  return kvass::load_weights(*tensors_, model, options.type, pool);
}

}  // namespace kvass
