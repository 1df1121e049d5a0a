// Which flag sets which field of the library. One table for both directions: the commands declare their flags from it,
// and messages of the library, which name fields, are shown with flags.
#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <span>
#include <string>
#include <string_view>

#include "kvass/fields.h"

namespace kvass {

struct FieldFlag {
  std::string_view field;  // Struct.field
  // The flag's names as CLI11 takes them; messages show the one that was given, or else the first. Empty: the field has
  // no flag of its own.
  std::string_view names;
  std::string_view word =
      {};  // what messages show instead: words, or another field, whose flag stands for this one too
};

inline constexpr FieldFlag kFieldFlags[] = {
    // A stream.
    {"StreamOptions.context", "--context,--max-context-len,-c"},
    {"StreamOptions.attention_sink", "--attention-sink"},
    {"StreamOptions.endless", "--endless"},
    {"StreamOptions.endless_sink_tokens", "", "sinks of --endless"},
    {"StreamOptions.sink_positions", "--sink-positions"},
    {"StreamOptions.rotary_offset", "--rotary-offset"},
    {"StreamOptions.chunk", "--chunk,--input-len"},
    {"StreamOptions.kv", "--kv"},
    {"StreamOptions.math", "--math"},
    {"StreamOptions.threads", "--threads,-t"},
    {"StreamOptions.pin", "--pin,!--no-pin"},
    {"StreamOptions.sequences", "--sequences"},
    {"StreamOptions.memory_limit", "--memory-limit"},
    {"StreamOptions.checkpoints", "--checkpoints"},
    {"StreamOptions.logit_rows", "", "rows of logits"},
    {"CacheOptions.context", "", "StreamOptions.context"},
    {"CacheOptions.chunk", "", "StreamOptions.chunk"},
    {"CacheOptions.sinks", "", "--attention-sink S,W (or --endless)"},
    {"CacheOptions.sink_tokens", "", "S of --attention-sink S,W"},
    {"CacheOptions.sink_window", "", "W of --attention-sink S,W"},
    {"CacheOptions.sink_positions", "", "StreamOptions.sink_positions"},
    {"CacheOptions.dtype", "", "StreamOptions.kv"},
    {"CacheOptions.rotary_offset", "", "StreamOptions.rotary_offset"},
    {"CacheOptions.checkpoints", "", "checkpoints"},
    {"SessionOptions.threads", "", "StreamOptions.threads"},
    {"SessionOptions.sequences", "", "StreamOptions.sequences"},
    // Bare layers.
    {"LayerPattern.layers", "--layers"},
    {"LayerPattern.kv_heads", "--kv-heads"},
    {"LayerPattern.head_dim", "--head-dim"},
    {"LayerPattern.sliding_window", "--sliding-window"},
    {"LayerPattern.sliding_window_pattern", "--sliding-window-pattern"},
    {"CacheShape.kv_heads", "", "LayerPattern.kv_heads"},
    {"CacheShape.head_dim", "", "LayerPattern.head_dim"},
    {"CacheShape.window", "", "LayerPattern.sliding_window"},
    // Weights.
    {"WeightOptions.type", "--weights"},
    {"WeightOptions.pages", "--pages"},
    {"WeightOptions.check", "--check"},
    {"WeightOptions.device", "--device"},
    {"LoadOptions.weights", "", "WeightOptions.type"},
    {"LoadOptions.pages", "", "WeightOptions.pages"},
    {"LoadOptions.check", "", "WeightOptions.check"},
    {"LoadOptions.device", "", "WeightOptions.device"},
    {"LoadOptions.math", "", "StreamOptions.math"},
    {"LoadOptions.threads", "", "StreamOptions.threads"},
    // Text.
    {"SampleOptions.temperature", "--temp"},
    {"SampleOptions.top_k", "--top-k"},
    {"SampleOptions.top_p", "--top-p"},
    {"SampleOptions.min_p", "--min-p"},
    {"SampleOptions.repeat_penalty", "--repeat-penalty"},
    {"SampleOptions.repeat_last_n", "--repeat-last-n"},
    {"SampleOptions.seed", "--seed"},
    {"SampleOptions.logit_bias", "--logit-bias"},
    {"GenerateOptions.max_tokens", "-n,--tokens"},
    {"GenerateOptions.ignore_eos", "--ignore-eos"},
    {"GenerateOptions.stops", "--stop"},
    {"GenerateOptions.save_every", "--save-every"},
    {"GenerateOptions.save_path", "", "--save"},
    {"GenerateOptions.hold_text", "", "text that is held back"},
    {"GenerateOptions.on_progress", "", "progress through a prompt"},
    {"ChatOptions.system", "--system"},
    {"ChatOptions.chat_template", "--template-file,--chat-template-file"},
    {"ChatOptions.tools", "--tools"},
    {"ChatOptions.variables", "--template-var"},
    {"ChatOptions.now", "", "--template-var now"},
    {"ChatOptions.stops", "--stop"},
    {"ChatOptions.max_tokens", "-n,--tokens"},
    {"ChatOptions.endless", "", "StreamOptions.endless"},
    {"ScoreOptions.top", "--top"},
    {"PromptRequest.model", "", "MODEL"},
    {"PromptRequest.template_text", "", "--template-file"},
    // Speech.
    {"TranscribeOptions.language", "--language"},
    {"TranscribeOptions.task", "--task"},
    {"TranscribeOptions.temperatures", "--temperature"},
    {"TranscribeOptions.compression_ratio_threshold", "--compression-ratio-threshold"},
    {"TranscribeOptions.logprob_threshold", "--logprob-threshold"},
    {"TranscribeOptions.no_speech_threshold", "--no-speech-threshold"},
    {"TranscribeOptions.condition_on_previous_text", "--condition-on-previous-text"},
    {"TranscribeOptions.prompt_reset_on_temperature", "--prompt-reset-on-temperature"},
    {"TranscribeOptions.initial_prompt", "--initial-prompt"},
    {"TranscribeOptions.timestamps", "--without-timestamps"},
    {"TranscribeOptions.max_initial_timestamp", "--max-initial-timestamp"},
    {"TranscribeOptions.suppressed", "--suppress-tokens"},
    {"TranscribeOptions.suppress_blank", "--no-suppress-blank"},
    {"TranscribeOptions.word_timestamps", "--word-timestamps"},
    {"TranscribeOptions.prepend_punctuations", "--prepend-punctuations"},
    {"TranscribeOptions.append_punctuations", "--append-punctuations"},
    {"TranscribeOptions.vad", "--vad"},
    {"TranscribeOptions.search", "", "--beam-size and --best-of"},
    {"TranscriberOptions.sequences", "", "sequences"},
    {"TranscriberOptions.kv", "", "StreamOptions.kv"},
    {"TranscriberOptions.threads", "", "StreamOptions.threads"},
    {"TranscriberOptions.memory_limit", "", "StreamOptions.memory_limit"},
    {"SearchOptions.beam_size", "--beam-size"},
    {"SearchOptions.patience", "--patience"},
    {"SearchOptions.length_penalty", "--length-penalty"},
    {"SearchOptions.best_of", "--best-of"},
    {"SearchOptions.seed", "--seed"},
    {"SearchOptions.temperature", "", "TranscribeOptions.temperatures"},
    // A server.
    {"ServeOptions.host", "--host"},
    {"ServeOptions.port", "--port"},
    {"ServeOptions.keys", "--api-key-file"},
    {"ServeOptions.no_auth", "--no-auth"},
    {"ServeOptions.cors", "--cors"},
    {"ServeOptions.alias", "--alias"},
    {"ServeOptions.chat_template", "", "ChatOptions.chat_template"},
    {"ServeOptions.speech", "--speech"},
    {"ServeOptions.prefixes", "--prefixes"},
    {"ServeOptions.sessions", "--sessions"},
    {"ServeOptions.session_sinks", "--session-sinks"},
    {"ServeOptions.state", "--state"},
    {"ServeOptions.request_seconds", "--request-seconds"},
    {"ServeOptions.drain_seconds", "--drain-seconds"},
    {"SchedulerOptions.most_waiting", "--queue"},
    {"SchedulerOptions.target_ms", "--target-ms"},
    {"HttpLimits.connections", "--connections"},
    {"HttpLimits.body_bytes", "--body-limit"},
    // Export.
    {"ExportOptions.out", "-o,--output"},
    {"ExportOptions.weights", "", "WeightOptions.type"},
    {"ExportOptions.sliding_window", "--sliding-window"},
    {"ExportOptions.sliding_window_pattern", "--sliding-window-pattern"},
    {"ExportOptions.multifunction", "--multifunction"},
    // Measurements.
    {"BenchOptions.prefill", "-p,--n-prompt"},
    {"BenchOptions.decode", "-n,--n-gen"},
    {"BenchOptions.greedy", "-g,--n-greedy"},
    {"BenchOptions.depths", "-d,--n-depth"},
    {"BenchOptions.batches", "-b,--batch"},
    {"BenchOptions.repetitions", "-r,--repetitions"},
    {"BenchOptions.profile", "--profile"},
};

// By numbers, not pointers: with the sanitizers a pointer into the table is not constant to GCC 12.
constexpr size_t kNoField = std::size(kFieldFlags);
constexpr size_t find_field(std::string_view field) {
  size_t row = 0;
  while (row < kNoField && kFieldFlags[row].field != field) ++row;
  return row;
}

// What messages show for a field, given the command's arguments; empty: one that the table does not have.
constexpr std::string_view flag_word(std::string_view field, std::span<const std::string> given = {}) {
  const size_t number = find_field(field);
  if (number == kNoField) return {};
  const FieldFlag& row = kFieldFlags[number];
  if (row.names.empty()) return find_field(row.word) != kNoField ? flag_word(row.word, given) : row.word;
  for (std::string_view names = row.names; !names.empty();) {
    const std::string_view name = names.substr(0, names.find(','));
    for (const std::string& argument : given) {
      if (std::string_view(argument).substr(0, argument.find('=')) == name) return name;
    }
    names.remove_prefix(std::min(name.size() + 1, names.size()));
  }
  return row.names.substr(0, row.names.find(','));
}

// A field that has a flag; another one does not compile. Written as a literal: flags_of("StreamOptions.context").
class FlagField {
 public:
  consteval FlagField(const char* field) : row_(find_field(field)) {
    if (row_ == kNoField) throw "a field without a row in kFieldFlags";
    const std::string_view names = kFieldFlags[row_].names;
    if (names.empty()) throw "a field without a flag: see kFieldFlags";
  }
  std::string names() const { return std::string(kFieldFlags[row_].names); }            // all, as CLI11 takes them
  std::string name() const { return std::string(flag_word(kFieldFlags[row_].field)); }  // the first

 private:
  size_t row_;
};
inline std::string flags_of(FlagField field) { return field.names(); }
inline std::string flag_of(FlagField field) { return field.name(); }

// A message of the library as the command line shows it.
inline std::string with_flags(std::string_view message, std::span<const std::string> given = {}) {
  return translate_fields(message, [&](std::string_view field) { return flag_word(field, given); });
}

}  // namespace kvass
