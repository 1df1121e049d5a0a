#include "app/export.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>

#include "app/open.h"
#include "app/plan.h"
#include "app/speech_plan.h"
#include "app/text.h"
#include "base/new_file.h"
#include "kvass/version.h"
#include "session/cross_cache.h"
#include "session/session.h"

namespace kvass {
namespace {

// The shapes that the flags ask for: the model's own, or layers by window and pattern.
Result<std::vector<CacheShape>> wanted_shapes(const ExportOptions& options, std::vector<CacheShape> shapes) {
  if (!options.sliding_window && !options.sliding_window_pattern) return shapes;
  LayerPattern pattern;
  pattern.layers = static_cast<int64_t>(shapes.size());
  pattern.kv_heads = pattern.head_dim = 1;  // the model's stay
  pattern.sliding_window = options.sliding_window;
  pattern.sliding_window_pattern = options.sliding_window_pattern;
  KVASS_ASSIGN_OR_RETURN(const std::vector<CacheShape> layered, layered_shapes(pattern));
  for (size_t i = 0; i < shapes.size(); ++i) shapes[i].window = layered[i].window;
  return shapes;
}

std::string window_text(int64_t window) { return window == 0 ? "all tokens" : fmt::format("{} tokens", window); }

// "layers 0-4, 6": ascending numbers.
std::string layer_list(const std::vector<size_t>& layers) {
  std::string text = layers.size() == 1 ? "layer " : "layers ";
  for (size_t i = 0; i < layers.size();) {
    size_t end = i + 1;
    while (end < layers.size() && layers[end] == layers[end - 1] + 1) ++end;
    if (i > 0) text += ", ";
    text += end - i > 1 ? fmt::format("{}-{}", layers[i], layers[end - 1]) : fmt::format("{}", layers[i]);
    i = end;
  }
  return text;
}

}  // namespace

std::vector<std::string> window_warnings(const std::vector<CacheShape>& trained, const std::vector<CacheShape>& wanted,
                                         int64_t context) {
  struct Change {
    int64_t from, to;
    std::vector<size_t> layers;
  };
  std::vector<Change> changes;
  for (size_t i = 0; i < trained.size(); ++i) {
    const int64_t from = trained[i].window, to = wanted[i].window;
    // What a stream of `context` tokens can see.
    const auto seen = [&](int64_t window) { return window == 0 ? context : std::min(window, context); };
    if (seen(from) == seen(to)) continue;
    const auto known =
        std::find_if(changes.begin(), changes.end(), [&](const Change& c) { return c.from == from && c.to == to; });
    if (known == changes.end()) {
      changes.push_back({from, to, {i}});
    } else {
      known->layers.push_back(i);
    }
  }
  std::vector<std::string> warnings;
  for (const Change& change : changes) {
    const bool larger = change.from != 0 && (change.to == 0 || change.to > change.from);
    warnings.push_back(fmt::format("{}: trained to see {}, {} {}: {}", layer_list(change.layers),
                                   window_text(change.from), larger ? "will see more than that," : "will see",
                                   window_text(change.to), "the model's output changes"));
  }
  return warnings;
}

namespace {

// A model as it is, its caches by the flags, and how its weights come in.
struct Source {
  KvpModel model;
  Vocabulary vocabulary;
  SessionOptions session;
  std::function<Result<WeightStore>(const WeightOptions&, ThreadPool&)> load_weights;
};

Result<Source> text_source(const ExportOptions& options, const std::shared_ptr<ModelFile>& file) {
  Source source;
  KVASS_ASSIGN_OR_RETURN(source.vocabulary, file->vocabulary());
  KVASS_RETURN_IF_ERROR(Tokenizer::create(source.vocabulary).status());
  source.model.family = file->family();
  KVASS_ASSIGN_OR_RETURN(source.model.chat_template, file->chat_template());
  source.model.trained_context = file->trained_context();
  KVASS_ASSIGN_OR_RETURN(source.model.caches, resolve_caches(options.stream, file->trained_context()));
  KVASS_ASSIGN_OR_RETURN(source.session, session_options(options.stream, source.model.caches, /*head_rows=*/1));
  source.model.program = file->program();
  source.load_weights = [file](const WeightOptions& weights, ThreadPool& pool) {
    return file->load_weights(weights, pool);
  };
  return source;
}

// What a stream asks for when it is opened, and a file has no place for.
Status check_file_options(const StreamOptions& stream) {
  const auto refuse = [](const char* field, const std::string& got) {
    return bad_input(field, "nothing in an export; each stream says its own", got);
  };
  if (stream.memory_limit) return refuse("StreamOptions.memory_limit", std::to_string(*stream.memory_limit));
  if (stream.checkpoints != 0) return refuse("StreamOptions.checkpoints", std::to_string(stream.checkpoints));
  if (stream.logit_rows != 1) return refuse("StreamOptions.logit_rows", std::to_string(stream.logit_rows));
  return {};
}

// What a stream of text may ask for and a speech model has no place for: its decoder sees one window at a time, all of
// it.
Status check_speech_options(const ExportOptions& options, const SpeechShape& shape) {
  const auto refuse = [&](const char* field, const std::string& got) {
    return bad_input(field, "none for a speech model, whose decoder sees all of a window's text", got);
  };
  const StreamOptions& stream = options.stream;
  KVASS_RETURN_IF_ERROR(check_speech_stream(stream));
  if (options.sliding_window) return refuse("ExportOptions.sliding_window", std::to_string(*options.sliding_window));
  if (options.sliding_window_pattern) {
    return refuse("ExportOptions.sliding_window_pattern", std::to_string(*options.sliding_window_pattern));
  }
  for (const auto& [field, tokens] :
       {std::pair("StreamOptions.context", stream.context), std::pair("StreamOptions.chunk", stream.chunk)}) {
    if (!tokens || *tokens == shape.context) continue;
    return bad_input(field, fmt::format("{}, the positions of this speech model, or none", shape.context),
                     std::to_string(*tokens));
  }
  return {};
}

Result<Source> speech_source(const ExportOptions& options, const std::shared_ptr<ModelFile>& file) {
  const SpeechParts& speech = *file->speech();
  KVASS_RETURN_IF_ERROR(check_speech_options(options, speech.shape));
  KVASS_RETURN_IF_ERROR(SpeechTokenizer::create(speech.vocabulary).status());
  Source source;
  source.model.family = file->family();
  source.model.trained_context = speech.shape.context;
  source.model.speech = KvpSpeech{speech.alignment_heads};
  source.model.caches = speech_caches(speech.shape, options.stream.storage());
  source.vocabulary.pieces = speech.vocabulary.pieces;
  KVASS_ASSIGN_OR_RETURN(const int threads, resolve_threads(options.stream.threads));
  source.session = speech_session(speech.shape, kSpeechSequences, threads);
  source.model.program = file->program();
  source.load_weights = [file](const WeightOptions& weights, ThreadPool& pool) {
    return file->load_weights(weights, pool);
  };
  return source;
}

}  // namespace

Result<ExportSummary> export_program(ModelFile opened, const ExportOptions& options, const OnProgress& on_loaded,
                                     const OnProgress& on_written) {
  KVASS_RETURN_IF_ERROR(check_kvp_path(options.out));
  KVASS_RETURN_IF_ERROR(check_file_options(options.stream));
  KVASS_ASSIGN_OR_RETURN(const FileLock lock, FileLock::acquire(options.out));
  const auto file = std::make_shared<ModelFile>(std::move(opened));
  KVASS_ASSIGN_OR_RETURN(Source source, file->speech() ? speech_source(options, file) : text_source(options, file));
  KvpModel& model = source.model;
  const CacheOptions& caches = model.caches;
  const std::vector<CacheShape> trained = cache_shapes(model.program);
  KVASS_ASSIGN_OR_RETURN(const std::vector<CacheShape> shapes, wanted_shapes(options, trained));
  for (size_t i = 0; i < shapes.size(); ++i) model.program.states[i].window = shapes[i].window;
  KVASS_ASSIGN_OR_RETURN(const std::vector<int64_t> lens, kept_tokens(model.program, caches));
  KVASS_ASSIGN_OR_RETURN(const CachePlan plan, plan_caches(shapes, caches));
  KVASS_RETURN_IF_ERROR(verify_program(model.program));
  model.producer = "kvass " KVASS_VERSION;
  model.source = base_name(options.model);
  model.math = options.stream.arithmetic();
  source.session.decode_method = options.multifunction;
  KVASS_ASSIGN_OR_RETURN(model.methods, plan_methods(model.program, model.math, source.session));
  for (const MethodPlan& method : model.methods) KVASS_RETURN_IF_ERROR(check_method(model.program, method));
  WeightOptions weight_options;
  weight_options.on_loaded = on_loaded;
  if (!options.weights.empty()) {
    KVASS_ASSIGN_OR_RETURN(weight_options.type, parse_weight_type(options.weights));
  }
  ThreadPool pool(source.session.threads);
  KVASS_ASSIGN_OR_RETURN(const WeightStore weights, source.load_weights(weight_options, pool));

  ExportSummary summary;
  const int64_t stream = caches.sinks ? caches.sink_tokens + caches.sink_window : caches.context;
  summary.warnings = window_warnings(trained, shapes, stream);
  if (!lock.warning().empty()) summary.warnings.push_back(lock.warning());
  KVASS_ASSIGN_OR_RETURN(summary.file_bytes,
                         write_kvp(options.out, model, source.vocabulary, weights, lens, &lock, on_written));
  summary.weight_bytes = weights.bytes();
  summary.cache_bytes = plan.bytes;
  if (model.program.has_encoder()) {
    KVASS_ASSIGN_OR_RETURN(summary.cross_bytes, CrossCache::plan_bytes(model.program, caches.dtype));
  }
  summary.layers = shapes.size();
  for (const MethodPlan& method : model.methods) {
    summary.arena_bytes = std::max(summary.arena_bytes, method.arena.bytes);
    summary.methods.push_back(method.name);
  }
  return summary;
}

}  // namespace kvass
