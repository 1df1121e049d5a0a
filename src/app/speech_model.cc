#include "app/speech_model.h"

#include <chrono>
#include <utility>

#include "app/speech_file.h"

namespace kvass {

Result<SpeechModel> open_speech_model(const std::string& path, const SpeechModelOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  KVASS_ASSIGN_OR_RETURN(const Isa isa, default_isa());
  KVASS_ASSIGN_OR_RETURN(SpeechFile file, SpeechFile::open(path));
  KVASS_ASSIGN_OR_RETURN(SpeechTokenizer tokenizer, SpeechTokenizer::create(file.take_vocabulary()));
  ThreadPool pool(options.threads);
  KVASS_ASSIGN_OR_RETURN(WeightStore weights, file.load_weights(options.weights, pool));
  SpeechModel model;
  model.path = path;
  model.format = file.format();
  model.shape = file.shape();
  model.alignment_heads = file.alignment_heads();
  model.kv = file.kv();
  model.methods = file.methods();
  KVASS_ASSIGN_OR_RETURN(
      model.engine, Engine::create(file.take_program(), std::move(weights), {options.math.value_or(file.math()), isa}));
  model.tokenizer = std::make_shared<const SpeechTokenizer>(std::move(tokenizer));
  model.load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return model;
}

}  // namespace kvass
