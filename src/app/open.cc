#include "app/open.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "file/gguf.h"
#include "model/model.h"
#include "text/vocabulary.h"

namespace kvass {

Result<OpenModel> open_model(const std::string& path, Math math, int threads) {
  const auto begin = std::chrono::steady_clock::now();
  KVASS_ASSIGN_OR_RETURN(const Isa isa, default_isa());
  KVASS_ASSIGN_OR_RETURN(const Gguf file, Gguf::open(path));
  KVASS_ASSIGN_OR_RETURN(const Vocabulary vocabulary, read_vocabulary(file));
  KVASS_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::create(vocabulary));
  KVASS_ASSIGN_OR_RETURN(ModelProgram model_program, build_program(file));
  if (tokenizer.size() > model_program.program.vocabulary()) {
    return bad_input(path + ": token_embd.weight", "a row for each of " + std::to_string(tokenizer.size()) + " tokens",
                     std::to_string(model_program.program.vocabulary()));
  }
  KVASS_ASSIGN_OR_RETURN(const std::string_view chat_template, file.get_string_or("tokenizer.chat_template", ""));
  ThreadPool pool(threads);
  KVASS_ASSIGN_OR_RETURN(WeightStore weights, load_weights(file, model_program, pool));
  OpenModel model;
  KVASS_ASSIGN_OR_RETURN(model.engine,
                         Engine::create(std::move(model_program.program), std::move(weights), {math, isa}));
  model.path = path;
  model.family = model_program.family;
  model.tokenizer = std::make_shared<const Tokenizer>(std::move(tokenizer));
  model.chat_template = chat_template;
  model.trained_context = model_program.trained_context;
  model.load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return model;
}

Result<Tokenizer> open_tokenizer(const std::string& path) {
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
  KVASS_ASSIGN_OR_RETURN(session.threads, resolve_threads(options.threads));
  return session;
}

Result<Stream> open_stream(const OpenModel& model, const StreamOptions& options, int64_t head_rows) {
  KVASS_ASSIGN_OR_RETURN(const CacheOptions caches, resolve_caches(options, model.trained_context));
  Stream stream;
  KVASS_ASSIGN_OR_RETURN(stream.sequence, Sequence::create(model.engine, caches));
  KVASS_ASSIGN_OR_RETURN(const SessionOptions session, session_options(options, caches, head_rows));
  KVASS_ASSIGN_OR_RETURN(stream.session, Session::create(model.engine, session));
  return stream;
}

size_t peak_rss_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<size_t>(usage.ru_maxrss) * 1024;
}

}  // namespace kvass
