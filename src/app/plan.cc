#include "app/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "app/speech_plan.h"
#include "app/text.h"
#include "session/cross_cache.h"

namespace kvass {
namespace {

// The largest `value` in [1, most] for which `fits` holds; 0: none. `fits` turns false once and stays so.
template <class Fits>
int64_t largest_that_fits(int64_t most, Fits&& fits) {
  int64_t fitting = 0;
  while (fitting < most) {
    const int64_t middle = fitting + (most - fitting + 1) / 2;
    if (fits(middle)) {
      fitting = middle;
    } else {
      most = middle - 1;
    }
  }
  return fitting;
}

// `options` with another context, or with sinks with another window, and how a person asks for it.
StreamOptions resized(StreamOptions options, const CacheOptions& caches, int64_t tokens) {
  if (caches.sinks) {
    options.attention_sink = AttentionSink{caches.sink_tokens, tokens};
    options.endless_sink_tokens.reset();
    options.context.reset();
  } else {
    options.context = tokens;
  }
  return options;
}

std::string resized_text(const CacheOptions& caches, int64_t tokens) {
  return caches.sinks
             ? fmt::format("window that fits is StreamOptions.attention_sink {},{}", caches.sink_tokens, tokens)
             : fmt::format("context that fits is StreamOptions.context {}", tokens);
}

std::string bytes_text(const MemoryPlan& plan) {
  return fmt::format("{} bytes (weights {}, caches {}, arena {})", plan.total_bytes(), human_bytes(plan.weight_bytes),
                     human_bytes(plan.cache_bytes()), human_bytes(plan.arena_bytes));
}

}  // namespace

Result<PlannedModel> PlannedModel::of(const ModelFile& file, const WeightOptions& weights) {
  PlannedModel planned;
  KVASS_ASSIGN_OR_RETURN(planned.weight_bytes_, file.weight_bytes(weights));
  planned.device_ = weights.device;
  planned.shapes_ = cache_shapes(file.program());
  planned.trained_context_ = file.trained_context();
  planned.decode_method_ = file.methods().size() > 1;
  if (file.speech()) planned.speech_ = file.speech()->shape;
  planned.program_ = file.program();
  return planned;
}

Result<PlannedModel> PlannedModel::of(Program program, size_t weight_bytes, int64_t trained_context, bool decode_method,
                                      Device device) {
  PlannedModel planned;
  planned.weight_bytes_ = weight_bytes;
  planned.device_ = device;
  planned.shapes_ = cache_shapes(program);
  planned.trained_context_ = trained_context;
  planned.decode_method_ = decode_method;
  if (program.has_encoder()) {
    KVASS_ASSIGN_OR_RETURN(planned.speech_, speech_shape(program));
  }
  planned.program_ = std::move(program);
  return planned;
}

Result<PlannedModel> PlannedModel::of(const LayerPattern& pattern) {
  PlannedModel planned;
  KVASS_ASSIGN_OR_RETURN(planned.shapes_, layered_shapes(pattern));
  planned.trained_context_ = StreamOptions::kDefaultContext;
  return planned;
}

Result<SessionOptions> PlannedModel::session(const StreamOptions& options, const CacheOptions& caches,
                                             int64_t head_rows) const {
  KVASS_ASSIGN_OR_RETURN(SessionOptions session, session_options(options, caches, head_rows));
  if (speech_) session = speech_session(*speech_, session.sequences, session.threads);
  session.decode_method = decode_method_;
  return session;
}

Result<ArenaFigures> PlannedModel::arena(const StreamOptions& options, int64_t head_rows) const {
  if (!program_) return bad_input("arena", "a program", "bare layers");
  KVASS_ASSIGN_OR_RETURN(const CacheOptions caches, resolve_caches(options, trained_context_));
  KVASS_ASSIGN_OR_RETURN(const SessionOptions session, this->session(options, caches, head_rows));
  KVASS_ASSIGN_OR_RETURN(const std::vector<MethodPlan> methods, plan_methods(*program_, options.arithmetic(), session));
  const ArenaPlan& arena = methods.front().arena;
  return ArenaFigures{arena.bytes, arena.sum_bytes, arena.bound_bytes};
}

Status check_speech_stream(const StreamOptions& stream) {
  const auto refuse = [&](const char* field, const std::string& got) {
    return bad_input(field, "none for a speech model, whose decoder sees all of a window's text", got);
  };
  if (stream.attention_sink) {
    return refuse("StreamOptions.attention_sink",
                  fmt::format("{},{}", stream.attention_sink->sink_tokens, stream.attention_sink->window));
  }
  if (stream.endless) return refuse("StreamOptions.endless", "true");
  if (stream.positions() != SinkPositions::in_cache) {
    return refuse("StreamOptions.sink_positions", std::string(sink_positions_name(stream.positions())));
  }
  return {};
}

Result<MemoryPlan> PlannedModel::plan(const StreamOptions& options, int64_t head_rows) const {
  if (speech_) KVASS_RETURN_IF_ERROR(check_speech_stream(options));
  KVASS_ASSIGN_OR_RETURN(const CacheOptions caches, resolve_caches(options, trained_context_));
  MemoryPlan plan;
  KVASS_ASSIGN_OR_RETURN(plan.caches, plan_caches(shapes_, caches));
  KVASS_ASSIGN_OR_RETURN(const SessionOptions session, this->session(options, caches, head_rows));
  plan.sequences = session.sequences;
  if (!program_) return plan;
  plan.weight_bytes = weight_bytes_;
  if (program_->has_encoder()) {
    KVASS_ASSIGN_OR_RETURN(plan.cross_bytes, CrossCache::plan_bytes(*program_, caches.dtype));
  }
  KVASS_ASSIGN_OR_RETURN(plan.arena_bytes, plan_session_bytes(*program_, options.arithmetic(), session, device_));
  return plan;
}

Result<CacheTotals> PlannedModel::totals(const StreamOptions& options) const {
  KVASS_ASSIGN_OR_RETURN(const CacheOptions caches, resolve_caches(options, trained_context_));
  CacheTotals totals;
  KVASS_ASSIGN_OR_RETURN(totals.cache_lens, program_ ? kept_tokens(*program_, caches) : cache_lens(shapes_, caches));
  int64_t window = 0;  // the widest that a layer has
  for (const CacheShape& shape : shapes_) window = std::max(window, shape.window);
  const int64_t context = caches.sinks ? caches.sink_tokens + caches.sink_window
                          : speech_    ? caches.context
                                       : caches.context - caches.chunk;
  size_t all_sliding = 0;
  for (size_t i = 0; i < shapes_.size(); ++i) {
    const size_t token = static_cast<size_t>(shapes_[i].kv_heads) * head_row_bytes(caches.dtype, shapes_[i].head_dim);
    totals.k_bytes.push_back(static_cast<size_t>(totals.cache_lens[i]) * token);
    totals.cache_bytes += 2 * totals.k_bytes.back();
    totals.all_full_bytes += 2 * static_cast<size_t>(context) * token;
    all_sliding += 2 * static_cast<size_t>(std::min(window, context)) * token;
  }
  if (window > 0) totals.all_sliding_bytes = all_sliding;
  return totals;
}

Status PlannedModel::check_limit(const StreamOptions& options, int64_t head_rows) const {
  if (!options.memory_limit) return {};
  const size_t limit = *options.memory_limit;
  KVASS_ASSIGN_OR_RETURN(const MemoryPlan plan, this->plan(options, head_rows));
  if (plan.total_bytes() <= limit) return {};
  const Status refused =
      bad_input("StreamOptions.memory_limit", fmt::format("at most {} bytes", limit), "a plan of " + bytes_text(plan));
  if (speech_) return refused;  // nothing of it can be chosen smaller
  KVASS_ASSIGN_OR_RETURN(const CacheOptions caches, resolve_caches(options, trained_context_));
  KVASS_ASSIGN_OR_RETURN(const int64_t most, largest_context(options, head_rows, limit));
  if (most > 0) return refused.with_message(refused.message() + "; the largest " + resized_text(caches, most));
  const Result<MemoryPlan> least = this->plan(resized(options, caches, 1), head_rows);
  return refused.with_message(refused.message() + "; no " + (caches.sinks ? "window" : "context") + " fits" +
                              (least.ok() ? ", one of 1 token takes " + bytes_text(least.value()) : "") +
                              "; a smaller StreamOptions.chunk takes less");
}

Result<int64_t> PlannedModel::largest_context(const StreamOptions& options, int64_t head_rows, size_t bytes) const {
  KVASS_ASSIGN_OR_RETURN(const CacheOptions caches, resolve_caches(options, trained_context_));
  const auto fits = [&](int64_t tokens) {
    const Result<MemoryPlan> smaller = this->plan(resized(options, caches, tokens), head_rows);
    return smaller.ok() && smaller->total_bytes() <= bytes;
  };
  return largest_that_fits(caches.sinks ? caches.sink_window : caches.context, fits);
}

Status check_memory_limit(const ModelFile& file, const StreamOptions& options, int64_t head_rows,
                          const WeightOptions& weights) {
  if (!options.memory_limit) return {};
  KVASS_ASSIGN_OR_RETURN(const PlannedModel model, PlannedModel::of(file, weights));
  return model.check_limit(options, head_rows);
}

MemoryPlan plan_of(const OpenModel& model, const OpenStream& stream) {
  return {stream.sequence->plan(), 1, model.engine->weights().bytes(), stream.arena_bytes()};
}

std::string layout_text(const Layout& layout) {
  return fmt::format("{} {}", layout_kind_name(layout.kind()), layout.summary());
}

std::string plan_line(const MemoryPlan& plan) {
  std::vector<std::pair<std::string, int>> kinds;  // in the order in which they appear
  for (const LayerCache& layer : plan.caches.layers) {
    const std::string name = layout_text(layer.layout);
    const auto known = std::find_if(kinds.begin(), kinds.end(), [&](const auto& kind) { return kind.first == name; });
    if (known == kinds.end()) {
      kinds.emplace_back(name, 1);
    } else {
      ++known->second;
    }
  }
  std::string layers;
  for (const auto& [name, count] : kinds)
    layers += fmt::format("{}{} layers {}", layers.empty() ? "" : ", ", count, name);
  if (plan.sequences > 1) layers = fmt::format("{} sequences of {}", plan.sequences, layers);
  return fmt::format("kvass: weights {}, caches {} ({}), arena {}{}, {} in all\n", human_bytes(plan.weight_bytes),
                     human_bytes(plan.cache_bytes()), layers, human_bytes(plan.arena_bytes),
                     plan.cross_bytes > 0 ? ", cross caches " + human_bytes(plan.cross_bytes) : "",
                     human_bytes(plan.total_bytes()));
}

}  // namespace kvass
