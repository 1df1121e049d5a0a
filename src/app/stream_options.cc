#include "app/stream_options.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/cpu.h"

namespace kvass {
namespace {

constexpr int64_t kDefaultChunk = 256;
constexpr int64_t kLeastSinkTokens = 4;               // of an endless stream that does not say
constexpr int64_t kMaxSinkTokens = int64_t{1} << 40;  // as the layouts have it
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
  if (!sink || !window || *sink < 0 || *window < 1 || std::max(*sink, *window) > kMaxSinkTokens)
    return sink_error(text);
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

Result<CacheOptions> resolve_caches(const StreamOptions& options, int64_t trained_context) {
  CacheOptions caches;
  caches.dtype = options.storage();
  caches.sink_positions = options.positions();
  caches.rotary_offset = options.rotary_offset;
  caches.checkpoints = options.checkpoints;
  caches.context = options.context.value_or(std::min(StreamOptions::kDefaultContext, trained_context));
  if (caches.context < 1) return bad_input("StreamOptions.context", "at least 1 token", std::to_string(caches.context));
  std::optional<AttentionSink> sink = options.attention_sink;
  if (!sink && options.endless) {
    if (caches.context <= kLeastSinkTokens) {
      return bad_input("StreamOptions.context",
                       "more than " + std::to_string(kLeastSinkTokens) + " tokens with StreamOptions.endless",
                       std::to_string(caches.context));
    }
    const int64_t tokens = std::max(kLeastSinkTokens, std::min(options.endless_sink_tokens, caches.context / 2));
    sink = AttentionSink{tokens, caches.context - tokens};
  }
  const int64_t half_context = sink ? kDefaultChunk : std::max<int64_t>(1, caches.context / 2);
  caches.chunk = options.chunk.value_or(std::min(kDefaultChunk, half_context));
  if (caches.chunk < 1) return bad_input("StreamOptions.chunk", "at least 1 token", std::to_string(caches.chunk));
  if (!sink) return caches;
  caches.sinks = true;
  caches.sink_tokens = sink->sink_tokens;
  caches.sink_window = sink->window;
  if (!options.context) caches.context = sink->sink_tokens + sink->window;
  if (caches.context < sink->sink_tokens + sink->window) {
    return bad_input("StreamOptions.context",
                     "at least " + std::to_string(sink->sink_tokens + sink->window) +
                         " tokens, the S + W of StreamOptions.attention_sink, S,W as in 4,508",
                     std::to_string(caches.context));
  }
  return caches;
}

StreamOptions options_of(const CacheOptions& caches, Math math, const StreamOptions& machine) {
  StreamOptions options;
  options.context = caches.context;
  if (caches.sinks) options.attention_sink = AttentionSink{caches.sink_tokens, caches.sink_window};
  options.sink_positions = caches.sink_positions;
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

Result<int> resolve_threads(int threads) {
  if (threads == 0) return usable_cpus();
  if (threads < 0 || threads > kMaxThreads) {
    return bad_input("StreamOptions.threads", "1 to " + std::to_string(kMaxThreads), std::to_string(threads));
  }
  return threads;
}

}  // namespace kvass
