// include/kvass/model.h.
#include "kvass/model.h"

#include <chrono>
#include <utility>

#include "api/guard.h"
#include "api/model_impl.h"
#include "base/check_enum.h"
#include "kvass/version.h"
#include "text/stream_decoder.h"

namespace kvass {
namespace {

Status none() { return bad_input("model", "an open one", "none"); }

Result<std::shared_ptr<Model::Impl>> open_impl(const std::string& path) {
  KVASS_ASSIGN_OR_RETURN(ModelFile file, ModelFile::open(path));
  auto impl = std::make_shared<Model::Impl>();
  ModelInfo& info = impl->info;
  info.path = path;
  info.format = file.format();
  info.family = file.family();
  info.kind = file.speech() != nullptr ? ModelKind::speech : ModelKind::text;
  info.vocabulary = file.program().vocabulary();
  info.trained_context = file.trained_context();
  info.streams = file.stream_options();
  info.notes = file.notes();
  if (info.kind == ModelKind::text) {
    KVASS_ASSIGN_OR_RETURN(Tokenizer tokenizer, file.tokenizer());
    impl->tokenizer = std::make_shared<const Tokenizer>(std::move(tokenizer));
    KVASS_ASSIGN_OR_RETURN(info.chat_template, file.chat_template());
  }
  impl->file.emplace(std::move(file));
  return impl;
}

// The file that was opened, where nobody has taken it yet.
Result<ModelFile> take_file(const Model::Impl& from) {
  {
    const std::lock_guard lock(from.mutex);
    if (from.file) {
      ModelFile taken = std::move(*from.file);
      from.file.reset();
      return taken;
    }
  }
  return ModelFile::open(from.info.path);
}

}  // namespace

Result<std::shared_ptr<const Model::Impl>> impl_of(const Model& model) {
  if (!model.impl()) return none();
  return model.impl();
}

Result<std::shared_ptr<const Model::Impl>> loaded_impl_of(const Model& model, ModelKind kind) {
  KVASS_ASSIGN_OR_RETURN(const std::shared_ptr<const Model::Impl> impl, impl_of(model));
  if (impl->info.kind != kind) {
    const bool speech = kind == ModelKind::speech;
    return bad_input(impl->info.path, speech ? "a speech model" : "a text model",
                     speech ? "a text model" : "a speech model");
  }
  if (!impl->loaded()) return bad_input(impl->info.path, "a model that is loaded", "a file that is open");
  return impl;
}

Result<WeightOptions> weight_options(const LoadOptions& options) {
  if (options.math) KVASS_RETURN_IF_ERROR(check_enum("LoadOptions.math", *options.math, math_name));
  if (options.pages) KVASS_RETURN_IF_ERROR(check_enum("LoadOptions.pages", *options.pages, pages_name));
  KVASS_RETURN_IF_ERROR(check_enum("LoadOptions.device", options.device, device_name));
  WeightOptions weights;
  if (!options.weights.empty()) {
    KVASS_ASSIGN_OR_RETURN(weights.type, parse_weight_type(options.weights, "LoadOptions.weights"));
  }
  weights.pages = options.pages;
  weights.check = options.check;
  weights.device = options.device;
  return weights;
}

Result<Model> Model::open(const std::string& path) {
  return guarded([&]() -> Result<Model> {
    KVASS_ASSIGN_OR_RETURN(std::shared_ptr<Impl> impl, open_impl(path));
    return Model(std::move(impl));
  });
}

Result<Model> Model::load(const std::string& path, const LoadOptions& options) {
  return guarded([&]() -> Result<Model> {
    KVASS_ASSIGN_OR_RETURN(const Model file, open(path));
    return file.load(options);
  });
}

Result<Model> Model::load(const LoadOptions& options) const {
  return guarded({"LoadOptions"}, [&]() -> Result<Model> {
    KVASS_ASSIGN_OR_RETURN(const std::shared_ptr<const Impl> from, impl_of(*this));
    KVASS_ASSIGN_OR_RETURN(const WeightOptions weights, weight_options(options));
    auto impl = std::make_shared<Impl>();
    impl->info = from->info;
    impl->load = options;
    KVASS_ASSIGN_OR_RETURN(impl->load.threads, resolve_threads(options.threads));
    const Math math = options.math.value_or(from->info.streams.arithmetic());
    impl->load.math = math;
    impl->info.streams.math = math;
    if (from->info.kind == ModelKind::speech) {
      if (options.device != Device::cpu) {
        return unsupported("LoadOptions.device", "cpu for a speech model", device_name(options.device));
      }
    }
    const auto begin = std::chrono::steady_clock::now();
    KVASS_ASSIGN_OR_RETURN(ModelFile file, take_file(*from));
    const int threads = impl->load.threads;
    KVASS_ASSIGN_OR_RETURN(impl->opened, from->info.kind == ModelKind::speech
                                             ? open_speech_model(std::move(file), math, threads, weights)
                                             : open_model(std::move(file), math, threads, weights));
    impl->load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    impl->tokenizer = impl->opened->tokenizer;
    return Model(std::move(impl));
  });
}

Model::Model() = default;
Model::Model(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Model::Model(const Model&) = default;
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(const Model&) = default;
Model& Model::operator=(Model&&) noexcept = default;
Model::~Model() = default;

bool Model::loaded() const { return impl_ && impl_->loaded(); }

const ModelInfo& Model::info() const {
  static const ModelInfo nothing;
  return impl_ ? impl_->info : nothing;
}

const LoadOptions& Model::options() const {
  static const LoadOptions nothing;
  return impl_ ? impl_->load : nothing;
}

size_t Model::weight_bytes() const { return loaded() ? impl_->opened->engine->weights().bytes() : 0; }

double Model::load_seconds() const { return impl_ ? impl_->load_seconds : 0.0; }

namespace {

Result<const Tokenizer*> tokenizer_of(const Model& model) {
  KVASS_ASSIGN_OR_RETURN(const std::shared_ptr<const Model::Impl> impl, impl_of(model));
  if (!impl->tokenizer) return unsupported(impl->info.path, "a text model for its tokenizer", "a speech model");
  return impl->tokenizer.get();
}

}  // namespace

Result<std::vector<int32_t>> Model::encode(std::string_view text, const EncodeTextOptions& options) const {
  return guarded([&]() -> Result<std::vector<int32_t>> {
    KVASS_ASSIGN_OR_RETURN(const Tokenizer* tokenizer, tokenizer_of(*this));
    if (options.bos) return tokenizer->encode(text, {.bos = *options.bos, .parse_special = options.parse_special});
    const TextPart part{text, options.parse_special};
    return tokenizer->encode_parts(std::span(&part, 1), tokenizer->add_bos(), /*continued=*/false);
  });
}

Result<std::string> Model::decode(std::span<const int32_t> ids) const {
  return guarded([&]() -> Result<std::string> {
    KVASS_ASSIGN_OR_RETURN(const Tokenizer* tokenizer, tokenizer_of(*this));
    for (const int32_t id : ids) {
      if (!tokenizer->is_token(id)) {
        return bad_input("token", "0 to " + std::to_string(tokenizer->size() - 1), std::to_string(id));
      }
    }
    return tokenizer->decode(ids);
  });
}

std::string_view Model::piece(int32_t token) const {
  return impl_ && impl_->tokenizer ? impl_->tokenizer->piece(token) : std::string_view();
}
bool Model::is_end(int32_t token) const {
  return impl_ && impl_->tokenizer && impl_->tokenizer->is_end_of_generation(token);
}
int32_t Model::bos() const { return impl_ && impl_->tokenizer ? impl_->tokenizer->bos() : -1; }
int32_t Model::eos() const { return impl_ && impl_->tokenizer ? impl_->tokenizer->eos() : -1; }

struct TextDecoder::Impl {
  std::shared_ptr<const Tokenizer> tokenizer;
  StreamDecoder decoder;
};

Result<TextDecoder> TextDecoder::create(const Model& model) {
  return guarded([&]() -> Result<TextDecoder> {
    KVASS_RETURN_IF_ERROR(tokenizer_of(model).status());
    const std::shared_ptr<const Tokenizer>& tokenizer = model.impl()->tokenizer;
    return TextDecoder(std::unique_ptr<Impl>(new Impl{tokenizer, StreamDecoder(*tokenizer)}));
  });
}

TextDecoder::TextDecoder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TextDecoder::TextDecoder(TextDecoder&&) noexcept = default;
TextDecoder& TextDecoder::operator=(TextDecoder&&) noexcept = default;
TextDecoder::~TextDecoder() = default;

Result<std::string> TextDecoder::push(int32_t token) {
  return guarded([&]() -> Result<std::string> {
    if (!impl_) return bad_input("text decoder", "one that was made", "none");
    if (!impl_->tokenizer->is_token(token)) {
      return bad_input("token", "0 to " + std::to_string(impl_->tokenizer->size() - 1), std::to_string(token));
    }
    return impl_->decoder.push(token);
  });
}

Result<std::string> TextDecoder::finish() {
  return guarded([&]() -> Result<std::string> {
    if (!impl_) return bad_input("text decoder", "one that was made", "none");
    return impl_->decoder.finish();
  });
}

const char* version() { return KVASS_VERSION; }

}  // namespace kvass
