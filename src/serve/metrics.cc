#include "serve/metrics.h"

#include <fmt/format.h>

#include "base/platform.h"

namespace kvass::serve {

void Histogram::add(double seconds) {
  size_t i = 0;
  while (i < kBounds.size() && seconds > kBounds[i]) ++i;
  counts_[i].fetch_add(1, std::memory_order_relaxed);
  microseconds_.fetch_add(static_cast<int64_t>(seconds * 1e6), std::memory_order_relaxed);
}

std::string Histogram::text(const char* name, const char* help) const {
  std::string text = fmt::format("# HELP {0} {1}\n# TYPE {0} histogram\n", name, help);
  int64_t sum = 0;
  for (size_t i = 0; i < kBounds.size(); ++i) {
    sum += counts_[i].load(std::memory_order_relaxed);
    text += fmt::format("{}_bucket{{le=\"{}\"}} {}\n", name, kBounds[i], sum);
  }
  sum += counts_[kBounds.size()].load(std::memory_order_relaxed);
  return text + fmt::format("{0}_bucket{{le=\"+Inf\"}} {1}\n{0}_sum {2}\n{0}_count {1}\n", name, sum,
                            static_cast<double>(microseconds_.load(std::memory_order_relaxed)) * 1e-6);
}

std::string Metrics::text() const {
  std::string text;
  const auto add = [&](const char* name, const char* type, const char* help, int64_t value) {
    text += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n{0} {3}\n", name, help, type, value);
  };
  add("kvass_requests_total", "counter", "Requests answered.", requests.value());
  add("kvass_requests_refused_total", "counter", "Requests answered with a 4xx status.", refused.value());
  add("kvass_requests_failed_total", "counter", "Requests answered with a 5xx status.", failed.value());
  add("kvass_texts_cancelled_total", "counter", "Texts whose client went away.", cancelled.value());
  add("kvass_prompt_tokens_evaluated_total", "counter", "Tokens of prompts that were run.", prompt_evaluated.value());
  add("kvass_prompt_tokens_reused_total", "counter", "Tokens of prompts that the caches had already.",
      prompt_reused.value());
  add("kvass_generated_tokens_total", "counter", "Tokens generated.", generated.value());
  add("kvass_texts_waiting", "gauge", "Texts that wait for a place.", waiting.value());
  add("kvass_texts_running", "gauge", "Texts that are generated now.", running.value());
  add("kvass_planned_bytes", "gauge", "Bytes of the memory plan, all of them mapped.", bytes_planned.value());
  add("kvass_resident_bytes_peak", "gauge", "Peak resident memory of the process.",
      static_cast<int64_t>(platform::peak_rss_bytes()));
  add("kvass_sessions_in_memory", "gauge", "Sessions whose caches are in memory.", sessions_in_memory.value());
  add("kvass_sessions_on_disk", "gauge", "Sessions that have a snapshot.", sessions_on_disk.value());
  add("kvass_snapshots_total", "counter", "Snapshots written.", snapshots.value());
  add("kvass_audio_seconds_total", "counter", "Seconds of audio transcribed.", audio_seconds.value());
  text += first_token.text("kvass_time_to_first_token_seconds", "From a request to its first token.");
  text += between_tokens.text("kvass_time_between_tokens_seconds", "From one token of a text to the next.");
  text += step.text("kvass_step_seconds", "One step of all texts.");
  text += snapshot.text("kvass_snapshot_seconds", "Writing a session's snapshot.");
  return text;
}

}  // namespace kvass::serve
