// kvass run: text from a prompt, as it comes.
#include <unistd.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "app/generate.h"
#include "app/plan.h"
#include "cli/command.h"
#include "cli/config.h"
#include "cli/fields.h"
#include "cli/model_flags.h"
#include "cli/progress.h"
#include "cli/prompts.h"
#include "cli/sampling_flags.h"
#include "cli/signals.h"
#include "cli/snapshot_flags.h"
#include "cli/stream_flags.h"

namespace kvass {
namespace {

struct RunFlags {
  const CLI::App* command = nullptr;
  std::string model;
  std::string prompt;
  std::string prompt_file;
  std::string dash;
  std::string prompts;
  int64_t tokens = std::numeric_limits<int64_t>::max();
  bool skip_empty = false;
  bool ignore_eos = false;
  std::vector<std::string> stops;
  SampleOptions sampling;
  bool json = false;
  bool quiet = false;
  StreamFlags stream;
  ModelFlags weights;
  SnapshotFlags snapshots;

  bool talks() const { return !quiet && !json; }
};

Result<std::string> prompt_text(const RunFlags& flags) {
  if (!flags.dash.empty()) return read_text("-");
  if (!flags.prompt_file.empty()) return read_text(flags.prompt_file);
  return flags.prompt;
}

// `resumed`: the prompt goes on from what is there, or there is none.
Result<std::vector<int32_t>> prompt_ids(const RunFlags& flags, const Tokenizer& tokenizer, bool resumed) {
  KVASS_ASSIGN_OR_RETURN(const std::string text, prompt_text(flags));
  if (!flags.quiet && !resumed) warn_of_bos(tokenizer, text);
  const TextPart part{text, /*parse_special=*/true};
  std::vector<int32_t> ids = tokenizer.encode_parts(std::span(&part, 1), !resumed && tokenizer.add_bos(), resumed);
  if (ids.empty() && !resumed)
    return bad_input("prompt", "at least one token", "an empty one (give -p TEXT, -f FILE or -)");
  return ids;
}

nlohmann::json result_json(const DecodeOptions& options, const DecodeResult& result, const MemoryPlan& plan,
                           int64_t length) {
  return {{"prompt_ids", options.prompt},
          {"ids", result.ids},
          {"text", result.text},
          {"stats",
           {{"prefill_tps", result.prefill_tps()},
            {"decode_tps", result.decode_tps()},
            {"allocated_bytes", plan.total_bytes()},
            {"arena_bytes", plan.arena_bytes},
            {"weight_bytes", plan.weight_bytes},
            {"cache_bytes", plan.caches.bytes},
            {"peak_rss_bytes", peak_rss_bytes()},
            {"length", length},
            {"seed", options.sampling.seed},
            {"stop_reason", stop_reason_name(result.reason)}}}};
}

void say_summary(const DecodeOptions& options, const DecodeResult& result, const MemoryPlan& plan, bool output_closed,
                 const std::string& saved) {
  const char* end = output_closed ? ", output closed" : result.reason == StopReason::cancelled ? ", interrupted" : "";
  say("kvass: {} tokens ({} prompt + {} generated), prefill {:.1f} tokens/s, decode {:.1f} tokens/s, cache {}, "
      "peak memory {}, seed {}{}{}\n",
      result.prompt_tokens + result.tokens, result.prompt_tokens, result.tokens, result.prefill_tps(),
      result.decode_tps(), human_bytes(plan.caches.bytes), human_bytes(peak_rss_bytes()), options.sampling.seed, end,
      saved);
}

// Whether a flag or argument reads the text of stdin.
bool reads_stdin(const RunFlags& flags) {
  return !flags.dash.empty() || flags.prompt_file == "-" || flags.prompts == "-";
}
Status check_stdin(const RunFlags& flags) {
  if (reads_stdin(flags) || !stdin_has_text()) return {};
  return bad_input("stdin", "nothing, or - as the prompt (-f - or --prompts -), which reads it",
                   "text that nothing reads");
}

// The stream and the text of a snapshot, where flags do not say otherwise. `options` refers to `state` from then on.
Status go_on_from(const SnapshotInfo& info, const RunFlags& flags, StreamOptions& stream, StreamState& state,
                  DecodeOptions& options) {
  if (info.state.is_chat()) {
    return bad_input("--resume", "a text, as `kvass run --save` writes",
                     "a conversation, which `kvass chat` goes on with");
  }
  KVASS_RETURN_IF_ERROR(flags.stream.check_resumed(info.caches, info.math));
  stream = options_of(info.caches, info.math, stream);
  state = info.state;
  options.resume = &state;
  options.ignore_eos = options.ignore_eos || state.ignore_eos;
  if (options.stops.empty()) options.stops = state.stops;
  options.sampling = resumed_sampling(*flags.command, flags.sampling, state.sampling);
  return validate(options.sampling);
}

Status run_lines(const RunFlags& flags, ModelFile file, const WeightOptions& weights, const StreamOptions& stream) {
  DecodeOptions generation;
  generation.max_tokens = flags.tokens;
  generation.ignore_eos = flags.ignore_eos || stream.endless;
  generation.stops = flags.stops;
  generation.sampling = flags.sampling;
  return run_prompts({std::move(file), weights, flags.prompts, stream, flags.stream.sequences_given(),
                      std::move(generation), flags.skip_empty ? EmptyLines::skipped : EmptyLines::refused,
                      flags.talks(), !flags.quiet});
}

Status run(RunFlags& flags) {
  if (flags.tokens == -1) flags.tokens = std::numeric_limits<int64_t>::max();
  if (flags.tokens < 0) return bad_input("-n", "0 or more tokens, or -1 for no limit", std::to_string(flags.tokens));
  KVASS_RETURN_IF_ERROR(check_stdin(flags));
  KVASS_ASSIGN_OR_RETURN(const WeightOptions weights, flags.weights.resolve(flags.quiet));
  KVASS_ASSIGN_OR_RETURN(ModelFile file, ModelFlags::open(flags.model, flags.quiet));
  KVASS_ASSIGN_OR_RETURN(StreamOptions stream_options, flags.stream.resolve(file.stream_options()));
  KVASS_RETURN_IF_ERROR(validate(flags.sampling));
  if (!flags.prompts.empty()) return run_lines(flags, std::move(file), weights, stream_options);
  if (flags.stream.sequences_given()) return bad_input("--sequences", "--prompts FILE beside it", "none");
  KVASS_RETURN_IF_ERROR(flags.snapshots.check(flags.json));
  KVASS_ASSIGN_OR_RETURN(std::optional<Snapshot> resumed, flags.snapshots.resumed());
  DecodeOptions options;
  options.ignore_eos = flags.ignore_eos || stream_options.endless;
  options.stops = flags.stops;
  options.sampling = flags.sampling;
  StreamState state;
  if (resumed) KVASS_RETURN_IF_ERROR(go_on_from(resumed->info(), flags, stream_options, state, options));
  KVASS_RETURN_IF_ERROR(check_memory_limit(file, stream_options, /*head_rows=*/1, weights));
  KVASS_ASSIGN_OR_RETURN(const OpenModel model,
                         open_model(std::move(file), stream_options.arithmetic(), stream_options.threads, weights));
  KVASS_RETURN_IF_ERROR(check_stdin(flags));  // what is written to it may have come only now
  KVASS_ASSIGN_OR_RETURN(options.prompt, prompt_ids(flags, *model.tokenizer, resumed.has_value()));
  options.max_tokens = flags.tokens;
  options.collect = flags.json;
  KVASS_ASSIGN_OR_RETURN(OpenStream stream, open_stream(model, stream_options, /*head_rows=*/1));
  if (!flags.quiet) warn_of_context(stream.sequence->options(), model.trained_context);
  if (resumed) KVASS_RETURN_IF_ERROR(resumed->restore(*stream.sequence));
  resumed.reset();  // its file may be a gigabyte of page cache
  flags.snapshots.arrange(options, *stream.sequence);
  const MemoryPlan plan = plan_of(model, stream);
  const std::atomic<bool>& cancel = cancelled();
  if (flags.talks()) write_stderr(plan_line(plan));

  bool writable = true;
  char last = '\n';
  const auto show = [&](std::string_view text) {
    if (flags.json) return true;
    last = text.back();
    return writable = show_stdout(text);
  };
  Progress progress("tokens of the prompt");
  const auto on_prompt = [&](int64_t done) {
    if (flags.talks()) progress.show(done, static_cast<int64_t>(options.prompt.size()));
    return true;
  };
  const auto on_text = [&](std::string_view text) {
    progress.end();
    return show(text);
  };
  KVASS_ASSIGN_OR_RETURN(const DecodeResult result, generate(model, stream, options, on_text, cancel, on_prompt));
  progress.end();
  if (flags.json)
    writable = write_stdout(json_text(result_json(options, result, plan, stream.sequence->length())) + "\n") &&
               show_stdout("");
  Status saved;
  std::string saved_text;
  // As JSON the text is whole or worth nothing: what is not delivered is not saved.
  if (flags.snapshots.saves() && (writable || !flags.json)) {
    saved = flags.snapshots.save(*stream.sequence, result.state);
    saved_text = saved.ok() ? fmt::format(", saved at position {}", stream.sequence->length()) : ", not saved";
  }
  // The shell's prompt begins on a line of its own; what a saved stream gives is put together with what follows.
  const bool ends_line = !flags.snapshots.saves() || ::isatty(STDOUT_FILENO) == 1;
  if (!flags.json && writable && last != '\n' && ends_line) writable = show_stdout("\n");
  if (flags.talks()) say_summary(options, result, plan, !writable, saved_text);
  if (!flags.quiet && !reads_stdin(flags) && stdin_has_text())
    say("kvass: warning: stdin had text only after the prompt was read; nothing has read it (- or -f - would)\n");
  KVASS_RETURN_IF_ERROR(saved);
  KVASS_RETURN_IF_ERROR(flush_stdout());
  if (result.reason == StopReason::cancelled) {
    return Status::error(StatusCode::cancelled,
                         fmt::format("run: interrupted after {} tokens of the prompt and {} generated{}",
                                     result.prompt_tokens, result.tokens, saved_text));
  }
  return result.status;
}

}  // namespace

CommandAction add_run(CLI::App& command) {
  auto flags = std::make_shared<RunFlags>();
  flags->command = &command;
  command.description("Generate text from a prompt, as long as it may be");
  command.footer(
      "Text goes to stdout as it comes; the memory plan and a summary go to stderr. Without a prompt the model\n"
      "begins a text of its own. Ctrl-C ends the stream with its summary, and the exit code 130.\n"
      "Examples:\n"
      "  kvass run model.gguf -p \"The sea\" -n 200 --temp 0.8 --top-p 0.95 --seed 7\n"
      "  kvass run model.gguf --prompts prompts.txt --sequences 16 -n 100 > answers.jsonl\n"
      "  kvass run model.gguf -f prompt.txt --attention-sink 4,508 -n 20000 --ignore-eos\n"
      "  kvass run model.gguf -p \"Log:\" --endless --save log.kvsnap --save-every 10000\n"
      "  kvass run model.gguf --resume log.kvsnap --save log.kvsnap\n"
      "With --resume a prompt is appended; without one the text goes on.");
  ModelFlags::add_model(command, flags->model)->required();
  CLI::Option* dash = command.add_option("STDIN", flags->dash, "- reads the prompt from stdin")->type_name("");
  dash->check([](const std::string& text) { return text == "-" ? "" : "expected -, got '" + text + "'"; });

  std::string group = "Prompt";
  CLI::Option* prompt = command.add_option("-p,--prompt", flags->prompt, "The prompt; control tokens in it are parsed")
                            ->type_name("TEXT")
                            ->group(group)
                            ->excludes(dash);
  CLI::Option* file = command.add_option("-f,--file", flags->prompt_file, "A file with the prompt; - is stdin")
                          ->type_name("FILE")
                          ->group(group)
                          ->excludes(prompt)
                          ->excludes(dash);

  command
      .add_option("--prompts", flags->prompts,
                  "A file with one prompt a line; - is stdin. One JSON line each, in their order; prompt i of 0, 1, …\n"
                  "gives what -p gives with --seed + i")
      ->type_name("FILE")
      ->group(group)
      ->excludes(prompt)
      ->excludes(file)
      ->excludes(dash);

  command.add_flag("--skip-empty", flags->skip_empty, "Pass over empty lines of --prompts; they are not counted")
      ->group(group)
      ->needs(command.get_option("--prompts"));

  group = "End of the text";
  command
      .add_option(flags_of("GenerateOptions.max_tokens"), flags->tokens,
                  "Tokens to generate; 0 runs the prompt only (default, and -1: no limit)")
      ->type_name("TOKENS")
      ->group(group);
  command.add_flag(flags_of("GenerateOptions.ignore_eos"), flags->ignore_eos, "Go on after an end-of-generation token")
      ->group(group);
  command.add_option(flags_of("GenerateOptions.stops"), flags->stops, "End before this text; may be given again")
      ->type_name("TEXT")
      ->allow_extra_args(false)
      ->group(group);

  flags->stream.add(command);
  flags->stream.add_memory_limit(command);
  flags->stream.add_sequences(command,
                              "With --prompts: sequences that advance together (default: 8, or as many as prompts)");
  flags->weights.add(command);
  flags->weights.add_device(command);
  flags->snapshots.add(command);
  flags->snapshots.add_every(command);
  for (const char* name : {"--save", "--save-every", "--resume"}) {
    command.get_option(name)->excludes(command.get_option("--prompts"));
  }
  add_config(command);

  add_sampling_flags(command, flags->sampling);

  group = "Output";
  command.add_flag("--json", flags->json, "One JSON object at the end instead of text")->group(group);
  command.add_flag("-q,--quiet", flags->quiet, "No memory plan and no summary")->group(group);
  return [flags] { return run(*flags); };
}

}  // namespace kvass
