// What a person says about a stream (context, sinks, chunk, storage, arithmetic, threads), checked and turned into the
// plan's options. The flags of `run`, `score` and `bench` are these fields under the same names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "kvass/cache_plan.h"
#include "kvass/options.h"
#include "kvass/plan.h"
#include "kvass/status.h"

namespace kvass {

// Exactly two fields "S,W" with S >= 0 and W >= 1; the error shows the form.
Result<AttentionSink> parse_attention_sink(std::string_view text);
// A number of bytes: 268435456, 256M, 256MiB, 1.5G. K, M, G and T are powers of 1024.
Result<size_t> parse_memory_limit(std::string_view text);

// The options that give these caches and this arithmetic again; what is the machine's (threads, memory limit) from
// `machine`.
StreamOptions options_of(const CacheOptions& caches, Math math, const StreamOptions& machine);
// What a stream of a snapshot is asked for: nothing, or what the snapshot has.
Status check_resumed(const StreamOptions& asked, const CacheOptions& caches, Math math);
Result<int> resolve_threads(int threads);

}  // namespace kvass
