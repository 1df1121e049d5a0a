#include "app/open.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "app/speech_file.h"
#include "ops/device_kernels.h"
#include "text/vocabulary.h"

namespace kvass {

Result<OpenModel> open_model(const std::string& path, Math math, int threads, const WeightOptions& weights) {
  const auto begin = std::chrono::steady_clock::now();
  KVASS_ASSIGN_OR_RETURN(ModelFile file, ModelFile::open(path));
  KVASS_ASSIGN_OR_RETURN(OpenModel model, open_model(std::move(file), math, threads, weights));
  model.load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return model;
}

Result<OpenModel> open_model(ModelFile file, Math math, int threads, const WeightOptions& options) {
  KVASS_ASSIGN_OR_RETURN(const Isa isa, default_isa());
  const DeviceKernels* device = nullptr;
  if (options.device != Device::cpu) {
    KVASS_ASSIGN_OR_RETURN(device, device_kernels(options.device));
  }
  KVASS_ASSIGN_OR_RETURN(Tokenizer tokenizer, file.tokenizer());
  if (tokenizer.size() > file.program().vocabulary()) {
    return bad_input(file.path() + ": token_embd.weight",
                     "a row for each of " + std::to_string(tokenizer.size()) + " tokens",
                     std::to_string(file.program().vocabulary()));
  }
  OpenModel model;
  model.path = file.path();
  model.family = file.family();
  model.tokenizer = std::make_shared<const Tokenizer>(std::move(tokenizer));
  KVASS_ASSIGN_OR_RETURN(model.chat_template, file.chat_template());
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

Result<StreamOptions> stream_defaults(const std::string& path) {
  if (is_speech_source(path)) {
    StreamOptions options;
    options.kv = DType::f32;
    options.math = Math::f32;
    return options;
  }
  if (!is_kvp(path)) return StreamOptions();
  KVASS_ASSIGN_OR_RETURN(const KvpFile file, KvpFile::open(path));
  StreamOptions options = options_of(file.model().caches, file.model().math, {});
  if (file.model().speech) options.sequences = kSpeechSequences;
  return options;
}

Result<Tokenizer> open_tokenizer(const std::string& path) {
  if (is_kvp(path)) {
    KVASS_ASSIGN_OR_RETURN(const KvpFile file, KvpFile::open(path));
    KVASS_ASSIGN_OR_RETURN(const VocabularyView vocabulary, file.vocabulary());
    return Tokenizer::create(vocabulary);
  }
  KVASS_ASSIGN_OR_RETURN(const Gguf file, Gguf::open(path));
  KVASS_ASSIGN_OR_RETURN(const Vocabulary vocabulary, read_vocabulary(file));
  return Tokenizer::create(vocabulary);
}

Result<SessionOptions> session_options(const StreamOptions& options, const CacheOptions& caches, int64_t head_rows) {
  constexpr int64_t kMostSequences = 4096;
  if (options.sequences < 1 || options.sequences > kMostSequences) {
    return bad_input("--sequences", "1 to " + std::to_string(kMostSequences), std::to_string(options.sequences));
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

size_t peak_rss_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<size_t>(usage.ru_maxrss) * 1024;
}

}  // namespace kvass
