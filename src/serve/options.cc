#include "serve/options.h"

#include <fmt/format.h>

#include <algorithm>

#include "app/plan.h"
#include "app/text.h"
#include "ops/sample/sample.h"

namespace kvass::serve {

Status validate(const ServeOptions& options) {
  constexpr int64_t kMostTexts = 4096;
  const int64_t texts = options.streams.sequences, sessions = options.sessions;
  const auto at_least = [](const char* field, int64_t least, int64_t got) {
    return got >= least ? Status() : bad_input(field, std::to_string(least) + " or more", std::to_string(got));
  };
  KVASS_RETURN_IF_ERROR(at_least("ServeOptions.sessions", 0, sessions));
  KVASS_RETURN_IF_ERROR(at_least("ServeOptions.prefixes", 0, options.prefixes));
  KVASS_RETURN_IF_ERROR(at_least("StreamOptions.checkpoints", 0, options.streams.checkpoints));
  KVASS_RETURN_IF_ERROR(at_least("SchedulerOptions.most_waiting", 0, options.scheduler.most_waiting));
  KVASS_RETURN_IF_ERROR(at_least("HttpLimits.connections", 1, options.limits.connections));
  if (texts < 0 || texts + sessions > kMostTexts) {
    return bad_input("StreamOptions.sequences", fmt::format("0 to {} together with ServeOptions.sessions", kMostTexts),
                     std::to_string(texts));
  }
  if (texts + sessions == 0 && options.speech.empty()) {
    return bad_input("StreamOptions.sequences", "1 or more, or ServeOptions.sessions, or ServeOptions.speech", "0");
  }
  if (texts == 0 && options.prefixes > 0) {
    return bad_input("ServeOptions.prefixes", "StreamOptions.sequences of 1 or more beside it", "0");
  }
  if (options.port < 0 || options.port > 65535) {
    return bad_input("ServeOptions.port", "0 to 65535", std::to_string(options.port));
  }
  const auto check_time = [](const char* field, double least, double most, double got) {
    return got >= least && got <= most ? Status()
                                       : bad_input(field, fmt::format("{} to {}", least, most), fmt::format("{}", got));
  };
  constexpr double kDay = 86'400.0;
  KVASS_RETURN_IF_ERROR(check_time("SchedulerOptions.target_ms", 1.0, 60'000.0, options.scheduler.target_ms));
  KVASS_RETURN_IF_ERROR(check_time("ServeOptions.drain_seconds", 0.0, kDay, options.drain_seconds));
  if (options.request_seconds) {
    KVASS_RETURN_IF_ERROR(check_time("ServeOptions.request_seconds", 0.001, 30 * kDay, *options.request_seconds));
  }
  if (sessions == 0 && !options.state.empty()) {
    return bad_input("ServeOptions.state", "ServeOptions.sessions of 1 or more beside it", "0");
  }
  if (options.session_sinks && (sessions == 0 || options.streams.attention_sink)) {
    return bad_input("ServeOptions.session_sinks", "sessions whose sinks StreamOptions.attention_sink does not say",
                     sessions == 0 ? "no sessions" : "both");
  }
  if (options.no_auth && !options.keys.empty()) {
    return bad_input("ServeOptions.no_auth", "no ServeOptions.keys beside it", "both");
  }
  return {};
}

StreamOptions text_streams(const ServeOptions& options) {
  StreamOptions texts = options.streams;
  texts.memory_limit.reset();
  texts.sequences = std::max<int64_t>(options.streams.sequences + options.sessions, 1);
  return texts;
}

StreamOptions session_streams(const ServeOptions& options, int64_t context) {
  StreamOptions sessions = options.streams;
  if (sessions.attention_sink) return sessions;
  constexpr int64_t kMostSinks = 512;
  sessions.endless = true;
  sessions.endless_sink_tokens = options.session_sinks.value_or(std::min(kMostSinks, context / 4));
  return sessions;
}

Result<ServerPlan> plan_server(const ModelFile& file, const ServeOptions& options) {
  KVASS_ASSIGN_OR_RETURN(const PlannedModel model, PlannedModel::of(file, options.weights));
  const StreamOptions texts = text_streams(options);
  ServerPlan plan;
  KVASS_ASSIGN_OR_RETURN(const MemoryPlan text, model.plan(texts, std::max(kScoreRows, texts.sequences)));
  plan.weight_bytes = text.weight_bytes;
  plan.arena_bytes = text.arena_bytes;
  plan.text_bytes = text.caches.bytes;
  plan.texts = options.streams.sequences;
  plan.prefixes = options.prefixes;
  plan.sessions = options.sessions;
  if (options.sessions > 0) {
    KVASS_ASSIGN_OR_RETURN(const CacheOptions caches, resolve_caches(texts, file.trained_context()));
    if (options.session_sinks && (*options.session_sinks < 0 || *options.session_sinks > caches.context / 2)) {
      return bad_input("ServeOptions.session_sinks", fmt::format("0 to {}, half of the context", caches.context / 2),
                       std::to_string(*options.session_sinks));
    }
    KVASS_ASSIGN_OR_RETURN(const MemoryPlan session, model.plan(session_streams(options, caches.context), kScoreRows));
    plan.session_bytes = session.caches.bytes;
  }
  const auto vocabulary = static_cast<size_t>(file.program().vocabulary());
  plan.sampler_bytes = static_cast<size_t>(texts.sequences) * vocabulary * (sizeof(RankedToken) + sizeof(float));
  return plan;
}

std::string ServerPlan::text() const {
  std::string text = fmt::format("weights {}, arena {}, {} texts and {} prefixes of {}", human_bytes(weight_bytes),
                                 human_bytes(arena_bytes), texts, prefixes, human_bytes(text_bytes));
  if (sessions > 0) text += fmt::format(", {} sessions of {}", sessions, human_bytes(session_bytes));
  text += fmt::format(", samplers {}", human_bytes(sampler_bytes));
  if (speech_bytes > 0) text += fmt::format(", speech {}", human_bytes(speech_bytes));
  return text + fmt::format(": {} in all", human_bytes(total()));
}

}  // namespace kvass::serve
