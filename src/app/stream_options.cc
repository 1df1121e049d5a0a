#include "app/stream_options.h"

#include <algorithm>
#include <charconv>

#include "base/cpu.h"

namespace kvass {
namespace {

constexpr int64_t kDefaultContext = 4096;
constexpr int64_t kDefaultSinkTokens = 4;
constexpr int64_t kMaxSinkTokens = int64_t{1} << 40;  // as the layouts have it
constexpr int kMaxThreads = 1024;

std::optional<int64_t> parse_integer(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Status sink_error(std::string_view got) {
  return bad_input("--attention-sink", "S,W (two numbers: sink tokens S >= 0 and window W >= 1, as in 4,508)",
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

Result<DType> parse_dtype(std::string_view text) {
  for (DType type : {DType::f32, DType::f16, DType::bf16}) {
    if (text == dtype_name(type)) return type;
  }
  return bad_input("--kv", "f32, f16 or bf16", "'" + std::string(text) + "'");
}

Result<Math> parse_math(std::string_view text) {
  for (Math math : {Math::f32, Math::a16, Math::a8}) {
    if (text == math_name(math)) return math;
  }
  return bad_input("--math", "f32, a16 or a8", "'" + std::string(text) + "'");
}

std::string_view math_name(Math math) {
  switch (math) {
    case Math::f32:
      return "f32";
    case Math::a16:
      return "a16";
    case Math::a8:
      return "a8";
  }
  return "?";
}

Result<CacheOptions> resolve_caches(const StreamOptions& options, int64_t trained_context) {
  CacheOptions caches;
  caches.dtype = options.kv;
  caches.chunk = options.chunk;
  caches.context = options.context.value_or(std::min(kDefaultContext, trained_context));
  if (caches.context < 1) return bad_input("--context", "at least 1 token", std::to_string(caches.context));
  if (caches.chunk < 1) return bad_input("--chunk", "at least 1 token", std::to_string(caches.chunk));
  std::optional<AttentionSink> sink = options.attention_sink;
  if (!sink && options.endless) {
    if (caches.context <= kDefaultSinkTokens) {
      return bad_input("--context", "more than " + std::to_string(kDefaultSinkTokens) + " tokens with --endless",
                       std::to_string(caches.context));
    }
    sink = AttentionSink{kDefaultSinkTokens, caches.context - kDefaultSinkTokens};
  }
  if (!sink) return caches;
  caches.sinks = true;
  caches.sink_tokens = sink->sink_tokens;
  caches.sink_window = sink->window;
  if (!options.context) caches.context = sink->sink_tokens + sink->window;
  if (caches.context < sink->sink_tokens + sink->window) {
    return bad_input("--context",
                     "at least " + std::to_string(sink->sink_tokens + sink->window) +
                         " tokens, the S + W of --attention-sink S,W (as in 4,508)",
                     std::to_string(caches.context));
  }
  return caches;
}

Result<int> resolve_threads(int threads) {
  if (threads == 0) return usable_cpus();
  if (threads < 0 || threads > kMaxThreads) {
    return bad_input("--threads", "1 to " + std::to_string(kMaxThreads), std::to_string(threads));
  }
  return threads;
}

}  // namespace kvass
