// kvass chat: a conversation, line by line.
#include "app/chat.h"

#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "app/decode_loop.h"
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
  TemplateFlags style;
  PrintPromptFlags prompt;

  bool talks() const { return !quiet && !json; }
};

// A conversation with the person at stdin.
class Talk {
 public:
  Talk(Conversation& chat, const OpenModel& model, const OpenStream& stream, const ChatFlags& flags)
      : chat_(chat),
        model_(model),
        stream_(stream),
        flags_(flags),
        terminal_(!flags.json && ::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1) {}

  Status run();
  void say_stats() const;
  // A script is to see by the exit code that answers are not whole; a person has seen it.
  Status whole() const {
    if (terminal_ || interrupted_ == 0) return {};
    return Status::error(StatusCode::cancelled, fmt::format("chat: interrupted in {} of its answers", interrupted_));
  }

 private:
  Result<ChatTurn> turn_of(std::string_view user) const;
  Result<bool> bring(std::string_view user);
  // What was asked for cannot be done, and the conversation is as before: a person may ask for something else, a script
  // that is wrong ends.
  Result<bool> refuse(const Status& why) const;
  Result<bool> answer(std::optional<ChatTurn> turn);
  Result<bool> command(std::string_view line);
  void warn_of(std::string_view user) const;
  Status save(const std::string& path) const;
  // Saves the conversation as it is now, if it is to be saved.
  Status save() const { return flags_.snapshots.saves() ? save(flags_.snapshots.save_path()) : Status(); }

  Conversation& chat_;
  const OpenModel& model_;
  const OpenStream& stream_;
  const ChatFlags& flags_;
  const bool terminal_;
  double last_tps_ = 0.0;    // of the last answer
  int64_t interrupted_ = 0;  // answers that SIGINT ended, and the conversation went on
};

struct ChatCommand {
  std::string_view name, argument, text;
};
constexpr ChatCommand kChatCommands[] = {{"/clear", "", "begin a new conversation"},
                                         {"/exit", "", "end, as the end of input does"},
                                         {"/help", "", "this list"},
                                         {"/save", "[FILE]", "save the conversation, to be gone on with by --resume"},
                                         {"/stats", "", "turns, tokens, speed, memory and seed"}};

std::string chat_command_names() {
  std::string names;
  for (const ChatCommand& one : kChatCommands) names += (names.empty() ? "" : ", ") + std::string(one.name);
  return names;
}

void say_help() {
  for (const ChatCommand& one : kChatCommands) {
    say("  {:14} {}\n", std::string(one.name) + (one.argument.empty() ? "" : " ") + std::string(one.argument),
        one.text);
  }
  say("  {:14} a text of several lines\n", "\"\"\" … \"\"\"");
}

// What a person types is text: here it looks like more than that.
void Talk::warn_of(std::string_view user) const {
  if (flags_.quiet || !model_.tokenizer->begins_with_bos(user)) return;
  const std::string_view bos = model_.tokenizer->piece(model_.tokenizer->bos(), /*show_control=*/true);
  say("kvass: warning: the text begins with {}, which is sent as it is written; the conversation has begun already\n",
      bos);
}

Status Talk::save(const std::string& path) const {
  // The file of --save is this process's already.
  std::error_code ignored;
  const bool own =
      flags_.snapshots.saves() && (path == flags_.snapshots.save_path() ||
                                   std::filesystem::equivalent(path, flags_.snapshots.save_path(), ignored));
  if (own) return flags_.snapshots.save(*stream_.sequence, chat_.state());
  return save_snapshot(*stream_.sequence, chat_.state(), path);
}

// One answer on stdout, to its end, and the conversation after it saved. No turn: the rest of an answer that was
// suspended. False where the conversation cannot go on.
Result<bool> Talk::answer(std::optional<ChatTurn> turn) {
  const bool begins = turn.has_value();
  const std::vector<int32_t> prompt = begins ? turn->ids : std::vector<int32_t>();
  const int64_t position = begins ? turn->keep : stream_.sequence->length();
  bool writable = true;
  const int64_t answered = begins ? 0 : chat_.answered();
  const std::string before = begins ? std::string() : chat_.last_piece();
  char last = before.empty() ? '\n' : before.back();
  const auto show = [&](std::string_view text) {
    if (flags_.json) return true;
    last = text.back();
    return writable = show_stdout(text);
  };
  // Without --save there is no state to keep, so an answer need not stop where it can be resumed.
  const AnswerOptions how{flags_.snapshots.saves() ? &Interrupts::quit() : nullptr, undelivered_stdout};
  Interrupts::begin_answer();
  const Result<DecodeResult> result = begins ? chat_.answer(std::move(*turn), show, Interrupts::stop(), how)
                                             : chat_.go_on(show, Interrupts::stop(), how);
  Interrupts::end_answer();
  if (!result.ok()) return result.status();
  last_tps_ = result->decode_tps();
  interrupted_ += result->reason == StopReason::cancelled && !Interrupts::quit().load(std::memory_order_relaxed);
  if (flags_.json) {
    writable = show_stdout(json_text({{"turn", chat_.turns()},
                                      {"position", position},
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
    if (!writable) chat_.owe(std::string(undelivered_stdout()) + std::string(refused_before ? line : ""));
  }
  KVASS_RETURN_IF_ERROR(save());
  if (result->reason == StopReason::cache_full) return refuse(result->status);
  return writable && !result->suspended;
}

Result<bool> Talk::refuse(const Status& why) const {
  if (!terminal_) return why;
  say("kvass: {}\n", shown_message(why));
  return true;
}

Result<ChatTurn> Talk::turn_of(std::string_view user) const {
  Result<ChatTurn> made = [&] {
    const Interrupts::AtOnce at_once;  // seconds for a line of many megabytes; the last answer is saved
    return chat_.prompt(user);
  }();
  KVASS_ASSIGN_OR_RETURN(ChatTurn turn, std::move(made));
  KVASS_RETURN_IF_ERROR(check_room(*stream_.sequence, turn.keep, turn.ids.size(), "prompt"));
  return turn;
}

Result<bool> Talk::bring(std::string_view user) {
  warn_of(user);
  Result<ChatTurn> turn = turn_of(user);
  return turn.ok() ? answer(std::move(turn.value())) : refuse(turn.status());
}

void Talk::say_stats() const {
  const Sequence& sequence = *stream_.sequence;
  say("kvass: {} turns, {} tokens, {} of them in sight, last answer {:.1f} tokens/s, seed {}, caches {}, "
      "peak memory {}\n",
      chat_.turns(), sequence.length(), std::min(sequence.length(), sequence.options().context), last_tps_,
      chat_.state().sampling.seed, human_bytes(sequence.cache_bytes()), human_bytes(peak_rss_bytes()));
}

// False where it ends the conversation.
Result<bool> Talk::command(std::string_view line) {
  const size_t space = std::min(line.find(' '), line.size());
  const std::string name(line.substr(0, space));
  const std::string argument(line.substr(std::min(line.find_first_not_of(' ', space), line.size())));
  if (!argument.empty() && name != "/save") {
    for (const ChatCommand& one : kChatCommands) {
      if (one.name == name) return bad_input(name, "nothing after it", "'" + argument + "'");
    }
  }
  if (name == "/exit") return false;
  if (name == "/clear") {
    KVASS_RETURN_IF_ERROR(chat_.clear());
    KVASS_RETURN_IF_ERROR(save());
  } else if (name == "/help") {
    say_help();
  } else if (name == "/stats") {
    say_stats();
  } else if (name == "/save") {
    const std::string path = argument.empty() ? flags_.snapshots.save_path() : argument;
    if (path.empty()) return bad_input("/save", "a file, or --save FILE on the command line", "none");
    KVASS_RETURN_IF_ERROR(save(path));
  } else {
    return bad_input("command", chat_command_names() + " (text that begins so stands between \"\"\" and \"\"\")",
                     "'" + name + "'");
  }
  return true;
}

Status Talk::run() {
  if (const std::string owed = chat_.take_owed(); !flags_.json && !show_stdout(owed)) {
    chat_.owe(undelivered_stdout());
    return save();
  }
  if (chat_.suspended()) {
    KVASS_ASSIGN_OR_RETURN(const bool more, answer(std::nullopt));
    if (!more) return {};
  }
  TurnReader turns(terminal_);
  while (!Interrupts::quit().load(std::memory_order_relaxed)) {
    if (terminal_ && !show_stdout("> ")) return {};
    KVASS_ASSIGN_OR_RETURN(const std::optional<Turn> turn, turns.next());
    if (!turn) {
      if (terminal_) show_stdout("\n");
      return {};
    }
    if (!turn->block && turn->text.starts_with('/')) {
      Result<bool> goes_on = command(turn->text);
      if (!goes_on.ok()) goes_on = refuse(goes_on.status());
      KVASS_RETURN_IF_ERROR(goes_on.status());
      if (!goes_on.value()) return {};
      continue;
    }
    if (turn->text.empty()) continue;
    KVASS_ASSIGN_OR_RETURN(const bool more, bring(turn->text));
    if (!more) return {};
  }
  return {};
}

Status run(ChatFlags& flags) {
  if (flags.prompt.print) return print_prompt(flags.prompt, flags.style, flags.model, flags.chat.system, flags.json);
  KVASS_ASSIGN_OR_RETURN(const WeightOptions weights, flags.weights.resolve(flags.quiet));
  KVASS_ASSIGN_OR_RETURN(ModelFile file, ModelFlags::open(flags.model, flags.quiet));
  KVASS_ASSIGN_OR_RETURN(StreamOptions stream_options, flags.stream.resolve(file.stream_options()));
  stream_options.endless = !flags.no_endless;
  ChatOptions options = flags.chat;
  KVASS_RETURN_IF_ERROR(flags.style.read(options));
  if (!flags.style.template_file.empty() && options.chat_template.empty()) {
    return bad_input(flags.style.template_file, "a chat template", "an empty file");
  }
  if (options.max_tokens == -1) options.max_tokens = ChatOptions().max_tokens;
  options.collect = flags.json;
  KVASS_RETURN_IF_ERROR(flags.snapshots.check(flags.json));
  KVASS_ASSIGN_OR_RETURN(const std::optional<Snapshot> resumed, flags.snapshots.resumed());
  if (resumed) {
    const SnapshotInfo& info = resumed->info();
    if (!info.state.is_chat()) {
      return bad_input("--resume", "a conversation, as `kvass chat --save` writes",
                       "a text, which `kvass run` goes on with");
    }
    if (flags.no_endless && info.caches.sinks) {
      return bad_input("--no-endless", "nothing, or what the snapshot has", "a conversation without end");
    }
    KVASS_RETURN_IF_ERROR(flags.stream.check_resumed(info.caches, info.math));
    stream_options = options_of(info.caches, info.math, stream_options);
    options.sampling = resumed_sampling(*flags.command, options.sampling, info.state.sampling);
    if (options.stops.empty()) options.stops = info.state.stops;
  }
  KVASS_RETURN_IF_ERROR(validate(options.sampling));
  KVASS_RETURN_IF_ERROR(check_memory_limit(file, stream_options, /*head_rows=*/1, weights));
  KVASS_ASSIGN_OR_RETURN(const OpenModel model,
                         open_model(std::move(file), stream_options.arithmetic(), stream_options.threads, weights));
  if (!resumed) {
    KVASS_ASSIGN_OR_RETURN(const StreamOptions given, flags.stream.resolve());
    options.endless = stream_options.endless;
    KVASS_ASSIGN_OR_RETURN(stream_options, conversation_stream(model, options, given));
    stream_options = stream_options.over(model.defaults);
  }
  KVASS_ASSIGN_OR_RETURN(OpenStream stream, open_stream(model, stream_options, /*head_rows=*/1));
  if (!flags.quiet) warn_of_context(stream.sequence->options(), model.trained_context);
  if (resumed) KVASS_RETURN_IF_ERROR(resumed->restore(*stream.sequence));
  KVASS_ASSIGN_OR_RETURN(Conversation chat,
                         resumed ? Conversation::resume(model, stream, options, resumed->info().state, "--resume")
                                 : Conversation::create(model, stream, options));
  Interrupts::watch();
  if (flags.talks()) {
    write_stderr(plan_line(plan_of(model, stream)));
    say("kvass: /help lists the commands; /exit or the end of input ends\n");
  }
  Talk talk(chat, model, stream, flags);
  KVASS_RETURN_IF_ERROR(talk.run());
  if (flags.talks()) talk.say_stats();
  KVASS_RETURN_IF_ERROR(flush_stdout());
  if (!Interrupts::quit().load(std::memory_order_relaxed)) return talk.whole();
  return Status::error(StatusCode::cancelled, fmt::format("chat: interrupted after {} turns{}", chat.turns(),
                                                          chat.suspended() ? ", the last one not at its end" : ""));
}

}  // namespace

CommandAction add_chat(CLI::App& command) {
  auto flags = std::make_shared<ChatFlags>();
  flags->command = &command;
  command.description("Talk with a chat model, as long as you like");
  command.footer(
      "Each line of stdin is a turn, or what stands between \"\"\" and \"\"\". The history stays in the caches, and "
      "the conversation has no end by default: the\n"
      "system text stays in sight for ever, and of what follows the latest tokens (--attention-sink S,W sets other\n"
      "sizes). Ctrl-C ends an answer, at the prompt the program. /help lists the commands.\n"
      "--save keeps the conversation in a file, after every answer; --resume goes on with it.\n"
      "Examples:\n"
      "  kvass chat model.gguf --system \"Answer in one sentence.\"\n"
      "  kvass chat model.gguf --save talk.kvsnap\n"
      "  kvass chat model.gguf --temp 0.7 --top-p 0.9 --context 8192\n"
      "  printf 'Hello\\nAnd now in French\\n' | kvass chat model.gguf -n 100 --json");
  ModelFlags::add_model(command, flags->model, "A GGUF or .kvp file, or a Hugging Face folder, of a chat model")
      ->required();

  const std::string group = "Conversation";
  command.add_option(flags_of("ChatOptions.system"), flags->chat.system, "The system text, before the first turn")
      ->type_name("TEXT")
      ->group(group);
  command
      .add_option(flags_of("ChatOptions.max_tokens"), flags->chat.max_tokens,
                  "Tokens of one answer at most (default: no limit)")
      ->type_name("TOKENS")
      ->group(group);
  command
      .add_option(flags_of("ChatOptions.stops"), flags->chat.stops,
                  "End an answer before this text; may be given again")
      ->type_name("TEXT")
      ->allow_extra_args(false)
      ->group(group);
  CLI::Option* no_endless =
      command
          .add_flag("--no-endless", flags->no_endless,
                    "End with an error when the context is full, instead of forgetting the middle")
          ->group(group);

  flags->style.add(command);
  flags->prompt.add(command);
  flags->stream.add(command);
  flags->stream.add_memory_limit(command);
  flags->snapshots.add(command);
  for (const char* name : {"--system", "--template-file", "--tools", "--template-var"}) {
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
