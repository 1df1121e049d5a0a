#include "app/plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "app/text.h"
#include "file/gguf.h"
#include "model/model.h"

namespace kvass {
namespace {

MemoryPlan plan_layers(const std::vector<CacheShape>& shapes, const CacheOptions& options, const CachePlan& caches) {
  MemoryPlan plan;
  int64_t sliding = 0;  // the widest window that a layer of the model has
  for (const CacheShape& shape : shapes) sliding = std::max(sliding, shape.window);
  for (size_t i = 0; i < shapes.size(); ++i) {
    const LayerCache& cache = caches.layers[i];
    const size_t token = 2 * static_cast<size_t>(shapes[i].kv_heads * shapes[i].head_dim) * dtype_bytes(options.dtype);
    LayerPlan layer;
    layer.kind = cache.layout.kind();
    layer.sink = cache.layout.sink();
    layer.cache_len =
        layer.kind == LayoutKind::full ? cache.layout.ring_slots() : cache.layout.sink() + cache.layout.window();
    layer.slots = cache.slots();
    layer.k_bytes = static_cast<size_t>(layer.cache_len) * token / 2;
    layer.full_bytes = static_cast<size_t>(options.context) * token;
    layer.sliding_bytes =
        static_cast<size_t>(sliding > 0 ? std::min(sliding, options.context) : options.context) * token;
    layer.allocated_bytes = cache.bytes();
    plan.cache_bytes += 2 * layer.k_bytes;
    plan.all_full_bytes += layer.full_bytes;
    plan.all_sliding_bytes += layer.sliding_bytes;
    plan.layers.push_back(layer);
  }
  plan.allocated_bytes = caches.bytes;
  return plan;
}

}  // namespace

Result<MemoryPlan> plan_memory(const std::string& path, const StreamOptions& options, int64_t head_rows) {
  KVASS_ASSIGN_OR_RETURN(const Gguf file, Gguf::open(path));
  KVASS_ASSIGN_OR_RETURN(const ModelProgram model, build_program(file));
  KVASS_ASSIGN_OR_RETURN(const CacheOptions caches, resolve_caches(options, model.trained_context));
  const std::vector<CacheShape> shapes = cache_shapes(model.program);
  KVASS_ASSIGN_OR_RETURN(const CachePlan cache_plan, plan_caches(shapes, caches));
  MemoryPlan plan = plan_layers(shapes, caches, cache_plan);
  KVASS_ASSIGN_OR_RETURN(plan.weight_bytes, plan_weights(file, model));
  KVASS_ASSIGN_OR_RETURN(const SessionOptions session, session_options(options, caches, head_rows));
  KVASS_ASSIGN_OR_RETURN(plan.arena_bytes, plan_session_bytes(model.program, options.math, session));
  return plan;
}

MemoryPlan plan_of(const OpenModel& model, const Stream& stream) {
  MemoryPlan plan = plan_layers(model.engine->cache_shapes(), stream.sequence->options(), stream.sequence->plan());
  plan.weight_bytes = model.engine->weights().bytes();
  plan.arena_bytes = stream.arena_bytes();
  return plan;
}

std::string plan_line(const MemoryPlan& plan) {
  std::vector<std::pair<std::string, int>> kinds;  // in the order in which they appear
  for (const LayerPlan& layer : plan.layers) {
    const std::string name = layer.kind == LayoutKind::sink_ring
                                 ? fmt::format("sink_ring {}+{}", layer.sink, layer.cache_len - layer.sink)
                                 : fmt::format("{} {}", layout_kind_name(layer.kind), layer.cache_len);
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
  return fmt::format("kvass: weights {}, caches {} ({}), arena {}, {} in all\n", human_bytes(plan.weight_bytes),
                     human_bytes(plan.allocated_bytes), layers, human_bytes(plan.arena_bytes),
                     human_bytes(plan.total_bytes()));
}

}  // namespace kvass
