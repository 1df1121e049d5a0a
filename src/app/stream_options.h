// What a person says about a stream (context, sinks, chunk, storage, arithmetic, threads), checked and turned into the
// plan's options. The flags of `run`, `score` and `bench` are these fields under the same names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "kvass/cache_plan.h"
#include "kvass/status.h"
#include "ops/linear/linear.h"

namespace kvass {

// --attention-sink S,W: the first S positions are kept for ever, beside a window of the latest W.
struct AttentionSink {
  int64_t sink_tokens = 0;
  int64_t window = 0;
};

struct StreamOptions {
  static constexpr int64_t kDefaultContext = 4096;  // tokens, or what the model was trained for if that is less

  std::optional<int64_t> context;  // tokens; default: 4096 or the trained context, whichever is less; with sinks S + W
  std::optional<AttentionSink> attention_sink;
  bool endless = false;             // sinks 4,context − 4 unless given
  int64_t endless_sink_tokens = 4;  // the sinks of `endless`; half the context at most
  SinkPositions sink_positions = SinkPositions::in_cache;
  int64_t rotary_offset = 0;     // tokens; see CacheOptions
  std::optional<int64_t> chunk;  // tokens a step may bring; default: 256, or half the context if that is less
  DType kv = DType::f16;         // storage of keys and values
  Math math = Math::a16;
  int threads = 0;                     // 0: the CPUs that the process may use
  bool pin = false;                    // the threads stay on CPUs of their own
  int64_t sequences = 1;               // that advance together, each with caches of its own
  std::optional<size_t> memory_limit;  // bytes that weights, caches and arena may take together
};

// Exactly two fields "S,W" with S >= 0 and W >= 1; the error shows the form.
Result<AttentionSink> parse_attention_sink(std::string_view text);
Result<SinkPositions> parse_sink_positions(std::string_view text);  // in-cache, original, wrapped
// A number of bytes: 268435456, 256M, 256MiB, 1.5G. K, M, G and T are powers of 1024.
Result<size_t> parse_memory_limit(std::string_view text);
Result<DType> parse_dtype(std::string_view text);  // f32, f16, bf16, q8
Result<Math> parse_math(std::string_view text);    // f32, a16, a8

Result<CacheOptions> resolve_caches(const StreamOptions& options, int64_t trained_context);
// The options that give these caches and this arithmetic again; what is the machine's (threads, memory limit) from
// `machine`.
StreamOptions options_of(const CacheOptions& caches, Math math, const StreamOptions& machine);
Result<int> resolve_threads(int threads);

}  // namespace kvass
