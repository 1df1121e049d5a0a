#include "app/export.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "app/open.h"
#include "base/new_file.h"
#include "kvass/version.h"
#include "session/session.h"

namespace kvass {
namespace {

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

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

Result<ExportSummary> export_program(const ExportOptions& options) {
  KVASS_RETURN_IF_ERROR(check_new_file(options.out));
  KVASS_ASSIGN_OR_RETURN(ModelFile file, ModelFile::open(options.model));
  KVASS_ASSIGN_OR_RETURN(const CacheOptions caches, resolve_caches(options.stream, file.trained_context()));
  const std::vector<CacheShape> trained = cache_shapes(file.program());
  KVASS_ASSIGN_OR_RETURN(const std::vector<CacheShape> shapes, wanted_shapes(options, trained));
  KVASS_ASSIGN_OR_RETURN(const std::vector<int64_t> lens, cache_lens(shapes, caches));
  KVASS_ASSIGN_OR_RETURN(const CachePlan plan, plan_caches(shapes, caches));
  KVASS_ASSIGN_OR_RETURN(const Vocabulary vocabulary, file.vocabulary());
  if (static_cast<int64_t>(vocabulary.pieces.size()) > file.program().vocabulary()) {
    return bad_input(options.model + ": token_embd.weight",
                     fmt::format("a row for each of {} tokens", vocabulary.pieces.size()),
                     fmt::format("{}", file.program().vocabulary()));
  }
  KVASS_RETURN_IF_ERROR(Tokenizer::create(vocabulary).status());

  KvpModel model;
  model.producer = "kvass " KVASS_VERSION;
  model.family = file.family();
  model.source = base_name(options.model);
  KVASS_ASSIGN_OR_RETURN(model.chat_template, file.chat_template());
  model.trained_context = file.trained_context();
  model.math = options.stream.math;
  model.caches = caches;
  WeightOptions weight_options;
  weight_options.type = options.weights;
  KVASS_ASSIGN_OR_RETURN(const int threads, resolve_threads(options.stream.threads));
  ThreadPool pool(threads);
  KVASS_ASSIGN_OR_RETURN(const WeightStore weights, file.load_weights(weight_options, pool));
  model.program = file.take_program();
  for (size_t i = 0; i < shapes.size(); ++i) model.program.states[i].window = shapes[i].window;
  KVASS_RETURN_IF_ERROR(verify_program(model.program));
  KVASS_ASSIGN_OR_RETURN(SessionOptions session, session_options(options.stream, caches, /*head_rows=*/1));
  session.decode_method = options.multifunction;
  KVASS_ASSIGN_OR_RETURN(model.methods, plan_methods(model.program, model.math, session));
  for (const MethodPlan& method : model.methods) KVASS_RETURN_IF_ERROR(check_method(model.program, method));

  ExportSummary summary;
  const int64_t stream = caches.sinks ? caches.sink_tokens + caches.sink_window : caches.context;
  summary.warnings = window_warnings(trained, shapes, stream);
  KVASS_ASSIGN_OR_RETURN(summary.file_bytes, write_kvp(options.out, model, vocabulary, weights, lens));
  summary.weight_bytes = weights.bytes();
  summary.cache_bytes = plan.bytes;
  summary.layers = shapes.size();
  for (const MethodPlan& method : model.methods) {
    summary.arena_bytes = std::max(summary.arena_bytes, method.arena.bytes);
    summary.methods.push_back(method.name);
  }
  return summary;
}

}  // namespace kvass
