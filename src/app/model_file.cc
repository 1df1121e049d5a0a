#include "app/model_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "app/model_contents.h"
#include "app/model_names.h"
#include "model/alignment_heads.h"

namespace kvass {
namespace {

constexpr size_t kAlignment = 64;  // bytes: a panel vector

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

Result<Pages> parse_pages(std::string_view text) {
  if (text == "mapped") return Pages::mapped;
  if (text == "huge") return Pages::huge;
  return bad_input("WeightOptions.pages", "mapped or huge", "'" + std::string(text) + "'");
}

Result<Device> parse_device(std::string_view text) {
  for (const Device device : {Device::cpu, Device::cuda, Device::rocm}) {
    if (text == device_name(device)) return device;
  }
  return bad_input("WeightOptions.device", "cpu, cuda or rocm", text);
}

Status check_weight_options(const WeightOptions& options, bool is_static, const std::string& path) {
  if (!is_static && options.pages == Pages::mapped) {
    return bad_input("WeightOptions.pages", "huge, or a .kvp file (the weights of other files are packed)", "mapped");
  }
  if (options.pages == Pages::mapped && options.type) {
    return bad_input("WeightOptions.pages", "huge beside WeightOptions.type, which makes other weights of the file's",
                     "mapped");
  }
  if (!is_static && options.check) {
    return bad_input("WeightOptions.check", "a .kvp file, which has hashes of its weights", path);
  }
  return {};
}

Result<ModelFile> ModelFile::open(const std::string& path_or_name) {
  const std::string path = model_path(path_or_name);
  KVASS_ASSIGN_OR_RETURN(ModelContents contents, open_contents(path));
  ModelFile file;
  file.path_ = path;
  file.format_ = std::move(contents.format);
  KVASS_RETURN_IF_ERROR(
      std::visit([&](auto&& opened) { return file.take(std::move(opened)); }, std::move(contents.file)));
  if (file.speech_) {
    std::vector<std::pair<int64_t, int64_t>>& heads = file.speech_->alignment_heads;
    if (heads.empty()) heads = known_alignment_heads(file.speech_->shape);
    KVASS_RETURN_IF_ERROR(file.check_speech());
  }
  return file;
}

Status ModelFile::take(KvpFile kvp) {
  program_ = kvp.model().program;
  kept_ = kept_weights(program_);
  if (kvp.model().speech) {
    SpeechParts& speech = speech_.emplace();
    KVASS_ASSIGN_OR_RETURN(speech.vocabulary, kvp.speech_vocabulary());
    const Result<SpeechShape> shape = speech_shape(program_);
    if (!shape.ok()) return shape.status().with_message(path_ + ": " + shape.status().message());
    speech.shape = shape.value();
    speech.alignment_heads = kvp.model().speech->alignment_heads;
    KVASS_RETURN_IF_ERROR(kvp.check());
  }
  file_ = std::move(kvp);
  return {};
}

Status ModelFile::take(SpeechSource source) {
  Result<SpeechProgram> program = build_speech_program(*source.tensors, source.heads);
  KVASS_RETURN_IF_ERROR(source.tensors->check());
  KVASS_ASSIGN_OR_RETURN(SpeechProgram built, std::move(program));
  model_ = std::move(built.model);
  program_ = std::move(model_.program);
  speech_ = SpeechParts{built.shape, std::move(source.vocabulary), std::move(source.alignment_heads)};
  file_ = std::move(source.tensors);
  return {};
}

Status ModelFile::take(Gguf gguf) {
  Result<ModelProgram> built = build_program(gguf);
  KVASS_RETURN_IF_ERROR(gguf.check());
  KVASS_ASSIGN_OR_RETURN(model_, std::move(built));
  program_ = std::move(model_.program);
  file_ = std::move(gguf);
  note_tokens_without_rows();
  return {};
}

void ModelFile::note_tokens_without_rows() {
  constexpr std::string_view kKey = "tokenizer.ggml.tokens";
  const Gguf& gguf = std::get<Gguf>(file_);
  const GgufEntry* entry = gguf.find(kKey);
  const int64_t tokens = entry != nullptr ? static_cast<int64_t>(entry->count) : 0, rows = program_.vocabulary();
  if (tokens <= rows) return;
  model_.notes.push_back(fmt::format("{}: {}: {} tokens for {} rows of the embedding; those without a row are not used",
                                     gguf.name(), kKey, tokens, rows));
}

Status ModelFile::check_speech() const {
  const SpeechParts& speech = *speech_;
  if (static_cast<int64_t>(speech.vocabulary.pieces.size()) != speech.shape.vocabulary) {
    return bad_input(path_ + ": tokens", std::to_string(speech.shape.vocabulary) + ", a row each",
                     std::to_string(speech.vocabulary.pieces.size()));
  }
  for (const auto& [layer, head] : speech.alignment_heads) {
    if (layer >= 0 && layer < speech.shape.decoder_layers && head >= 0 && head < speech.shape.heads) continue;
    return bad_input(path_ + ": alignment heads",
                     "layers below " + std::to_string(speech.shape.decoder_layers) + " and heads below " +
                         std::to_string(speech.shape.heads),
                     std::to_string(layer) + ", " + std::to_string(head));
  }
  return {};
}

Status ModelFile::check_text() const {
  if (!speech_) return {};
  if (is_static()) return kvp().vocabulary().status();
  return bad_input(path_, "a GGUF or .kvp file", "a speech model (kvass transcribe and export take it)");
}

const Program& ModelFile::program() const { return program_; }

const std::string& ModelFile::family() const { return is_static() ? kvp().model().family : model_.family; }

int64_t ModelFile::trained_context() const {
  if (is_static()) return kvp().model().trained_context;
  return speech_ ? speech_->shape.context : model_.trained_context;
}

StreamOptions ModelFile::stream_options() const {
  StreamOptions options;
  if (is_static()) {
    options = options_of(kvp().model().caches, kvp().model().math, {});
  } else if (speech_) {
    options.kv = DType::f32;
    options.math = Math::f32;
    options.context = options.chunk = speech_->shape.context;
  }
  if (speech_) options.sequences = kSpeechSequences;
  return options;
}

std::vector<MethodPlan> ModelFile::methods() const {
  return is_static() ? kvp().model().methods : std::vector<MethodPlan>();
}

Result<std::string> ModelFile::chat_template() const {
  KVASS_RETURN_IF_ERROR(check_text());
  if (is_static()) return kvp().model().chat_template;
  const Gguf& gguf = std::get<Gguf>(file_);
  KVASS_ASSIGN_OR_RETURN(const std::string_view text, gguf.get_string_or("tokenizer.chat_template", ""));
  std::string copy(text);
  KVASS_RETURN_IF_ERROR(gguf.check());
  return copy;
}

Result<Vocabulary> ModelFile::vocabulary() const {
  KVASS_RETURN_IF_ERROR(check_text());
  if (!is_static()) {
    if (format_ == "safetensors" && !std::get<Gguf>(file_).has("tokenizer.ggml.model")) {
      return bad_input(path_, "tokenizer.json in the folder", "none");
    }
    Result<Vocabulary> read = read_vocabulary(std::get<Gguf>(file_));
    KVASS_RETURN_IF_ERROR(std::get<Gguf>(file_).check());
    if (read.ok()) KVASS_RETURN_IF_ERROR(drop_tokens_from(program_.vocabulary(), read.value()));
    return read;
  }
  KVASS_ASSIGN_OR_RETURN(const VocabularyView view, kvp().vocabulary());
  Vocabulary copy = vocabulary_as<Vocabulary>(view);
  KVASS_RETURN_IF_ERROR(kvp().check());
  return copy;
}

Result<Tokenizer> ModelFile::tokenizer() const {
  KVASS_RETURN_IF_ERROR(check_text());
  if (is_static()) {
    KVASS_ASSIGN_OR_RETURN(const VocabularyView view, kvp().vocabulary());
    Result<Tokenizer> made = Tokenizer::create(view);
    KVASS_RETURN_IF_ERROR(kvp().check());
    return made;
  }
  KVASS_ASSIGN_OR_RETURN(const Vocabulary vocabulary, this->vocabulary());
  return Tokenizer::create(vocabulary);
}

ModelProgram ModelFile::with_program() const {
  ModelProgram model = model_;
  model.program = program_;
  return model;
}

std::optional<WeightType> ModelFile::wanted(size_t i, const WeightOptions& options) const {
  return kept_[i] ? std::optional<WeightType>() : options.type;
}

size_t ModelFile::stored_bytes(size_t i, const WeightOptions& options) const {
  const PackedWeight& matrix = kvp().matrices()[i];
  if (matrix.data == nullptr) return static_cast<size_t>(program_.weights[i].inputs) * sizeof(float);
  return packed_bytes(stored_type(matrix.type, matrix.k, wanted(i, options)), matrix.n, matrix.k).value();
}

Result<size_t> ModelFile::weight_bytes(const WeightOptions& options) const {
  KVASS_RETURN_IF_ERROR(check_weight_options(options, is_static(), path_));
  if (const auto* gguf = std::get_if<Gguf>(&file_)) return plan_weights(*gguf, with_program(), options.type);
  if (const auto* tensors = std::get_if<std::unique_ptr<TensorSource>>(&file_)) {
    return plan_weights(**tensors, with_program(), options.type);
  }
  if (!options.type && options.pages != Pages::huge) return kvp().section_bytes();
  size_t bytes = 0;
  for (size_t i = 0; i < program_.weights.size(); ++i) bytes += aligned(stored_bytes(i, options));
  return bytes;
}

Result<WeightStore> ModelFile::load_weights(const WeightOptions& options, ThreadPool& pool) {
  KVASS_RETURN_IF_ERROR(check_weight_options(options, is_static(), path_));
  if (const auto* gguf = std::get_if<Gguf>(&file_)) {
    return kvass::load_weights(*gguf, with_program(), pool, options.type, options.on_loaded);
  }
  if (const auto* tensors = std::get_if<std::unique_ptr<TensorSource>>(&file_)) {
    return kvass::load_weights(**tensors, with_program(), options.type, pool, options.on_loaded);
  }
  if (options.check) KVASS_RETURN_IF_ERROR(kvp().check_weights(pool));
  if (options.type || options.pages == Pages::huge) return copied_weights(options, pool);
  return std::get<KvpFile>(std::move(file_)).take_weights();
}

Result<WeightStore> ModelFile::copied_weights(const WeightOptions& options, ThreadPool& pool) const {
  WeightStore store;
  KVASS_ASSIGN_OR_RETURN(const size_t bytes, weight_bytes(options));
  KVASS_ASSIGN_OR_RETURN(store.block, Block::map(bytes, "weights"));
  uint8_t* at = store.block.data();
  for (size_t i = 0; i < program_.weights.size(); ++i) {
    const PackedWeight& from = kvp().matrices()[i];
    const size_t size = stored_bytes(i, options);
    if (options.on_loaded) options.on_loaded(static_cast<size_t>(at - store.block.data()), bytes);
    if (from.data == nullptr) {
      std::memcpy(at, kvp().vectors()[i], size);
      store.vectors.push_back(reinterpret_cast<const float*>(at));
      store.matrices.push_back({});
    } else {
      const WeightType type = stored_type(from.type, from.k, wanted(i, options));
      const int64_t parts = type == from.type ? static_cast<int64_t>(size) : panel_count(from.n);  // bytes, or panels
      const int64_t task = std::max<int64_t>(1, parts / (8 * pool.threads()));
      pool.run((parts + task - 1) / task, [&](int64_t index, int) {
        const int64_t begin = index * task;
        const int64_t end = std::min(parts, begin + task);
        if (type != from.type) return requantise_panels(from, type, begin, end, at);
        std::memcpy(at + begin, from.data + begin, static_cast<size_t>(end - begin));
      });
      store.vectors.push_back(nullptr);
      store.matrices.push_back({type, from.n, from.k, at});
    }
    at += aligned(size);
  }
  if (options.on_loaded) options.on_loaded(bytes, bytes);
  KVASS_RETURN_IF_ERROR(kvp().check());
  return store;
}

}  // namespace kvass
