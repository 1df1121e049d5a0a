#include "cli/sampling_flags.h"

namespace kvass {

void add_sampling_flags(CLI::App& command, SampleOptions& options) {
  const auto sampling = [&](const char* name, auto& value, const char* type, const char* what) {
    command.add_option(name, value, what)->type_name(type)->group("Sampling")->capture_default_str();
  };
  sampling("--temp", options.temperature, "T", "Logits are divided by this; 0 takes the likeliest token");
  sampling("--top-k", options.top_k, "K", "Draw from the K likeliest tokens; 0: from all");
  sampling("--top-p", options.top_p, "P", "Draw from the fewest tokens that are P likely together; 1: from all");
  sampling("--min-p", options.min_p, "P", "Draw from tokens at least P times as likely as the likeliest; 0: all");
  sampling("--repeat-penalty", options.repeat_penalty, "R", "Makes recent tokens less likely; 1: does not");
  sampling("--repeat-last-n", options.repeat_last_n, "TOKENS", "How many tokens are recent");
  sampling("--seed", options.seed, "N", "The same seed draws the same text");
}

SampleOptions resumed_sampling(const CLI::App& command, const SampleOptions& given, SampleOptions saved) {
  const auto take = [&](const char* name, auto SampleOptions::*field) {
    if (command.get_option(name)->count() > 0) saved.*field = given.*field;
  };
  take("--temp", &SampleOptions::temperature);
  take("--top-k", &SampleOptions::top_k);
  take("--top-p", &SampleOptions::top_p);
  take("--min-p", &SampleOptions::min_p);
  take("--repeat-penalty", &SampleOptions::repeat_penalty);
  take("--repeat-last-n", &SampleOptions::repeat_last_n);
  take("--seed", &SampleOptions::seed);
  return saved;
}

}  // namespace kvass
