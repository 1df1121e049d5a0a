// include/kvass/kvass.h: errors, models, tokens, plans.
#include "api/c_common.h"
#include "kvass/fields.h"
#include "kvass/plan.h"

namespace kvass::c_api {
namespace {

thread_local char g_message[1024] = "";

}  // namespace

kvass_code fail(kvass_code code, std::string_view message) {
  const size_t count = std::min(message.size(), sizeof g_message - 1);
  std::memcpy(g_message, message.data(), count);
  g_message[count] = '\0';
  return code;
}

const char* message() { return g_message; }
void clear_message() { g_message[0] = '\0'; }

kvass_code code_of(StatusCode code) {
  switch (code) {
    case StatusCode::ok:
      return KVASS_OK;
    case StatusCode::bad_input:
      return KVASS_BAD_INPUT;
    case StatusCode::busy:
      return KVASS_BUSY;
    case StatusCode::cache_full:
      return KVASS_CACHE_FULL;
    case StatusCode::out_of_memory:
      return KVASS_OUT_OF_MEMORY;
    case StatusCode::io:
      return KVASS_IO;
    case StatusCode::device:
      return KVASS_DEVICE;
    case StatusCode::cancelled:
      return KVASS_CANCELLED;
    case StatusCode::unsupported:
      return KVASS_UNSUPPORTED;
    case StatusCode::internal:
      break;
  }
  return KVASS_INTERNAL;
}

std::string with_fields_of_c(const std::string& message) {
  struct Row {
    std::string_view field, in_c;
  };
  static constexpr Row kOtherNames[] = {
      {"StreamOptions.context", "max_context_len"},
      {"StreamOptions.chunk", "input_len"},
      {"StreamOptions.attention_sink", "sink_tokens, sink_window"},
      {"LoadOptions.pages", "huge_pages"},
      {"LoadOptions.check", "check_weights"},
      {"ChatOptions.system", "system_text"},
      {"ChatOptions.endless", "bounded"},
      {"ChatOptions.stops", "stops, stop_count"},
      {"GenerateOptions.stops", "stops, stop_count"},
      {"TranscribeOptions.task", "translate"},
      {"TranscribeOptions.timestamps", "no_timestamps"},
      {"TranscribeOptions.condition_on_previous_text", "no_condition"},
      {"TranscribeOptions.suppress_blank", "allow_blank"},
      {"TranscribeOptions.search", "beam_size, best_of"},
  };
  return translate_fields(message, [](std::string_view field) {
    const std::string_view owner = field.substr(0, field.find('.'));
    if (!owner.ends_with("Options")) return std::string_view();  // a file, or a field of C already
    for (const Row& row : kOtherNames) {
      if (row.field == field) return row.in_c;
    }
    return field.substr(field.find('.') + 1);  // its name in C is the same
  });
}

namespace {

Result<std::optional<Math>> math_of(int32_t value) {
  return enum_of("math", value, {Math::f32, Math::a16, Math::a8}, "KVASS_MATH_…");
}

}  // namespace

Result<std::optional<DType>> kv_of(int32_t value) {
  return enum_of("kv", value, {DType::f32, DType::f16, DType::bf16, DType::q8}, "KVASS_KV_…");
}

Result<LoadOptions> load_options(const kvass_load_options& options) {
  LoadOptions load;
  KVASS_ASSIGN_OR_RETURN(load.math, math_of(options.math));
  load.threads = options.threads;
  load.check = options.check_weights != 0;
  if (options.huge_pages != 0) load.pages = Pages::huge;
  if (options.weights != nullptr) load.weights = options.weights;
  KVASS_ASSIGN_OR_RETURN(const std::optional<Device> device,
                         enum_of("device", options.device, {Device::cuda, Device::rocm}, "KVASS_DEVICE_…"));
  load.device = device.value_or(Device::cpu);
  return load;
}

StreamOptions loaded_streams(const kvass_load_options& options) {
  StreamOptions streams;
  if (options.max_context_len != 0) streams.context = options.max_context_len;
  if (options.input_len != 0) streams.chunk = options.input_len;
  streams.threads = options.threads;
  return streams;
}

Result<StreamOptions> stream_options(const kvass_stream_options* options, const StreamOptions& loaded) {
  KVASS_ASSIGN_OR_RETURN(const kvass_stream_options all, options_of(options, "kvass_stream_options"));
  StreamOptions streams;
  if (all.max_context_len != 0) streams.context = all.max_context_len;
  if (all.input_len != 0) streams.chunk = all.input_len;
  if (all.sink_window != 0 || all.sink_tokens != 0) {
    streams.attention_sink = AttentionSink{all.sink_tokens, all.sink_window};
  }
  streams.endless = all.endless != 0;
  if (all.endless_sink_tokens != 0) streams.endless_sink_tokens = all.endless_sink_tokens;
  KVASS_ASSIGN_OR_RETURN(
      streams.sink_positions,
      enum_of("sink_positions", all.sink_positions,
              {SinkPositions::in_cache, SinkPositions::original, SinkPositions::wrapped}, "KVASS_SINKS_…"));
  KVASS_ASSIGN_OR_RETURN(streams.kv, kv_of(all.kv));
  KVASS_ASSIGN_OR_RETURN(streams.math, math_of(all.math));
  streams.threads = all.threads != 0 ? all.threads : loaded.threads;
  streams.pin = all.pin != 0;
  streams.checkpoints = all.checkpoints;
  if (all.sequences != 0) streams.sequences = all.sequences;
  if (all.logit_rows != 0) streams.logit_rows = all.logit_rows;
  if (all.memory_limit != 0) streams.memory_limit = static_cast<size_t>(all.memory_limit);
  return streams.over(loaded);
}

Result<SampleOptions> sampling(const kvass_sampling* options) {
  KVASS_ASSIGN_OR_RETURN(const kvass_sampling all, options_of(options, "kvass_sampling"));
  SampleOptions result;
  result.temperature = all.temperature;
  result.top_k = all.top_k;
  if (all.top_p != 0.0f) result.top_p = all.top_p;
  result.min_p = all.min_p;
  if (all.repeat_penalty != 0.0f) result.repeat_penalty = all.repeat_penalty;
  if (all.repeat_last_n != 0) result.repeat_last_n = all.repeat_last_n;
  result.seed = all.seed;
  KVASS_ASSIGN_OR_RETURN(const auto biases, array_of(all.logit_bias, all.logit_bias_count, "logit_bias"));
  for (const kvass_logit_bias& bias : biases) result.logit_bias.push_back({bias.id, bias.bias});
  return result;
}

}  // namespace kvass::c_api

using namespace kvass;         // NOLINT: this file is the C API
using namespace kvass::c_api;  // NOLINT

extern "C" {

const char* kvass_version(void) { return version(); }

const char* kvass_message(void) { return message(); }

kvass_code kvass_load(const char* path, const kvass_load_options* options, kvass_model** model) {
  return call([&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(path, "path"));
    KVASS_RETURN_IF_ERROR(given(model, "model"));
    KVASS_ASSIGN_OR_RETURN(const kvass_load_options all, options_of(options, "kvass_load_options"));
    KVASS_ASSIGN_OR_RETURN(const LoadOptions load, load_options(all));
    KVASS_ASSIGN_OR_RETURN(const Model file, Model::open(path));
    auto made = std::make_unique<kvass_model>();
    made->streams = loaded_streams(all);
    // Options that no sequence can have are refused before anything is loaded.
    if (file.info().kind == ModelKind::text) {
      made->streams.math = load.math;
      KVASS_ASSIGN_OR_RETURN(const MemoryPlan plan, plan_memory(file, made->streams, load));
      made->chunk = plan.caches.chunk;
    } else if (all.max_context_len != 0 || all.input_len != 0) {
      return bad_input(all.max_context_len != 0 ? "max_context_len" : "input_len", "0 for a speech model",
                       std::to_string(all.max_context_len != 0 ? all.max_context_len : all.input_len));
    }
    KVASS_ASSIGN_OR_RETURN(made->model, file.load(load));
    made->streams.math = made->model.options().math;
    *model = made.release();
    return {};
  });
}

void kvass_free(kvass_model* model) { delete model; }

int64_t kvass_vocabulary(const kvass_model* model) { return model == nullptr ? 0 : model->model.info().vocabulary; }
int64_t kvass_input_len(const kvass_model* model) { return model == nullptr ? 0 : model->chunk; }
size_t kvass_weight_bytes(const kvass_model* model) { return model == nullptr ? 0 : model->model.weight_bytes(); }
const char* kvass_family(const kvass_model* model) {
  return model == nullptr ? "" : model->model.info().family.c_str();
}
const char* kvass_chat_template(const kvass_model* model) {
  return model == nullptr ? "" : model->model.info().chat_template.c_str();
}
int64_t kvass_trained_context(const kvass_model* model) {
  return model == nullptr ? 0 : model->model.info().trained_context;
}

kvass_code kvass_tokenize(const kvass_model* model, const char* text, size_t text_bytes, int32_t* tokens,
                          size_t capacity, size_t* count) {
  return call([&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(model, "model"));
    KVASS_RETURN_IF_ERROR(given(count, "count"));
    KVASS_ASSIGN_OR_RETURN(const auto bytes, array_of(text, text_bytes, "text"));
    KVASS_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                           model->model.encode(std::string_view(bytes.data(), bytes.size())));
    *count = ids.size();
    if (capacity == 0) return {};
    if (ids.size() > capacity) {
      return bad_input("capacity", "room for " + std::to_string(ids.size()) + " tokens", std::to_string(capacity));
    }
    if (!ids.empty()) KVASS_RETURN_IF_ERROR(given(tokens, "tokens"));
    std::copy(ids.begin(), ids.end(), tokens);
    return {};
  });
}

kvass_code kvass_piece(const kvass_model* model, int32_t token, const char** bytes, size_t* count) {
  return call([&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(model, "model"));
    KVASS_RETURN_IF_ERROR(given(bytes, "bytes"));
    KVASS_RETURN_IF_ERROR(given(count, "count"));
    const std::string_view piece = model->model.piece(token);
    *bytes = piece.data();
    *count = piece.size();
    return {};
  });
}

int kvass_is_end(const kvass_model* model, int32_t token) {
  return model != nullptr && model->model.is_end(token) ? 1 : 0;
}

kvass_code kvass_plan(const char* path, const kvass_load_options* load, const kvass_stream_options* stream,
                      kvass_memory_plan* plan, kvass_layer_plan* layers, size_t capacity) {
  return call([&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(path, "path"));
    KVASS_RETURN_IF_ERROR(given(plan, "plan"));
    KVASS_RETURN_IF_ERROR(check_size(*plan, "kvass_memory_plan"));
    if (layers != nullptr && capacity > 0) KVASS_RETURN_IF_ERROR(check_size(*layers, "kvass_layer_plan"));
    KVASS_ASSIGN_OR_RETURN(const kvass_load_options all, options_of(load, "kvass_load_options"));
    KVASS_ASSIGN_OR_RETURN(const LoadOptions loading, load_options(all));
    KVASS_ASSIGN_OR_RETURN(const StreamOptions streams, stream_options(stream, loaded_streams(all)));
    KVASS_ASSIGN_OR_RETURN(const Model file, Model::open(path));
    KVASS_ASSIGN_OR_RETURN(const MemoryPlan memory, plan_memory(file, streams, loading));
    const std::vector<LayerCache>& caches = memory.caches.layers;
    if (layers != nullptr && caches.size() > capacity) {
      return bad_input("capacity", "room for " + std::to_string(caches.size()) + " layers", std::to_string(capacity));
    }
    kvass_memory_plan figures{};
    figures.weight_bytes = memory.weight_bytes;
    figures.cache_bytes = memory.cache_bytes();
    figures.arena_bytes = memory.arena_bytes;
    figures.cross_bytes = memory.cross_bytes;
    figures.total_bytes = memory.total_bytes();
    figures.layers = static_cast<int64_t>(caches.size());
    figures.sequences = memory.sequences;
    give(figures, plan);
    if (layers == nullptr || caches.empty()) return {};
    const size_t size = layers->struct_size;
    for (size_t i = 0; i < caches.size(); ++i) {
      kvass_layer_plan layer{};
      layer.sink_tokens = caches[i].layout.sink();
      layer.window = caches[i].layout.window();
      layer.slots = caches[i].slots();
      layer.bytes = caches[i].bytes();
      layer.endless = caches[i].layout.endless() ? 1 : 0;
      auto* to = reinterpret_cast<kvass_layer_plan*>(reinterpret_cast<char*>(layers) + i * size);
      to->struct_size = size;
      give(layer, to);
    }
    return {};
  });
}

}  // extern "C"
