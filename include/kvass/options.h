// What a caller says about loading a model and about its streams. Plain data; a field that says nothing is as the file
// has it. The command line's flags have the same names. A field that cannot take effect is refused by name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "kvass/arithmetic.h"
#include "kvass/export.h"
#include "kvass/sink_positions.h"
#include "kvass/status.h"
#include "kvass/tensor.h"

namespace kvass {

// Where the weights of a .kvp are used: where the file is mapped (ready at once, one copy for all processes), or in a
// block of memory that asks for huge pages.
enum class Pages : uint8_t { mapped, huge };

constexpr std::string_view pages_name(Pages pages) {
  switch (pages) {
    case Pages::mapped:
      return "mapped";
    case Pages::huge:
      return "huge";
  }
  return "?";
}

struct LoadOptions {
  std::optional<Math> math;     // none: as the file has it; a16 for a GGUF, float32 for a speech model
  std::string weights;          // what every matrix becomes whose rows allow it: f32, f16, bf16, q8_0, q4_0; empty: the
                                // file's own types
  std::optional<Pages> pages;   // none: mapped for a .kvp; the weights of other files are packed into memory
  bool check = false;           // a .kvp: read all weights and compare their hashes
  Device device = Device::cpu;  // where the model runs
  int threads = 0;  // that pack the weights, here alone (streams: StreamOptions::threads); 0: all usable CPUs
};

// The first `sink_tokens` positions are kept for ever, beside a window of the latest `window`.
struct AttentionSink {
  int64_t sink_tokens = 0;  // 0: a plain ring
  int64_t window = 0;       // at least 1

  friend bool operator==(const AttentionSink&, const AttentionSink&) = default;
};

struct StreamOptions {
  static constexpr int64_t kDefaultContext = 4096;  // tokens, or what the model was trained for if that is less

  std::optional<int64_t> context;  // tokens; default: 4096 or the trained context, whichever is less; with sinks S + W
  std::optional<AttentionSink> attention_sink;
  bool endless = false;                         // sinks 4,context − 4 unless attention_sink gives them
  std::optional<int64_t> endless_sink_tokens;   // the sinks of `endless`: half the context at most; default: 4
  std::optional<SinkPositions> sink_positions;  // with sinks: at which positions keys and queries are rotated
                                                // (sink_positions.h); default: in_cache
  int64_t rotary_offset = 0;                    // tokens; see CacheOptions::rotary_offset
  std::optional<int64_t> chunk;        // tokens a step may bring; default: 256, or half the context if that is less
  std::optional<DType> kv;             // storage of keys and values; default: f16, float32 for a speech model
  std::optional<Math> math;            // that the model is loaded with; default: a16, float32 for a speech model
  int64_t checkpoints = 0;             // places for Stream::checkpoint
  int threads = 0;                     // that run the steps; 0: all usable CPUs
  bool pin = false;                    // the threads stay on CPUs of their own
  int64_t sequences = 1;               // that advance together, each with caches of its own
  int64_t logit_rows = 1;              // rows of logits at once, 4096 at most; score() is faster with 16
  std::optional<size_t> memory_limit;  // bytes that weights, caches and arena may take together

  // What is meant where nothing is said and the file says nothing.
  DType storage() const { return kv.value_or(DType::f16); }
  Math arithmetic() const { return math.value_or(Math::a16); }
  SinkPositions positions() const { return sink_positions.value_or(SinkPositions::in_cache); }
  bool has_sinks() const { return endless || attention_sink.has_value(); }
  // These options where they say something, and `file`'s otherwise: what a stream of that file is.
  StreamOptions over(const StreamOptions& file) const {
    StreamOptions merged = *this;
    if (!attention_sink) merged.attention_sink = file.attention_sink;
    if (!context && !attention_sink) merged.context = file.context;
    if (!sink_positions) merged.sink_positions = file.sink_positions;
    if (!chunk) merged.chunk = file.chunk;
    if (!kv) merged.kv = file.kv;
    if (!math) merged.math = file.math;
    if (rotary_offset == 0) merged.rotary_offset = file.rotary_offset;
    return merged;
  }
};

// Values by the names that the command line has for them. bad_input for another name; the message names the field of
// StreamOptions and lists what there is.
KVASS_API Result<Math> parse_math(std::string_view name);                     // f32, a16, a8
KVASS_API Result<DType> parse_dtype(std::string_view name);                   // f32, f16, bf16, q8
KVASS_API Result<SinkPositions> parse_sink_positions(std::string_view name);  // in-cache, original, wrapped

}  // namespace kvass
