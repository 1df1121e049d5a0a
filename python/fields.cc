#include "fields.h"

namespace kvass::python {
namespace {

struct FieldKeyword {
  std::string_view field;    // Struct.field
  std::string_view keyword;  // or, of what Python has no keyword for, plain words
};

constexpr FieldKeyword kFieldKeywords[] = {
    // Engine.sequence(), kvass.caches.plan()
    {"StreamOptions.context", "context"},
    {"StreamOptions.attention_sink", "attention_sink"},
    {"StreamOptions.endless", "endless"},
    {"StreamOptions.endless_sink_tokens", "sinks of endless"},
    {"StreamOptions.sink_positions", "sink_positions"},
    {"StreamOptions.rotary_offset", "rotary offset"},
    {"StreamOptions.chunk", "chunk"},
    {"StreamOptions.kv", "kv"},
    {"StreamOptions.math", "math"},
    {"StreamOptions.threads", "threads"},
    {"StreamOptions.sequences", "sequences"},
    {"StreamOptions.memory_limit", "memory_limit"},
    {"StreamOptions.checkpoints", "checkpoints"},
    {"StreamOptions.logit_rows", "rows of logits"},
    {"CacheOptions.context", "context"},
    {"CacheOptions.chunk", "chunk"},
    {"CacheOptions.sinks", "attention_sink=(sinks, window) or endless=True"},
    {"CacheOptions.sink_tokens", "sinks of attention_sink"},
    {"CacheOptions.sink_window", "window of attention_sink"},
    {"CacheOptions.sink_positions", "sink_positions"},
    {"CacheOptions.dtype", "kv"},
    {"CacheOptions.rotary_offset", "rotary offset"},
    {"CacheOptions.checkpoints", "checkpoints"},
    {"SessionOptions.threads", "threads"},
    {"SessionOptions.sequences", "sequences"},
    // kvass.caches.layered_shapes()
    {"LayerPattern.layers", "layers"},
    {"LayerPattern.kv_heads", "kv_heads"},
    {"LayerPattern.head_dim", "head_dim"},
    {"LayerPattern.sliding_window", "sliding_window"},
    {"LayerPattern.sliding_window_pattern", "sliding_window_pattern"},
    {"CacheShape.kv_heads", "kv_heads"},
    {"CacheShape.head_dim", "head_dim"},
    {"CacheShape.window", "window"},
    // Engine(), Transcriber()
    {"WeightOptions.type", "weights"},
    {"WeightOptions.pages", "huge_pages"},
    {"WeightOptions.check", "check_weights"},
    {"WeightOptions.device", "device"},
    {"LoadOptions.weights", "weights"},
    {"LoadOptions.pages", "huge_pages"},
    {"LoadOptions.check", "check_weights"},
    {"LoadOptions.device", "device"},
    {"LoadOptions.math", "math"},
    {"LoadOptions.threads", "threads"},
    // Sequence.generate()
    {"SampleOptions.temperature", "temperature"},
    {"SampleOptions.top_k", "top_k"},
    {"SampleOptions.top_p", "top_p"},
    {"SampleOptions.min_p", "min_p"},
    {"SampleOptions.repeat_penalty", "repeat_penalty"},
    {"SampleOptions.repeat_last_n", "repeat_last_n"},
    {"SampleOptions.logit_bias", "logit_bias"},
    {"GenerateOptions.max_tokens", "max_tokens"},
    {"GenerateOptions.save_every", "save_every"},
    {"GenerateOptions.save_path", "save_path"},
    {"GenerateOptions.hold_text", "hold_text"},
    {"GenerateOptions.on_progress", "progress through a prompt"},
    {"GenerateOptions.stops", "stop"},
    {"ChatOptions.max_tokens", "max_tokens"},
    {"ChatOptions.chat_template", "template"},
    {"ChatOptions.system", "system"},
    {"ChatOptions.tools", "tools"},
    {"ChatOptions.variables", "variables"},
    {"ChatOptions.stops", "stop"},
    {"ChatOptions.now", "now"},
    {"ChatOptions.endless", "endless"},
    {"PromptRequest.model", "model"},
    {"PromptRequest.template_text", "template"},
    {"ScoreOptions.top", "top"},
    // Transcriber.transcribe()
    {"TranscribeOptions.language", "language"},
    {"TranscribeOptions.task", "task"},
    {"TranscribeOptions.temperatures", "temperature"},
    {"TranscribeOptions.initial_prompt", "initial_prompt"},
    {"TranscribeOptions.timestamps", "timestamps"},
    {"TranscribeOptions.condition_on_previous_text", "condition_on_previous_text"},
    {"TranscribeOptions.suppress_blank", "suppressed blanks"},
    {"TranscribeOptions.max_initial_timestamp", "latest start of a window's text"},
    {"TranscribeOptions.suppressed", "suppressed tokens"},
    {"TranscribeOptions.search", "beam_size and best_of"},
    {"TranscriberOptions.sequences", "beam_size and best_of"},
    {"TranscriberOptions.kv", "kv"},
    {"TranscriberOptions.threads", "threads"},
    {"TranscriberOptions.memory_limit", "memory_limit"},
    {"SearchOptions.beam_size", "beam_size"},
    {"SearchOptions.patience", "patience"},
    {"SearchOptions.length_penalty", "length penalty"},
    {"SearchOptions.best_of", "best_of"},
    {"SearchOptions.temperature", "temperature"},
    // Not in Python.
    {"PromptRequest.template_text", "template"},
    {"ExportOptions.weights", "weights"},
    {"ExportOptions.sliding_window", "sliding_window"},
    {"ExportOptions.sliding_window_pattern", "sliding_window_pattern"},
    {"BenchOptions.prefill", "lengths of prompts"},
    {"BenchOptions.decode", "tokens to generate"},
    {"BenchOptions.greedy", "tokens to generate greedily"},
    {"BenchOptions.depths", "tokens in the cache"},
    {"BenchOptions.batches", "sequences"},
    {"BenchOptions.repetitions", "repetitions"},
};

}  // namespace

std::string_view keyword_of(std::string_view field) {
  for (const FieldKeyword& row : kFieldKeywords) {
    if (row.field == field) return row.keyword;
  }
  return {};
}

}  // namespace kvass::python
