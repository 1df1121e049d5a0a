// kvass run: text from a prompt, as it comes.
#include <fmt/format.h>

#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>

#include "app/generate.h"
#include "app/plan.h"
#include "cli/command.h"

namespace kvass {
namespace {

struct RunFlags {
  std::string model;
  std::string prompt;
  std::string prompt_file;
  std::string dash;
  int64_t tokens = std::numeric_limits<int64_t>::max();
  bool endless = false;
  bool ignore_eos = false;
  std::vector<std::string> stops;
  SampleOptions sampling;
  bool json = false;
  bool quiet = false;
  StreamFlags stream;
};

Result<std::string> prompt_text(const RunFlags& flags) {
  if (!flags.dash.empty()) return read_text("-");
  if (!flags.prompt_file.empty()) return read_text(flags.prompt_file);
  return flags.prompt;
}

Result<std::vector<int32_t>> prompt_ids(const RunFlags& flags, const Tokenizer& tokenizer) {
  KVASS_ASSIGN_OR_RETURN(const std::string text, prompt_text(flags));
  std::vector<int32_t> ids = tokenizer.encode(text, {.bos = tokenizer.add_bos(), .parse_special = true});
  if (ids.empty()) return bad_input("prompt", "at least one token", "an empty one (give -p TEXT, -f FILE or -)");
  return ids;
}

nlohmann::json result_json(const GenerateOptions& options, const GenerateResult& result, const MemoryPlan& plan) {
  return {{"prompt_ids", options.prompt},
          {"ids", result.ids},
          {"text", result.text},
          {"stats",
           {{"prefill_tps", result.prefill_tps()},
            {"decode_tps", result.decode_tps()},
            {"allocated_bytes", plan.total_bytes()},
            {"arena_bytes", plan.arena_bytes},
            {"cache_bytes", plan.cache_bytes},
            {"peak_rss_bytes", peak_rss_bytes()},
            {"stop_reason", stop_reason_name(result.reason)}}}};
}

void print_summary(const GenerateResult& result, const MemoryPlan& plan) {
  fmt::print(stderr,
             "kvass: {} tokens ({} prompt + {} generated), prefill {:.1f} tokens/s, decode {:.1f} tokens/s, cache {}, "
             "peak memory {}{}\n",
             result.prompt_tokens + result.tokens, result.prompt_tokens, result.tokens, result.prefill_tps(),
             result.decode_tps(), human_bytes(plan.cache_bytes), human_bytes(peak_rss_bytes()),
             result.reason == StopReason::cancelled ? ", interrupted" : "");
}

Status run(RunFlags& flags) {
  if (flags.endless) flags.stream.set_endless();
  const std::atomic<bool>& cancel = cancelled();
  KVASS_ASSIGN_OR_RETURN(const StreamOptions stream_options, flags.stream.resolve());
  KVASS_RETURN_IF_ERROR(validate(flags.sampling));
  KVASS_ASSIGN_OR_RETURN(const OpenModel model, open_model(flags.model, stream_options.math, stream_options.threads));
  GenerateOptions options;
  KVASS_ASSIGN_OR_RETURN(options.prompt, prompt_ids(flags, *model.tokenizer));
  options.max_tokens = flags.tokens;
  options.ignore_eos = flags.ignore_eos || flags.endless;
  options.stops = flags.stops;
  options.sampling = flags.sampling;
  options.collect = flags.json;
  KVASS_ASSIGN_OR_RETURN(Stream stream, open_stream(model, stream_options, /*head_rows=*/1));
  const MemoryPlan plan = plan_of(model, stream);
  if (!flags.quiet && !flags.json) fmt::print(stderr, "{}", plan_line(plan));

  bool writable = true;
  const auto show = [&](std::string_view text) {
    if (flags.json) return true;
    writable = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
    return writable;
  };
  KVASS_ASSIGN_OR_RETURN(const GenerateResult result, generate(model, stream, options, show, cancel));
  if (flags.json) {
    KVASS_RETURN_IF_ERROR(print_json(result_json(options, result, plan)));
  } else if (writable) {
    show("\n");
  }
  if (!flags.quiet && !flags.json) print_summary(result, plan);
  return result.reason == StopReason::cache_full ? Status::error(result.error) : Status();
}

}  // namespace

CommandAction add_run(CLI::App& command) {
  auto flags = std::make_shared<RunFlags>();
  command.description("Generate text from a prompt");
  command.footer(
      "Text goes to stdout as it comes, the memory plan and a summary to stderr.\n"
      "Examples:\n"
      "  kvass run model.gguf -p \"The sea\" -n 200 --temp 0.8 --top-p 0.95 --seed 7\n"
      "  kvass run model.gguf -f prompt.txt --attention-sink 4,508 --context 512 -n 20000 --ignore-eos");
  command.add_option("MODEL", flags->model, "A GGUF file")->required();
  command.add_option("DASH", flags->dash, "- reads the prompt from stdin")->check(CLI::IsMember({"-"}))->type_name("-");
  command.add_option("-p,--prompt", flags->prompt, "The prompt; <special> tokens in it are parsed")->type_name("TEXT");
  command.add_option("-f,--file", flags->prompt_file, "A file with the prompt")->type_name("FILE")->excludes("-p");
  command.add_option("-n,--tokens", flags->tokens, "Tokens to generate (default: until the model ends its text)")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber);
  command.add_flag("--endless", flags->endless, "Never stop: --ignore-eos, and sinks 4,context-4 unless they are given");
  command.add_flag("--ignore-eos", flags->ignore_eos, "Go on after an end-of-generation token");
  command.add_option("--stop", flags->stops, "End before this text; may be given again")->type_name("TEXT")->allow_extra_args(false);
  command.add_option("--temp", flags->sampling.temperature, "Temperature; 0 takes the likeliest token")->capture_default_str();
  command.add_option("--top-k", flags->sampling.top_k, "Sample from the K likeliest tokens; 0: all")->capture_default_str();
  command.add_option("--top-p", flags->sampling.top_p, "… from the fewest that reach this probability; 1: all")->capture_default_str();
  command.add_option("--min-p", flags->sampling.min_p, "… from those at least this likely relative to the likeliest; 0: all")
      ->capture_default_str();
  command.add_option("--repeat-penalty", flags->sampling.repeat_penalty, "Penalty of recent tokens; 1: none")->capture_default_str();
  command.add_option("--repeat-last-n", flags->sampling.repeat_last_n, "How many tokens are recent")->capture_default_str();
  command.add_option("--seed", flags->sampling.seed, "Seed of the sampler; same seed, same text")->capture_default_str();
  command.add_flag("--json", flags->json, "One JSON object instead of text");
  command.add_flag("-q,--quiet", flags->quiet, "No plan and no summary");
  flags->stream.add(command);
  return [flags] { return run(*flags); };
}

}  // namespace kvass
