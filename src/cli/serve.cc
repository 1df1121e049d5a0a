// kvass serve: a model behind HTTP.
#include <thread>

#include "cli/command.h"
#include "cli/config.h"
#include "cli/fields.h"
#include "cli/group_options.h"
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
  double request_seconds = 0.0;
  std::string body_limit = "64M";
  const CLI::App* command = nullptr;
  bool json = false, quiet = false;

  bool given(FlagField field) const { return command->get_option(flag_of(field))->count() > 0; }
};

// The options as the flags say them, and where they say nothing as the model's file does.
Status resolve(ServeFlags& flags, const ModelFile& file) {
  serve::ServeOptions& options = flags.options;
  KVASS_ASSIGN_OR_RETURN(options.weights, flags.weights.resolve(flags.quiet));
  const int64_t checkpoints = options.streams.checkpoints;
  KVASS_ASSIGN_OR_RETURN(options.streams, flags.stream.resolve(file.stream_options()));
  options.streams.checkpoints = checkpoints;
  if (!flags.stream.sequences_given()) options.streams.sequences = 4;
  if (!flags.given("ServeOptions.prefixes")) options.prefixes = options.streams.sequences;
  if (!flags.template_file.empty()) {
    KVASS_ASSIGN_OR_RETURN(options.chat_template, read_text(flags.template_file));
    if (options.chat_template.empty()) return bad_input(flags.template_file, "a chat template", "an empty file");
  }
  if (file.speech() == nullptr && options.chat_template.empty() && !flags.given("ServeOptions.sessions") &&
      options.state.empty()) {
    KVASS_ASSIGN_OR_RETURN(const std::string own, file.chat_template());
    if (own.empty()) options.sessions = 0;  // nobody can talk with it
  }
  KVASS_RETURN_IF_ERROR(validate(options.sampling));
  if (flags.given("ServeOptions.session_sinks")) options.session_sinks = flags.session_sinks;
  if (flags.request_seconds != 0.0) options.request_seconds = flags.request_seconds;
  const Result<size_t> body = parse_memory_limit(flags.body_limit);
  if (!body.ok()) {
    return bad_input("HttpLimits.body_bytes", "a number of bytes, as in 1048576 or 64M", "'" + flags.body_limit + "'");
  }
  options.limits.body_bytes = body.value();
  if (flags.given("ServeOptions.port") && options.host.starts_with("unix:")) {
    return bad_input("ServeOptions.port", "an address as ServeOptions.host beside it", options.host);
  }
  options.log = !flags.quiet;
  return {};
}

Status run(ServeFlags& flags) {
  KVASS_ASSIGN_OR_RETURN(ModelFile file, ModelFlags::open(flags.model, flags.quiet));
  KVASS_RETURN_IF_ERROR(resolve(flags, file));
  serve::show_messages_with([](std::string_view message) {
    return shown_message(Status::error(StatusCode::bad_input, std::string(message)));
  });
  const auto on_plan = [&](const serve::ServerPlan& plan) {
    if (!flags.quiet) say("kvass: plan: {}\n", plan.text());
  };
  KVASS_ASSIGN_OR_RETURN(const std::unique_ptr<serve::Server> server,
                         serve::Server::open(std::move(file), flags.options, on_plan));
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
  flags->command = &command;
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

  const GroupOptions server{command, "Server"};
  server(flags_of("ServeOptions.host"), options.host, "The address to listen at, or unix:PATH", "HOST");
  server(flags_of("ServeOptions.port"), options.port, "The port; 0: a free one", "PORT");
  server.without_default(flags_of("ServeOptions.keys"), options.keys, "Keys that clients must have, one on each line",
                         "FILE");
  command.add_flag(flags_of("ServeOptions.no_auth"), options.no_auth, "Let everybody in who can reach the address")
      ->group(server.group);
  server
      .without_default(flags_of("ServeOptions.cors"), options.cors,
                       "A web origin that may use the server; may be given again", "ORIGIN")
      ->allow_extra_args(false);
  server.without_default(flags_of("ServeOptions.alias"), options.alias,
                         "The model's name in the API (default: its file's)", "NAME");
  server.without_default(flags_of("ChatOptions.chat_template"), flags->template_file,
                         "A jinja template instead of the model's", "FILE");
  server.without_default(flags_of("ServeOptions.speech"), options.speech, "A model that transcribes, for /v1/audio",
                         "MODEL");
  server(flags_of("HttpLimits.connections"), options.limits.connections, "Connections at a time", "N");
  server(flags_of("HttpLimits.body_bytes"), flags->body_limit, "Bytes of a request's body", "BYTES");
  server(flags_of("SchedulerOptions.most_waiting"), options.scheduler.most_waiting,
         "Texts that wait for a place; more are answered with 429", "N");
  server(flags_of("SchedulerOptions.target_ms"), options.scheduler.target_ms,
         "How long a step may take while texts are generated: their next tokens come first,\n"
         "and prompts are read in the rest of the time",
         "MS");
  server(flags_of("ServeOptions.request_seconds"), flags->request_seconds,
         "The longest that a text may take; 0: no limit", "S");
  server(flags_of("ServeOptions.drain_seconds"), options.drain_seconds,
         "How long texts may go on after SIGTERM before they are cut and saved", "S");

  const GroupOptions memory{command, "Memory"};
  memory.without_default(flags_of("ServeOptions.prefixes"), options.prefixes,
                         "Sequences that keep the prefixes of earlier texts (default: as many as --sequences)", "N");
  memory(flags_of("ServeOptions.sessions"), options.sessions,
         "Sessions in memory at a time; 0: none (and where the model has no chat template)", "N");
  memory.without_default(
      flags_of("ServeOptions.session_sinks"), flags->session_sinks,
      "Tokens that a session keeps for ever: its system text (default: a quarter of the context, 512 at most)",
      "TOKENS");
  memory.without_default(flags_of("ServeOptions.state"), options.state,
                         "A folder that keeps sessions, written after every turn", "FOLDER");
  options.streams.checkpoints = 2;
  memory(flags_of("StreamOptions.checkpoints"), options.streams.checkpoints,
         "Positions of each text that its rings can go back to", "N");
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
