#include "cli/sampling_flags.h"

#include <charconv>
#include <cmath>
#include <string>

#include "cli/command.h"
#include "cli/fields.h"

namespace kvass {
namespace {

// ID+B or ID-B, as in 15+1.5, 15-100 and 15-inf; empty: it is another text.
std::optional<LogitBias> parse_bias(std::string_view text) {
  LogitBias bias;
  const char* const end = text.data() + text.size();
  const auto [sign, wrong_id] = std::from_chars(text.data(), end, bias.id);
  if (wrong_id != std::errc() || sign == end || (*sign != '+' && *sign != '-')) return std::nullopt;
  const auto [rest, wrong] = std::from_chars(sign + 1, end, bias.bias);
  if (wrong != std::errc() || rest != end || std::isnan(bias.bias) || std::signbit(bias.bias)) return std::nullopt;
  if (*sign == '-') bias.bias = -bias.bias;
  return bias;
}

}  // namespace

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
  command
      .add_option_function<std::vector<std::string>>(
          flags_of("SampleOptions.logit_bias"),
          [&options](const std::vector<std::string>& texts) {
            options.logit_bias.clear();
            for (const std::string& text : texts) {
              const std::optional<LogitBias> bias = parse_bias(text);
              if (!bias)
                throw CLI::ValidationError("--logit-bias", "expected ID+B or ID-B, got '" + one_line(text) + "'");
              options.logit_bias.push_back(*bias);
            }
          },
          "Add B to the logit of token ID, as in 15+1.5 or 15-inf (never); may be given again")
      ->type_name("ID+B")
      ->group("Sampling")
      ->allow_extra_args(false);
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
  take(flag_of("SampleOptions.logit_bias"), &SampleOptions::logit_bias);
  return saved;
}

}  // namespace kvass
