#include "app/open.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/platform.h"
#include "ops/device_kernels.h"

namespace kvass {

namespace {

// What both kinds have; `tokenizer` and `speech` are the caller's.
Result<OpenModel> load(ModelFile file, Math math, int threads, const WeightOptions& options) {
  KVASS_ASSIGN_OR_RETURN(const Isa isa, default_isa());
  const DeviceKernels* device = nullptr;
  if (options.device != Device::cpu) {
    const Result<const DeviceKernels*> there = device_kernels(options.device);
    if (!there.ok()) return there.status().with_message("WeightOptions." + there.status().message());
    device = there.value();
  }
  OpenModel model;
  model.path = file.path();
  model.format = file.format();
  model.family = file.family();
  model.defaults = file.stream_options();
  model.trained_context = file.trained_context();
  model.methods = file.methods();
  ThreadPool pool(threads);
  KVASS_ASSIGN_OR_RETURN(WeightStore weights, file.load_weights(options, pool));
  KVASS_ASSIGN_OR_RETURN(model.engine, Engine::create(file.take_program(), std::move(weights), {math, isa}));
  if (device) {
    KVASS_ASSIGN_OR_RETURN(model.engine, model.engine->on_device(*device));
  }
  return model;
}

}  // namespace

Result<OpenModel> open_model(ModelFile file, Math math, int threads, const WeightOptions& options) {
  KVASS_ASSIGN_OR_RETURN(Tokenizer tokenizer, file.tokenizer());
  KVASS_ASSIGN_OR_RETURN(std::string chat_template, file.chat_template());
  KVASS_ASSIGN_OR_RETURN(OpenModel model, load(std::move(file), math, threads, options));
  model.tokenizer = std::make_shared<const Tokenizer>(std::move(tokenizer));
  model.chat_template = std::move(chat_template);
  return model;
}

Result<OpenModel> open_speech_model(ModelFile file, Math math, int threads, const WeightOptions& options) {
  if (file.speech() == nullptr) return bad_input(file.path(), "a speech model", "one that writes text");
  const SpeechParts& parts = *file.speech();
  OpenSpeech speech{parts.shape, nullptr, parts.alignment_heads};
  KVASS_ASSIGN_OR_RETURN(SpeechTokenizer tokenizer, SpeechTokenizer::create(parts.vocabulary));
  speech.tokenizer = std::make_shared<const SpeechTokenizer>(std::move(tokenizer));
  KVASS_ASSIGN_OR_RETURN(OpenModel model, load(std::move(file), math, threads, options));
  model.speech = std::move(speech);
  return model;
}

Result<OpenModel> open_model(const std::string& path, Math math, int threads, const WeightOptions& weights) {
  KVASS_ASSIGN_OR_RETURN(ModelFile file, ModelFile::open(path));
  return open_model(std::move(file), math, threads, weights);
}

Result<SessionOptions> session_options(const StreamOptions& options, const CacheOptions& caches, int64_t head_rows) {
  constexpr int64_t kMostSequences = 4096;
  if (options.sequences < 1 || options.sequences > kMostSequences) {
    return bad_input("StreamOptions.sequences", "1 to " + std::to_string(kMostSequences),
                     std::to_string(options.sequences));
  }
  constexpr int64_t kMostLogitRows = 4096;
  if (options.logit_rows < 1 || options.logit_rows > kMostLogitRows) {
    return bad_input("StreamOptions.logit_rows", "1 to " + std::to_string(kMostLogitRows),
                     std::to_string(options.logit_rows));
  }
  SessionOptions session;
  session.rows = caches.chunk + options.sequences - 1;
  session.head_rows = std::max(head_rows, options.sequences);
  session.sequences = options.sequences;
  session.keys = std::max(caches.context, caches.sink_tokens + caches.sink_window) + caches.chunk;
  KVASS_ASSIGN_OR_RETURN(session.threads, resolve_threads(options.threads));
  session.pin = options.pin;
  return session;
}

Result<OpenStream> open_stream(const OpenModel& model, const StreamOptions& options, int64_t head_rows) {
  KVASS_ASSIGN_OR_RETURN(const CacheOptions caches, resolve_caches(options, model.trained_context));
  OpenStream stream;
  KVASS_ASSIGN_OR_RETURN(stream.sequence, Sequence::create(model.engine, caches));
  KVASS_ASSIGN_OR_RETURN(SessionOptions session, session_options(options, caches, head_rows));
  session.decode_method = model.methods.size() > 1;
  KVASS_ASSIGN_OR_RETURN(stream.session, Session::create(model.engine, session, model.methods));
  return stream;
}

size_t peak_rss_bytes() { return platform::peak_rss_bytes(); }

}  // namespace kvass
