// kvass chat: a conversation, line by line.
#include "app/chat.h"

#include <unistd.h>

#include <nlohmann/json.hpp>

#include "app/plan.h"
#include "cli/command.h"
#include "cli/config.h"
#include "cli/fields.h"
#include "cli/model_flags.h"
#include "cli/print_prompt.h"
#include "cli/sampling_flags.h"
#include "cli/signals.h"
#include "cli/snapshot_flags.h"
#include "cli/stream_flags.h"
#include "cli/turns.h"

namespace kvass {
namespace {

struct ChatFlags {
  const CLI::App* command = nullptr;
  std::string model;
  ChatOptions chat;
  bool no_endless = false;
  bool json = false;
  bool quiet = false;
  StreamFlags stream;
  SnapshotFlags snapshots;
  ModelFlags weights;
  PrintPromptFlags prompt;

  bool talks() const { return !quiet && !json; }
};

// Saves the conversation as it is now, if it is to be saved.
Status save(const Conversation& chat, const OpenStream& stream, const ChatFlags& flags) {
  return flags.snapshots.saves() ? flags.snapshots.save(*stream.sequence, chat.state()) : Status();
}

// One answer on stdout, to its end, and the conversation after it saved: `user` is its turn; none: the rest of an
// answer that was suspended. False where the conversation cannot go on.
Result<bool> answer(Conversation& chat, const OpenStream& stream, const ChatFlags& flags,
                    std::optional<std::string_view> user) {
  const std::vector<int32_t> prompt = user ? chat.prompt(*user) : std::vector<int32_t>();
  bool writable = true;
  const int64_t answered = user ? 0 : chat.answered();
  const std::string before = user ? std::string() : chat.last_piece();
  char last = before.empty() ? '\n' : before.back();
  const auto show = [&](std::string_view text) {
    if (flags.json) return true;
    last = text.back();
    return writable = show_stdout(text);
  };
  // What nobody keeps need not be left in its middle.
  const AnswerOptions how{flags.snapshots.saves() ? &Interrupts::quit() : nullptr, undelivered_stdout};
  Interrupts::begin_answer();
  const Result<DecodeResult> result =
      user ? chat.answer(prompt, show, Interrupts::stop(), how) : chat.go_on(show, Interrupts::stop(), how);
  Interrupts::end_answer();
  if (!result.ok()) return result.status();
  if (flags.json) {
    writable = show_stdout(json_text({{"turn", chat.turns()},
                                      {"prompt_ids", prompt},
                                      {"ids", result->ids},
                                      {"text", result->text},
                                      {"reason", stop_reason_name(result->reason)}}) +
                           "\n");
    if (!writable) return false;  // an answer that is not delivered is not saved
  } else if (!result->suspended) {
    const bool refused_before = !writable;
    const bool ends_line = last != '\n' || answered + result->tokens == 0;
    const std::string_view line = ends_line ? "\n" : "";
    if (writable) writable = show_stdout(line);
    // The answer is complete, but its very end did not come out: an incomplete character, or the end of the line.
    if (!writable) chat.owe(std::string(undelivered_stdout()) + std::string(refused_before ? line : ""));
  }
  KVASS_RETURN_IF_ERROR(save(chat, stream, flags));
  if (result->reason == StopReason::cache_full) return result->status;
  return writable && !result->suspended;
}

Status converse(Conversation& chat, const OpenStream& stream, const ChatFlags& flags) {
  const bool prompts = !flags.json && ::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1;
  if (const std::string owed = chat.take_owed(); !flags.json && !show_stdout(owed)) {
    chat.owe(undelivered_stdout());
    return save(chat, stream, flags);
  }
  if (chat.suspended()) {
    KVASS_ASSIGN_OR_RETURN(const bool more, answer(chat, stream, flags, std::nullopt));
    if (!more) return {};
  }
  LineReader lines;
  while (!Interrupts::quit().load(std::memory_order_relaxed)) {
    if (prompts && !show_stdout("> ")) return {};
    KVASS_ASSIGN_OR_RETURN(const std::optional<std::string> line, lines.next());
    if (!line) {
      if (prompts) show_stdout("\n");
      return {};
    }
    if (*line == "/exit") return {};
    if (*line == "/clear") {
      KVASS_RETURN_IF_ERROR(chat.clear());
      KVASS_RETURN_IF_ERROR(save(chat, stream, flags));
      continue;
    }
    if (line->empty()) continue;
    KVASS_ASSIGN_OR_RETURN(const bool more, answer(chat, stream, flags, *line));
    if (!more) return {};
  }
  return {};
}

Status run(ChatFlags& flags) {
  if (flags.prompt.print) return print_prompt(flags.prompt, flags.model, flags.chat.system, flags.json);
  KVASS_ASSIGN_OR_RETURN(const WeightOptions weights, flags.weights.resolve());
  KVASS_ASSIGN_OR_RETURN(ModelFile file, ModelFile::open(flags.model));
  KVASS_ASSIGN_OR_RETURN(StreamOptions stream_options, flags.stream.resolve(file.stream_options()));
  stream_options.endless = !flags.no_endless;
  ChatOptions options = flags.chat;
  options.collect = flags.json;
  KVASS_RETURN_IF_ERROR(flags.snapshots.check(flags.json));
  KVASS_ASSIGN_OR_RETURN(const std::optional<Snapshot> resumed, flags.snapshots.resumed());
  if (resumed) {
    const SnapshotInfo& info = resumed->info();
    if (info.state.chat_template.empty()) {
      return bad_input("--resume", "a conversation, as `kvass chat --save` writes",
                       "a text, which `kvass run` goes on with");
    }
    KVASS_RETURN_IF_ERROR(flags.stream.check_resumed(info.caches, info.math));
    stream_options = options_of(info.caches, info.math, stream_options);
    options.sampling = resumed_sampling(*flags.command, options.sampling, info.state.sampling);
  }
  KVASS_RETURN_IF_ERROR(validate(options.sampling));
  KVASS_ASSIGN_OR_RETURN(const OpenModel model,
                         open_model(std::move(file), stream_options.arithmetic(), stream_options.threads, weights));
  if (!resumed) {
    KVASS_ASSIGN_OR_RETURN(stream_options.endless_sink_tokens, opening_tokens(model, options));
  }
  KVASS_ASSIGN_OR_RETURN(OpenStream stream, open_stream(model, stream_options, /*head_rows=*/1));
  if (resumed) KVASS_RETURN_IF_ERROR(resumed->restore(*stream.sequence));
  KVASS_ASSIGN_OR_RETURN(Conversation chat, resumed
                                                ? Conversation::resume(model, stream, options, resumed->info().state)
                                                : Conversation::create(model, stream, options));
  Interrupts::watch();
  if (flags.talks()) {
    write_stderr(plan_line(plan_of(model, stream)));
    say("kvass: chat template {}; /clear begins again, /exit or the end of input ends\n", chat.style().name());
  }
  KVASS_RETURN_IF_ERROR(converse(chat, stream, flags));
  KVASS_RETURN_IF_ERROR(flush_stdout());
  if (!Interrupts::quit().load(std::memory_order_relaxed)) return {};
  return Status::error(StatusCode::cancelled, fmt::format("chat: interrupted after {} turns{}", chat.turns(),
                                                          chat.suspended() ? ", the last one not at its end" : ""));
}

}  // namespace

CommandAction add_chat(CLI::App& command) {
  auto flags = std::make_shared<ChatFlags>();
  flags->command = &command;
  command.description("Talk with a chat model, as long as you like");
  command.footer(
      "Each line of stdin is a turn. The history stays in the caches, and the conversation has no end by default: the\n"
      "system text stays in sight for ever, and of what follows the latest tokens (--attention-sink S,W sets other\n"
      "sizes). Ctrl-C ends an answer, at the prompt the program. /clear begins a new conversation, /exit ends.\n"
      "--save keeps the conversation in a file, after every answer; --resume goes on with it.\n"
      "Examples:\n"
      "  kvass chat model.gguf --system \"Answer in one sentence.\"\n"
      "  kvass chat model.gguf --save talk.kvsnap\n"
      "  kvass chat model.gguf --temp 0.7 --top-p 0.9 --context 8192\n"
      "  printf 'Hello\\nAnd now in French\\n' | kvass chat model.gguf -n 100 --json");
  command.add_option("MODEL", flags->model, "A GGUF or .kvp file of a chat model")->required()->type_name("");

  const std::string group = "Conversation";
  command.add_option(flags_of("ChatOptions.system"), flags->chat.system, "The system text, before the first turn")
      ->type_name("TEXT")
      ->group(group);
  command
      .add_option(flags_of("ChatOptions.template_name"), flags->chat.template_name,
                  "How turns are marked; a wrong name lists the known ones (default: the model's own)")
      ->type_name("NAME")
      ->group(group);
  command
      .add_option(flags_of("ChatOptions.max_tokens"), flags->chat.max_tokens,
                  "Tokens of one answer at most (default: no limit)")
      ->type_name("TOKENS")
      ->group(group);
  CLI::Option* no_endless =
      command
          .add_flag("--no-endless", flags->no_endless,
                    "End with an error when the context is full, instead of forgetting the middle")
          ->group(group);

  flags->prompt.add(command);
  flags->stream.add(command);
  flags->snapshots.add(command);
  for (const char* name : {"--system", "--chat-template"}) {
    command.get_option("--resume")->excludes(command.get_option(name));
  }
  flags->weights.add(command);
  flags->weights.add_device(command);
  add_config(command);
  no_endless->excludes(command.get_option("--endless"))->excludes(command.get_option("--attention-sink"));
  add_sampling_flags(command, flags->chat.sampling);

  command.add_flag("--json", flags->json, "One JSON line per answer instead of text")->group("Output");
  command.add_flag("-q,--quiet", flags->quiet, "No memory plan and no hint")->group("Output");
  flags->prompt.exclude_others(command);
  return [flags] { return run(*flags); };
}

}  // namespace kvass
