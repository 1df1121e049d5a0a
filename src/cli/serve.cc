// kvass serve: a model behind HTTP.
#include <thread>

#include "cli/command.h"
#include "cli/config.h"
#include "cli/fields.h"
#include "cli/model_flags.h"
#include "cli/sampling_flags.h"
#include "cli/signals.h"
#include "cli/stream_flags.h"
#include "serve/params.h"
#include "serve/server.h"
#include "serve/systemd.h"

namespace kvass {
namespace {

struct ServeFlags {
  std::string model, template_file;
  StreamFlags stream;
  ModelFlags weights;
  serve::ServeOptions options;
  int64_t session_sinks = 0;
  const CLI::Option* session_sinks_given = nullptr;
  const CLI::Option* prefixes_given = nullptr;
  const CLI::Option* sessions_given = nullptr;
  int64_t checkpoints = 2;
  double target_ms = 100.0;
  double request_seconds = 0.0;
  std::string body_limit = "64M";
  bool json = false, quiet = false;
};

Status check(const ServeFlags& flags) {
  const serve::ServeOptions& options = flags.options;
  const auto at_least = [](const char* flag, int64_t least, int64_t got) {
    return got >= least ? Status() : bad_input(flag, std::to_string(least) + " or more", std::to_string(got));
  };
  if (options.port < 0 || options.port > 65535) return bad_input("--port", "0 to 65535", std::to_string(options.port));
  KVASS_RETURN_IF_ERROR(at_least("--sessions", 0, options.sessions));
  KVASS_RETURN_IF_ERROR(at_least("--prefixes", 0, options.prefixes));
  KVASS_RETURN_IF_ERROR(at_least("--checkpoints", 0, flags.checkpoints));
  KVASS_RETURN_IF_ERROR(at_least("--queue", 0, options.scheduler.most_waiting));
  KVASS_RETURN_IF_ERROR(at_least("--connections", 1, options.limits.connections));
  if (!(flags.target_ms >= 1.0 && flags.target_ms <= 60'000.0)) {
    return bad_input("--target-ms", "1 to 60000", fmt::format("{}", flags.target_ms));
  }
  if (!(options.drain_seconds >= 0.0))
    return bad_input("--drain-seconds", "0 or more", fmt::format("{}", options.drain_seconds));
  if (!(flags.request_seconds >= 0.0))
    return bad_input("--request-seconds", "0 (no limit) or more", fmt::format("{}", flags.request_seconds));
  if (!options.state.empty() && options.sessions == 0)
    return bad_input("--state", "--sessions of 1 or more beside it", "0");
  if (options.no_auth && !options.keys.empty()) return bad_input("--no-auth", "no --api-key-file beside it", "both");
  return {};
}

Status run(ServeFlags& flags) {
  KVASS_RETURN_IF_ERROR(check(flags));
  serve::ServeOptions& options = flags.options;
  KVASS_ASSIGN_OR_RETURN(options.weights, flags.weights.resolve(flags.quiet));
  KVASS_ASSIGN_OR_RETURN(ModelFile file, ModelFlags::open(flags.model, flags.quiet));
  KVASS_ASSIGN_OR_RETURN(const std::string own_template,
                         file.speech() == nullptr ? file.chat_template() : std::string());
  // A model that nobody can talk with has no sessions.
  const bool talks = !own_template.empty() || !flags.template_file.empty();
  if (!talks && flags.sessions_given->count() == 0 && options.state.empty()) options.sessions = 0;
  KVASS_ASSIGN_OR_RETURN(options.streams, flags.stream.resolve(file.stream_options()));
  if (!flags.stream.sequences_given()) options.streams.sequences = 4;
  if (flags.prefixes_given->count() == 0) options.prefixes = options.streams.sequences;
  options.streams.checkpoints = flags.checkpoints;
  KVASS_RETURN_IF_ERROR(validate(options.sampling));
  if (flags.session_sinks_given->count() > 0) options.session_sinks = flags.session_sinks;
  options.scheduler.target_seconds = flags.target_ms * 1e-3;
  if (!flags.template_file.empty()) {
    KVASS_ASSIGN_OR_RETURN(options.chat_template, read_text(flags.template_file));
    if (options.chat_template.empty()) return bad_input(flags.template_file, "a chat template", "an empty file");
  }
  if (flags.request_seconds > 0.0) options.request_seconds = flags.request_seconds;
  const Result<size_t> body = parse_memory_limit(flags.body_limit);
  if (!body.ok())
    return bad_input("--body-limit", "a number of bytes, as in 1048576 or 64M", "'" + flags.body_limit + "'");
  options.limits.body_bytes = body.value();
  constexpr int64_t kMostTexts = 4096;
  if (options.streams.sequences < 0 || options.streams.sequences + options.sessions > kMostTexts) {
    return bad_input("--sequences", fmt::format("0 to {} together with --sessions", kMostTexts),
                     std::to_string(options.streams.sequences));
  }
  options.log = !flags.quiet;
  serve::show_messages_with(shown_message);
  const auto on_plan = [&](const serve::ServerPlan& plan) {
    if (!flags.quiet) say("kvass: plan: {}\n", plan.text());
  };
  KVASS_ASSIGN_OR_RETURN(const std::unique_ptr<serve::Server> server,
                         serve::Server::open(std::move(file), options, on_plan));
  const std::atomic<bool>& end = ended();
  server->start();
  if (flags.json) {
    show_stdout(json_text({{"url", server->url()}}) + "\n");
  } else if (!flags.quiet) {
    say("kvass: serving at {}\n", server->url());
  }
  KVASS_RETURN_IF_ERROR(flush_stdout());
  serve::notify_systemd("READY=1");
  while (!end.load(std::memory_order_relaxed)) {
    if (hung_up()) {
      const Status reloaded = server->reload_keys();
      say("kvass: {}\n",
          reloaded.ok() ? "the keys were read again" : shown_message(reloaded) + "; the keys stay what they were");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  serve::notify_systemd("STOPPING=1");
  server->drain();
  return {};
}

}  // namespace

CommandAction add_serve(CLI::App& command) {
  auto flags = std::make_shared<ServeFlags>();
  serve::ServeOptions& options = flags->options;
  command.description("Serve a model over HTTP: OpenAI's API, and sessions that do not end");
  command.footer(
      "Memory is planned and mapped before the socket opens, and does not grow. docs/server.md describes the "
      "endpoints.\n"
      "SIGTERM ends it in order, SIGHUP reads the keys again.\n"
      "Examples:\n"
      "  kvass serve model.gguf\n"
      "  kvass serve model.gguf --context 8192 --sequences 8 --state sessions --memory-limit 4G\n"
      "  kvass serve model.gguf --speech speech-model --host 0.0.0.0 --api-key-file keys.txt");
  ModelFlags::add_model(command, flags->model)->required();

  std::string group = "Server";
  command.add_option("--host", options.host, "The address to listen at, or unix:PATH")
      ->type_name("HOST")
      ->group(group)
      ->capture_default_str();
  command.add_option("--port", options.port, "The port; 0: a free one")
      ->type_name("PORT")
      ->group(group)
      ->capture_default_str();
  command.add_option("--api-key-file", options.keys, "Keys that clients must have, one on each line")
      ->type_name("FILE")
      ->group(group);
  command.add_flag("--no-auth", options.no_auth, "Let everybody in who can reach the address")->group(group);
  command.add_option("--cors", options.cors, "A web origin that may use the server; may be given again")
      ->type_name("ORIGIN")
      ->allow_extra_args(false)
      ->group(group);
  command.add_option("--alias", options.alias, "The model's name in the API (default: its file's)")
      ->type_name("NAME")
      ->group(group);
  command
      .add_option(flags_of("ChatOptions.chat_template"), flags->template_file,
                  "A jinja template instead of the model's")
      ->type_name("FILE")
      ->group(group);
  command.add_option("--speech", options.speech, "A model that transcribes, for /v1/audio")
      ->type_name("MODEL")
      ->group(group);
  command.add_option("--connections", options.limits.connections, "Connections at a time")
      ->type_name("N")
      ->group(group)
      ->capture_default_str();
  command.add_option("--body-limit", flags->body_limit, "Bytes of a request's body")
      ->type_name("BYTES")
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--queue", options.scheduler.most_waiting, "Texts that wait for a place; more are answered with 429")
      ->type_name("N")
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--target-ms", flags->target_ms,
                  "The time of a step while texts decode: prompts get what is left of it")
      ->type_name("MS")
      ->group(group)
      ->capture_default_str();
  command.add_option("--request-seconds", flags->request_seconds, "The longest that a text may take; 0: no limit")
      ->type_name("S")
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--drain-seconds", options.drain_seconds,
                  "How long texts may go on after SIGTERM before they are cut and saved")
      ->type_name("S")
      ->group(group)
      ->capture_default_str();

  group = "Memory";
  command
      .add_option("--prefixes", options.prefixes,
                  "Sequences that keep the prefixes of earlier texts (default: as many as --sequences)")
      ->type_name("N")
      ->group(group);
  flags->prefixes_given = command.get_option("--prefixes");
  flags->sessions_given =
      command
          .add_option("--sessions", options.sessions,
                      "Sessions in memory at a time; 0: none (and where the model has no chat template)")
          ->type_name("N")
          ->group(group)
          ->capture_default_str();
  flags->session_sinks_given =
      command
          .add_option(
              "--session-sinks", flags->session_sinks,
              "Tokens that a session keeps for ever: its system text (default: a quarter of the context, 512 at most)")
          ->type_name("TOKENS")
          ->group(group);
  command.add_option("--state", options.state, "A folder that keeps sessions, written after every turn")
      ->type_name("FOLDER")
      ->group(group);
  command.add_option("--checkpoints", flags->checkpoints, "Positions of each text that its rings can go back to")
      ->type_name("N")
      ->group(group)
      ->capture_default_str();
  flags->stream.add(command);
  flags->stream.add_memory_limit(command);
  flags->stream.add_sequences(command, "Texts that run at a time, beside those of sessions (default: 4)");
  flags->weights.add(command);
  add_config(command);
  add_sampling_flags(command, options.sampling);

  command.add_flag("--json", flags->json, "The address as JSON on stdout, once it listens")->group("Output");
  command.add_flag("-q,--quiet", flags->quiet, "No plan and no access log")->group("Output");
  return [flags] { return run(*flags); };
}

}  // namespace kvass
