#include "cli/sampling_flags.h"

#include "cli/fields.h"

namespace kvass {

void add_sampling_flags(CLI::App& command, SampleOptions& options) {
  const auto sampling = [&](const std::string& name, auto& value, const char* type, const char* what) {
    command.add_option(name, value, what)->type_name(type)->group("Sampling")->capture_default_str();
  };
  sampling(flags_of("SampleOptions.temperature"), options.temperature, "T",
           "Logits are divided by this; 0 takes the most likely token");
  sampling(flags_of("SampleOptions.top_k"), options.top_k, "K", "Draw from the K most likely tokens; 0: from all");
  sampling(flags_of("SampleOptions.top_p"), options.top_p, "P",
           "Draw from the fewest tokens that are P likely together; 1: from all");
  sampling(flags_of("SampleOptions.min_p"), options.min_p, "P",
           "Draw from tokens at least P times as likely as the most likely one; 0: all");
  sampling(flags_of("SampleOptions.repeat_penalty"), options.repeat_penalty, "R",
           "Makes recent tokens less likely; 1: does not");
  sampling(flags_of("SampleOptions.repeat_last_n"), options.repeat_last_n, "TOKENS", "How many tokens are recent");
  sampling(flags_of("SampleOptions.seed"), options.seed, "N", "The same seed draws the same text");
}

SampleOptions resumed_sampling(const CLI::App& command, const SampleOptions& given, SampleOptions saved) {
  const auto take = [&](const std::string& name, auto SampleOptions::*field) {
    if (command.get_option(name)->count() > 0) saved.*field = given.*field;
  };
  take(flag_of("SampleOptions.temperature"), &SampleOptions::temperature);
  take(flag_of("SampleOptions.top_k"), &SampleOptions::top_k);
  take(flag_of("SampleOptions.top_p"), &SampleOptions::top_p);
  take(flag_of("SampleOptions.min_p"), &SampleOptions::min_p);
  take(flag_of("SampleOptions.repeat_penalty"), &SampleOptions::repeat_penalty);
  take(flag_of("SampleOptions.repeat_last_n"), &SampleOptions::repeat_last_n);
  take(flag_of("SampleOptions.seed"), &SampleOptions::seed);
  return saved;
}

}  // namespace kvass
