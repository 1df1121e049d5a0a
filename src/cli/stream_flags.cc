#include "cli/stream_flags.h"

#include "cli/command.h"
#include "cli/fields.h"

namespace kvass {

void StreamFlags::add(CLI::App& command) {
  const std::string group = "Stream";
  context_given_ =
      command
          .add_option(flags_of("StreamOptions.context"), context_,
                      "Tokens that full-attention layers can look back on\n"
                      "(default: 4096, or what the model was trained for if that is less; with sinks S + W)")
          ->type_name("TOKENS")
          ->group(group);
  sink_given_ = command
                    .add_option(flags_of("StreamOptions.attention_sink"), attention_sink_,
                                "A stream without end: keep the first S tokens for ever beside a window\n"
                                "of the latest W tokens, as in 4,508. S = 0 is a plain ring")
                    ->type_name("S,W")
                    ->group(group);
  command
      .add_flag(flags_of("StreamOptions.endless"), endless_,
                "A stream without end: sinks 4,context-4 unless --attention-sink gives them;\n"
                "`run` goes on after an end-of-generation token")
      ->group(group);
  sink_positions_given_ =
      command
          .add_option(flags_of("StreamOptions.sink_positions"), sink_positions_,
                      "Where a stream with sinks stands: in-cache (distances to the sinks end with the cache),\n"
                      "original (they grow with the stream) or wrapped (modulo 2 W)")
          ->type_name("MODE")
          ->group(group)
          ->capture_default_str();
  chunk_given_ = command
                     .add_option(flags_of("StreamOptions.chunk"), chunk_,
                                 "Tokens that one step brings at most; more is faster and takes more memory\n"
                                 "(default: 256, or half the context if that is less)")
                     ->type_name("TOKENS")
                     ->group(group);
  kv_given_ = command.add_option(flags_of("StreamOptions.kv"), kv_, "Storage of keys and values: f32, f16, bf16 or q8")
                  ->type_name("TYPE")
                  ->group(group)
                  ->capture_default_str()
                  ->transform([](const std::string& name) {
                    if (name != "q8_0") return name;
                    say("kvass: note: --kv q8_0 is q8 here\n");
                    return std::string("q8");
                  });
  math_given_ =
      command
          .add_option(
              flags_of("StreamOptions.math"), math_,
              "Activations in products with weights: a16 (16-bit integers), a8 (8-bit integers)\nor f32 (float32)")
          ->type_name("MATH")
          ->group(group)
          ->capture_default_str();
  command
      .add_option(flags_of("StreamOptions.threads"), threads_, "Threads (default: as many as the process may use CPUs)")
      ->type_name("N")
      ->group(group);
  command
      .add_flag(flags_of("StreamOptions.pin"), pin_,
                "Each thread stays on a CPU of its own (default, where there is one for each)")
      ->group(group);
}

void StreamFlags::add_memory_limit(CLI::App& command) {
  memory_limit_given_ = command
                            .add_option(flags_of("StreamOptions.memory_limit"), memory_limit_,
                                        "Refuse, before anything is loaded, a plan of more than this: weights, caches\n"
                                        "and arena. A number of bytes, as in 268435456, 256M or 1.5G")
                            ->type_name("BYTES")
                            ->group("Stream");
}

void StreamFlags::add_sequences(CLI::App& command, const std::string& text) {
  sequences_given_ =
      command.add_option(flags_of("StreamOptions.sequences"), sequences_, text)->type_name("N")->group("Stream");
}

Result<StreamOptions> StreamFlags::resolve(const StreamOptions& defaults) const {
  StreamOptions options = defaults;
  if (sink_given_->count() > 0) {
    KVASS_ASSIGN_OR_RETURN(options.attention_sink, parse_attention_sink(attention_sink_));
    options.context.reset();
  }
  if (context_given_->count() > 0) options.context = context_;
  options.endless = endless_;
  if (chunk_given_->count() > 0) options.chunk = chunk_;
  if (sink_positions_given_->count() > 0) {
    KVASS_ASSIGN_OR_RETURN(options.sink_positions, parse_sink_positions(sink_positions_));
  }
  if (kv_given_->count() > 0) {
    KVASS_ASSIGN_OR_RETURN(options.kv, parse_dtype(kv_));
  }
  if (math_given_->count() > 0) {
    KVASS_ASSIGN_OR_RETURN(options.math, parse_math(math_));
  }
  KVASS_ASSIGN_OR_RETURN(options.threads, resolve_threads(threads_));
  options.pin = pin_;
  if (sequences_given()) options.sequences = sequences_;
  if (memory_limit_given_ && memory_limit_given_->count() > 0) {
    KVASS_ASSIGN_OR_RETURN(options.memory_limit, parse_memory_limit(memory_limit_));
  }
  return options;
}

void warn_of_context(const CacheOptions& caches, int64_t trained) {
  const int64_t kept = caches.sinks ? caches.sink_tokens + caches.sink_window : caches.context;
  if (caches.context > kept) {
    say("kvass: note: {} {} changes nothing beside {}, which keeps {} tokens\n", flag_of("StreamOptions.context"),
        caches.context, flag_of("StreamOptions.attention_sink"), kept);
  }
  if (trained <= 0 || kept <= trained) return;
  say("kvass: warning: a context of {} tokens ({}, {}): the model was trained for {}; text beyond that gets worse\n",
      kept, flag_of("StreamOptions.context"), flag_of("StreamOptions.attention_sink"), trained);
}

Status StreamFlags::check_resumed(const CacheOptions& caches, Math math) const {
  KVASS_ASSIGN_OR_RETURN(const StreamOptions given, resolve());
  return kvass::check_resumed(given, caches, math);
}

}  // namespace kvass
