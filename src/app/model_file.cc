#include "app/model_file.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "app/speech_file.h"
#include "model/speech.h"

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

ModelFile::ModelFile(std::string path, Gguf file, ModelProgram model)
    : path_(std::move(path)), file_(std::move(file)), model_(std::move(model)), program_(std::move(model_.program)) {}

ModelFile::ModelFile(std::string path, KvpFile file)
    : path_(std::move(path)), file_(std::move(file)), program_(kvp().model().program), kept_(kept_weights(program_)) {}

Result<ModelFile> ModelFile::open(const std::string& path) {
  if (is_kvp(path)) {
    KVASS_ASSIGN_OR_RETURN(KvpFile file, KvpFile::open(path));
    return ModelFile(path, std::move(file));
  }
  if (is_speech_source(path)) {
    return bad_input(path, "a GGUF or .kvp file", "a speech model (kvass transcribe and export take it)");
  }
  KVASS_ASSIGN_OR_RETURN(Gguf file, Gguf::open(path));
  KVASS_ASSIGN_OR_RETURN(ModelProgram model, build_program(file));
  return ModelFile(path, std::move(file), std::move(model));
}

const Program& ModelFile::program() const { return program_; }

const std::string& ModelFile::family() const { return is_static() ? kvp().model().family : model_.family; }

int64_t ModelFile::trained_context() const {
  return is_static() ? kvp().model().trained_context : model_.trained_context;
}

Result<std::string> ModelFile::chat_template() const {
  if (is_static()) return kvp().model().chat_template;
  KVASS_ASSIGN_OR_RETURN(const std::string_view text,
                         std::get<Gguf>(file_).get_string_or("tokenizer.chat_template", ""));
  return std::string(text);
}

StreamOptions ModelFile::stream_options() const {
  return is_static() ? options_of(kvp().model().caches, kvp().model().math, {}) : StreamOptions();
}

std::vector<MethodPlan> ModelFile::methods() const {
  return is_static() ? kvp().model().methods : std::vector<MethodPlan>();
}

Result<Vocabulary> ModelFile::vocabulary() const {
  if (!is_static()) return read_vocabulary(std::get<Gguf>(file_));
  KVASS_ASSIGN_OR_RETURN(const VocabularyView view, kvp().vocabulary());
  return vocabulary_as<Vocabulary>(view);
}

Result<Tokenizer> ModelFile::tokenizer() const {
  if (is_static()) {
    KVASS_ASSIGN_OR_RETURN(const VocabularyView view, kvp().vocabulary());
    return Tokenizer::create(view);
  }
  KVASS_ASSIGN_OR_RETURN(const Vocabulary vocabulary, read_vocabulary(std::get<Gguf>(file_)));
  return Tokenizer::create(vocabulary);
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
  if (!is_static()) {
    const Gguf& file = std::get<Gguf>(file_);
    ModelProgram model = model_;
    model.program.weights = program_.weights;
    return plan_weights(file, model, options.type);
  }
  if (!options.type && options.pages != Pages::huge) return kvp().section_bytes();
  size_t bytes = 0;
  for (size_t i = 0; i < program_.weights.size(); ++i) bytes += aligned(stored_bytes(i, options));
  return bytes;
}

Result<WeightStore> ModelFile::load_weights(const WeightOptions& options, ThreadPool& pool) {
  KVASS_RETURN_IF_ERROR(check_weight_options(options, is_static(), path_));
  if (!is_static()) {
    model_.program.weights = program_.weights;
    return kvass::load_weights(std::get<Gguf>(file_), model_, pool, options.type);
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
  return store;
}

}  // namespace kvass
