#include "app/stream_options.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/check_enum.h"
#include "base/cpu.h"

namespace kvass {
namespace {

constexpr int64_t kDefaultChunk = 256;
constexpr int64_t kEndlessSinkTokens = 4;         // of an endless stream that does not say
constexpr int64_t kMaxTokens = int64_t{1} << 40;  // as the layouts have it
constexpr int kMaxThreads = 1024;

std::optional<int64_t> parse_integer(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Status sink_error(std::string_view got) {
  return bad_input("StreamOptions.attention_sink",
                   "S,W (two numbers: sink tokens S >= 0 and window W >= 1, as in 4,508)",
                   "'" + std::string(got) + "'");
}

}  // namespace

Result<AttentionSink> parse_attention_sink(std::string_view text) {
  const size_t comma = text.find(',');
  if (comma == std::string_view::npos) return sink_error(text);
  const std::optional<int64_t> sink = parse_integer(text.substr(0, comma));
  const std::optional<int64_t> window = parse_integer(text.substr(comma + 1));  // a third field is not a number
  if (!sink || !window || *sink < 0 || *window < 1 || std::max(*sink, *window) > kMaxTokens) return sink_error(text);
  return AttentionSink{*sink, *window};
}

Result<SinkPositions> parse_sink_positions(std::string_view text) {
  for (SinkPositions mode : {SinkPositions::in_cache, SinkPositions::original, SinkPositions::wrapped}) {
    if (text == sink_positions_name(mode)) return mode;
  }
  return bad_input("StreamOptions.sink_positions", "in-cache, original or wrapped", "'" + std::string(text) + "'");
}

Result<size_t> parse_memory_limit(std::string_view text) {
  const Status wrong =
      bad_input("StreamOptions.memory_limit", "a number of bytes above 0, as in 268435456, 256M or 1.5GiB",
                "'" + std::string(text) + "'");
  double value = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (error != std::errc()) return wrong;
  std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  if (unit.size() == 3 && unit.substr(1) == "iB") unit = unit.substr(0, 1);
  if (!unit.empty()) {
    const size_t power = std::string_view("KMGT").find(unit);
    if (unit.size() != 1 || power == std::string_view::npos) return wrong;
    value = std::ldexp(value, static_cast<int>(10 * (power + 1)));
  }
  if (!(value >= 1.0 && value <= 0x1p60)) return wrong;
  return static_cast<size_t>(value);
}

Result<DType> parse_dtype(std::string_view text) {
  for (const DType type : kDTypes) {
    if (text == dtype_name(type)) return type;
  }
  if (text == "q8_0") return DType::q8;  // as other programs call 8-bit caches
  return bad_input("StreamOptions.kv", "f32, f16, bf16 or q8", "'" + std::string(text) + "'");
}

Result<Math> parse_math(std::string_view text) {
  for (Math math : {Math::f32, Math::a16, Math::a8}) {
    if (text == math_name(math)) return math;
  }
  return bad_input("StreamOptions.math", "f32, a16 or a8", "'" + std::string(text) + "'");
}

namespace {

std::string sink_text(const AttentionSink& sink) {
  return std::to_string(sink.sink_tokens) + "," + std::to_string(sink.window);
}

Status check_tokens(std::string_view field, int64_t tokens) {
  if (tokens < 1) return bad_input(field, "at least 1 token", std::to_string(tokens));
  if (tokens > kMaxTokens) return bad_input(field, "at most 2^40 tokens", std::to_string(tokens));
  return {};
}

// Each field by itself, and that it can take effect beside the others.
Status check_options(const StreamOptions& options, int64_t trained_context) {
  KVASS_RETURN_IF_ERROR(check_enum("StreamOptions.kv", options.storage(), dtype_name));
  KVASS_RETURN_IF_ERROR(check_enum("StreamOptions.math", options.arithmetic(), math_name));
  KVASS_RETURN_IF_ERROR(check_enum("StreamOptions.sink_positions", options.positions(), sink_positions_name));
  if (options.context) KVASS_RETURN_IF_ERROR(check_tokens("StreamOptions.context", *options.context));
  if (options.chunk) KVASS_RETURN_IF_ERROR(check_tokens("StreamOptions.chunk", *options.chunk));
  if (!options.context && !options.attention_sink) {
    KVASS_RETURN_IF_ERROR(check_tokens("trained_context", trained_context));
  }
  if (const std::optional<AttentionSink>& sink = options.attention_sink) {
    if (sink->sink_tokens < 0 || sink->window < 1 || std::max(sink->sink_tokens, sink->window) > kMaxTokens) {
      return bad_input("StreamOptions.attention_sink", "0 to 2^40 sink tokens and a window of 1 to 2^40",
                       sink_text(*sink));
    }
  }
  const char* without = "none without StreamOptions.attention_sink or StreamOptions.endless";
  if (options.sink_positions && !options.has_sinks()) {
    return bad_input("StreamOptions.sink_positions", without, sink_positions_name(*options.sink_positions));
  }
  if (options.endless_sink_tokens && (!options.endless || options.attention_sink)) {
    return bad_input("StreamOptions.endless_sink_tokens",
                     "none but with StreamOptions.endless, and without StreamOptions.attention_sink",
                     std::to_string(*options.endless_sink_tokens));
  }
  return {};
}

// The sinks of a stream without end that has `context` tokens and does not say which.
Result<AttentionSink> endless_sink(const StreamOptions& options, int64_t context) {
  if (context <= kEndlessSinkTokens) {
    return bad_input("StreamOptions.context",
                     "more than " + std::to_string(kEndlessSinkTokens) + " tokens with StreamOptions.endless",
                     std::to_string(context));
  }
  const int64_t tokens = options.endless_sink_tokens.value_or(kEndlessSinkTokens);
  if (options.endless_sink_tokens && (tokens < 0 || tokens > context / 2)) {
    return bad_input("StreamOptions.endless_sink_tokens",
                     "0 to " + std::to_string(context / 2) + ", half of StreamOptions.context", std::to_string(tokens));
  }
  return AttentionSink{tokens, context - tokens};
}

}  // namespace

Result<CacheOptions> resolve_caches(const StreamOptions& options, int64_t trained_context) {
  KVASS_RETURN_IF_ERROR(check_options(options, trained_context));
  CacheOptions caches;
  caches.dtype = options.storage();
  caches.sink_positions = options.positions();
  caches.rotary_offset = options.rotary_offset;
  caches.checkpoints = options.checkpoints;
  caches.context = options.context.value_or(std::min(StreamOptions::kDefaultContext, trained_context));
  std::optional<AttentionSink> sink = options.attention_sink;
  if (!sink && options.endless) {
    KVASS_ASSIGN_OR_RETURN(sink, endless_sink(options, caches.context));
  }
  const int64_t half_context = sink ? kDefaultChunk : std::max<int64_t>(1, caches.context / 2);
  caches.chunk = options.chunk.value_or(std::min(kDefaultChunk, half_context));
  if (!sink) return caches;
  caches.sinks = true;
  caches.sink_tokens = sink->sink_tokens;
  caches.sink_window = sink->window;
  const int64_t least = sink->sink_tokens + sink->window;
  if (!options.context) caches.context = least;
  if (caches.context < least) {
    return bad_input("StreamOptions.context",
                     "at least " + std::to_string(least) +
                         " tokens, the sinks and the window of StreamOptions.attention_sink " + sink_text(*sink),
                     std::to_string(caches.context));
  }
  return caches;
}

StreamOptions options_of(const CacheOptions& caches, Math math, const StreamOptions& machine) {
  StreamOptions options;
  options.context = caches.context;
  if (caches.sinks) {
    options.attention_sink = AttentionSink{caches.sink_tokens, caches.sink_window};
    options.sink_positions = caches.sink_positions;
  }
  options.rotary_offset = caches.rotary_offset;
  options.chunk = caches.chunk;
  options.kv = caches.dtype;
  options.math = math;
  options.threads = machine.threads;
  options.pin = machine.pin;
  options.checkpoints = machine.checkpoints;
  options.logit_rows = machine.logit_rows;
  options.memory_limit = machine.memory_limit;
  return options;
}

Status check_resumed(const StreamOptions& asked, const CacheOptions& caches, Math math) {
  const StreamOptions saved = options_of(caches, math, {});
  struct Field {
    std::string_view name;
    bool differs;
    std::string saved, got;
  };
  const auto number = [](std::optional<int64_t> tokens) { return tokens ? std::to_string(*tokens) : ""; };
  const auto sinks = [](const std::optional<AttentionSink>& sink) { return sink ? sink_text(*sink) : "none"; };
  const auto positions = [](const StreamOptions& o) { return std::string(sink_positions_name(o.positions())); };
  const Field fields[] = {
      {"StreamOptions.context", asked.context && asked.context != saved.context, number(saved.context),
       number(asked.context)},
      {"StreamOptions.attention_sink", asked.attention_sink && asked.attention_sink != saved.attention_sink,
       sinks(saved.attention_sink), sinks(asked.attention_sink)},
      {"StreamOptions.endless", asked.endless && !saved.attention_sink, "a stream that ends", "one without end"},
      {"StreamOptions.sink_positions", asked.sink_positions && asked.sink_positions != caches.sink_positions,
       caches.sinks ? positions(saved) : "none", positions(asked)},
      {"StreamOptions.rotary_offset", asked.rotary_offset != 0 && asked.rotary_offset != saved.rotary_offset,
       std::to_string(saved.rotary_offset), std::to_string(asked.rotary_offset)},
      {"StreamOptions.chunk", asked.chunk && asked.chunk != saved.chunk, number(saved.chunk), number(asked.chunk)},
      {"StreamOptions.kv", asked.kv && asked.kv != saved.kv, std::string(dtype_name(saved.storage())),
       std::string(dtype_name(asked.storage()))},
      {"StreamOptions.math", asked.math && asked.math != saved.math, std::string(math_name(saved.arithmetic())),
       std::string(math_name(asked.arithmetic()))}};
  for (const Field& field : fields) {
    if (field.differs) return bad_input(field.name, field.saved + " as in the snapshot", field.got);
  }
  return {};
}

Result<int> resolve_threads(int threads) {
  if (threads == 0) return usable_cpus();
  if (threads < 0 || threads > kMaxThreads) {
    return bad_input("StreamOptions.threads", "0 (all usable CPUs) to " + std::to_string(kMaxThreads),
                     std::to_string(threads));
  }
  return threads;
}

}  // namespace kvass
