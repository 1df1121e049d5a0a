#include "serve/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <mutex>
#include <thread>

#include "app/text.h"
#include "kvass/version.h"
#include "serve/answer.h"
#include "serve/keys.h"
#include "serve/listen.h"
#include "serve/openai.h"
#include "serve/sessions.h"
#include "serve/speech.h"
#include "text/jinja/jinja.h"

namespace kvass::serve {
namespace {

constexpr int kWorkers = 2;

constexpr char kNobody[] = "open";  // the owner of everything where there are no keys

// Where others than this machine can reach the server, it must be said who may.
Status check_keys(const ServeOptions& options, const std::string& where) {
  if (options.no_auth || !options.keys.empty()) return {};
  return bad_input("ServeOptions.host",
                   "this machine's own address (127.0.0.1, ::1, unix:PATH), or ServeOptions.keys beside it, or "
                   "ServeOptions.no_auth to let everybody in",
                   in_quotes(where) + " and no keys");
}

SpeechOptions speech_options(const ServeOptions& options) {
  return {options.speech, options.speech_sequences, options.streams.threads};
}

std::string fingerprint_text(const OpenModel& model, const CacheOptions& caches) {
  const std::string all =
      fmt::format("{} numerics {} math {} kv {} context {} sinks {} {} {} positions {} offset {}",
                  hash_text(model.engine->fingerprint()), kNumericsVersion, math_name(model.engine->math()),
                  dtype_name(caches.dtype), caches.context, caches.sinks, caches.sink_tokens, caches.sink_window,
                  sink_positions_name(caches.sink_positions), caches.rotary_offset);
  return "fp_" + hash_text(hash_bytes({reinterpret_cast<const uint8_t*>(all.data()), all.size()})).substr(0, 20);
}

}  // namespace

Service::Service() = default;
Service::~Service() = default;

std::string served_name(const std::string& path) {
  std::filesystem::path name(path);
  if (!name.has_filename()) name = name.parent_path();
  return valid_utf8(std::filesystem::is_directory(name) ? name.filename().string() : name.stem().string());
}

struct Server::Impl {
  ServeOptions options;
  Service service;
  Router router;
  Keys keys;
  std::mutex log_mutex;
  std::unique_ptr<HttpServer> http;

  bool has_keys() const { return !options.keys.empty(); }
  void add_routes();
  void handle(const Exchange& exchange);
  void answer(const Exchange& exchange, const Route& route, const std::vector<std::string>& arguments);
  bool allowed_origin(const std::string& origin) const;
  Fields cors_fields(const HttpRequest& request) const;
  void log(const HttpExchange& exchange);
};

void Server::Impl::add_routes() {
  add_models(router, service);
  add_chat_completions(router, service);
  add_completions(router, service);
  add_responses(router, service);
  add_sessions(router, service);
  add_audio(router, service);
  router.add({"GET", "/health",
              [this](const Exchange& exchange, const auto&) {
                const bool draining = service.draining;
                exchange->answer(
                    {draining ? 503 : 200, "application/json", dump({{"status", draining ? "draining" : "ready"}})});
              },
              /*open=*/true});
  router.add({"GET", "/metrics", [this](const Exchange& exchange, const auto&) {
                exchange->answer({200, "text/plain; version=0.0.4; charset=utf-8", service.metrics.text()});
              }});
  router.add({"GET", "/openapi.json",
              [this](const Exchange& exchange, const auto&) {
                exchange->answer({200, "application/json", openapi_json(service)});
              },
              /*open=*/true});
}

bool Server::Impl::allowed_origin(const std::string& origin) const {
  return std::any_of(options.cors.begin(), options.cors.end(),
                     [&](const std::string& one) { return one == "*" || one == origin; });
}

Fields Server::Impl::cors_fields(const HttpRequest& request) const {
  const std::string* origin = request.header("origin");
  if (origin == nullptr || !allowed_origin(*origin)) return {};
  return {{"Access-Control-Allow-Origin", *origin},
          {"Vary", "Origin"},
          {"Access-Control-Expose-Headers", "X-Kvass-Prefix, Retry-After"}};
}

namespace {

// The name in a Host header, without its port.
std::string host_name(const std::string& host) {
  if (host.starts_with('[')) return host.substr(1, std::min(host.find(']'), host.size()) - 1);
  return host.substr(0, host.find(':'));
}

}  // namespace

// On the thread of the sockets: who may come in, and what is asked; the work is a worker's.
void Server::Impl::handle(const Exchange& exchange) {
  const HttpRequest& request = exchange->request();
  const auto refuse = [&](const ApiError& error) { exchange->answer(error_reply(error)); };
  exchange->add_headers(cors_fields(request));
  const std::string* origin = request.header("origin");
  const std::string* host = request.header("host");
  // A page in somebody's browser must not reach a server that trusts everybody on its machine.
  const bool own_page = origin != nullptr && host != nullptr && *origin == "http://" + *host;
  if (origin != nullptr && !own_page && !allowed_origin(*origin)) {
    return refuse({403, expected_message("Origin", "one of ServeOptions.cors", "another"), "", "forbidden"});
  }
  if (!has_keys() && !options.no_auth && !http->url().starts_with("unix:") && host != nullptr &&
      !is_loopback(host_name(*host)) && host_name(*host) != options.host) {
    return refuse({403,
                   expected_message("Host", "localhost, or a server with keys (ServeOptions.keys)", "another name"), "",
                   "forbidden"});
  }
  if (request.method == "OPTIONS" && origin != nullptr) {
    return exchange->answer({204,
                             "",
                             "",
                             {{"Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS"},
                              {"Access-Control-Allow-Headers", "Authorization, Content-Type"},
                              {"Access-Control-Max-Age", "600"}}});
  }
  const Router::Match match = router.find(request.method, request.path);
  if (match.route == nullptr) {
    if (match.allowed.empty()) {
      return refuse({404, expected_message("path", "one of /openapi.json", in_quotes(request.path)), "", "not_found"});
    }
    return refuse({405,
                   expected_message("method", match.allowed, valid_utf8(request.method).substr(0, 20)),
                   "",
                   "method_not_allowed",
                   {{"Allow", match.allowed}}});
  }
  std::string owner = kNobody;
  if (has_keys() && !match.route->open) {
    const std::string* header = request.header("authorization");
    constexpr std::string_view kBearer = "bearer ";
    const bool bearer = header != nullptr && lower(header->substr(0, kBearer.size())) == kBearer;
    const std::optional<std::string> known =
        bearer ? keys.owner(std::string_view(*header).substr(kBearer.size())) : std::nullopt;
    if (!known) {
      return refuse(
          {401,
           expected_message("Authorization", "Bearer and a key of this server", bearer ? "another key" : "none"),
           "",
           "invalid_api_key",
           {{"WWW-Authenticate", "Bearer"}}});
    }
    owner = *known;
  }
  exchange->request().owner = owner;
  if (service.draining && !match.route->open) {
    return refuse({503, "the server is ending", "", "draining", {{"Retry-After", "10"}}});
  }
  service.workers->add(
      [this, exchange, route = match.route, arguments = match.arguments] { answer(exchange, *route, arguments); });
}

namespace {

// JSON or a form, in UTF-8, as it is. Browsers send other types across origins without asking.
void check_content(const HttpRequest& request) {
  if (!request.query.empty()) {
    throw ApiError{400, expected_message("query", "none: parameters stand in the body", in_quotes(request.query)), "",
                   "unsupported_parameter"};
  }
  const std::string* const encoding = request.header("content-encoding");
  if (encoding != nullptr && lower(*encoding) != "identity") {
    throw ApiError{415, expected_message("Content-Encoding", "none", shown_text(*encoding).substr(0, 80)), "",
                   "unsupported_media_type"};
  }
  if (request.body.empty()) return;
  if (request.method != "POST") {
    throw ApiError{
        400, expected_message("body", "none with " + request.method, std::to_string(request.body.size()) + " bytes"),
        "", "unsupported_parameter"};
  }
  const std::string* const header = request.header("content-type");
  const std::string type = header == nullptr ? "" : lower(*header);
  const bool json = type == "application/json" || type.starts_with("application/json;");
  const size_t charset = type.find("charset=");
  const bool utf8 = !json || charset == type.npos || type.find("utf-8", charset) != type.npos;
  if ((json && utf8) || type.starts_with("multipart/form-data")) return;
  throw ApiError{415,
                 expected_message("Content-Type", "application/json in UTF-8, or multipart/form-data for recordings",
                                  header == nullptr ? "none" : shown_text(*header).substr(0, 80)),
                 "", "unsupported_media_type"};
}

}  // namespace

void Server::Impl::answer(const Exchange& exchange, const Route& route, const std::vector<std::string>& arguments) {
  try {
    check_content(exchange->request());
    route.call(exchange, arguments);
  } catch (const ApiError& error) {
    exchange->answer(error_reply(error));
  } catch (const std::bad_alloc&) {
    exchange->answer(error_reply({507, "the request: expected memory for it, got none", "", "out_of_memory"}));
  } catch (const std::exception& error) {
    exchange->answer(error_reply({500, std::string("a mistake of the server: ") + error.what(), "", "internal"}));
  }
}

void Server::Impl::log(const HttpExchange& exchange) {
  Metrics& metrics = service.metrics;
  metrics.requests.add();
  if (exchange.status() >= 500) {
    metrics.failed.add();
  } else if (exchange.status() >= 400) {
    metrics.refused.add();
  }
  if (!options.log) return;
  const HttpRequest& request = exchange.request();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - exchange.begin_time()).count();
  Json line = {{"time", now_seconds()},     {"peer", request.peer},        {"method", request.method},
               {"path", request.path},      {"status", exchange.status()}, {"seconds", seconds},
               {"bytes", exchange.bytes()}, {"gone", exchange.gone()}};
  if (has_keys() && !request.owner.empty()) line["owner"] = request.owner;
  for (const auto& [name, value] : exchange.notes()) {
    const bool number =
        !value.empty() && value.size() < 18 && value.find_first_not_of("0123456789") == std::string::npos;
    line[name] = number ? Json(std::stoll(value)) : Json(value);
  }
  const std::string text = dump(line) + "\n";
  const std::lock_guard lock(log_mutex);
  std::fwrite(text.data(), 1, text.size(), stderr);
}

Result<std::unique_ptr<Server>> Server::open(ModelFile file, const ServeOptions& options,
                                             const std::function<void(const ServerPlan&)>& on_plan) {
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  KVASS_RETURN_IF_ERROR(validate(options));
  if (impl->has_keys()) KVASS_RETURN_IF_ERROR(impl->keys.read(options.keys));
  if (!is_loopback(options.host)) KVASS_RETURN_IF_ERROR(check_keys(options, options.host));
  if (file.speech() != nullptr)
    return bad_input("model", "one that writes text (ServeOptions.speech takes one that transcribes)",
                     "one that transcribes");
  KVASS_ASSIGN_OR_RETURN(ServerPlan plan, plan_server(file, options));
  if (!options.speech.empty()) {
    KVASS_ASSIGN_OR_RETURN(plan.speech_bytes, Speech::plan(speech_options(options)));
  }
  if (options.streams.memory_limit && plan.total() > *options.streams.memory_limit) {
    return bad_input("StreamOptions.memory_limit", fmt::format("at most {} bytes", *options.streams.memory_limit),
                     fmt::format("a plan of {} bytes: {}; fewer StreamOptions.sequences, ServeOptions.prefixes or "
                                 "ServeOptions.sessions, or a smaller StreamOptions.context, take less",
                                 plan.total(), plan.text()));
  }
  on_plan(plan);

  Service& service = impl->service;
  service.created = now_seconds();
  const StreamOptions& streams = options.streams;
  KVASS_ASSIGN_OR_RETURN(service.model,
                         open_model(std::move(file), streams.arithmetic(), streams.threads, options.weights));
  if (!options.chat_template.empty()) {
    KVASS_RETURN_IF_ERROR(jinja::Template::parse(options.chat_template).status());
    service.model.chat_template = options.chat_template;
    service.model.tokenizer =
        std::make_shared<const Tokenizer>(service.model.tokenizer->with_template(options.chat_template));
  }
  service.id = options.alias.empty() ? served_name(service.model.path) : options.alias;
  service.sampling = options.sampling;
  service.request_seconds = options.request_seconds;
  const StreamOptions texts = text_streams(options);
  KVASS_ASSIGN_OR_RETURN(const CacheOptions caches, resolve_caches(texts, service.model.trained_context));
  KVASS_ASSIGN_OR_RETURN(SessionOptions session, session_options(texts, caches, std::max(kScoreRows, texts.sequences)));
  session.decode_method = service.model.methods.size() > 1;
  KVASS_ASSIGN_OR_RETURN(service.session, kvass::Session::create(service.model.engine, session, service.model.methods));
  std::vector<std::unique_ptr<Sequence>> sequences;
  for (int64_t i = 0; i < streams.sequences + options.prefixes && streams.sequences > 0; ++i) {
    KVASS_ASSIGN_OR_RETURN(std::unique_ptr<Sequence> sequence, Sequence::create(service.model.engine, caches));
    sequences.push_back(std::move(sequence));
  }
  service.context = !sequences.empty() && sequences[0]->endless() ? INT64_MAX : caches.context;
  service.prefixes = std::make_unique<PrefixStore>(std::move(sequences), streams.sequences, service.model.tokenizer);
  service.fingerprint = fingerprint_text(service.model, caches);
  service.metrics.bytes_planned.set(static_cast<int64_t>(plan.total()));
  service.workers = std::make_unique<Workers>(kWorkers);
  service.scheduler =
      std::make_unique<Scheduler>(*service.session, *service.model.tokenizer, options.scheduler, service.metrics);
  if (options.sessions > 0) {
    KVASS_ASSIGN_OR_RETURN(const CacheOptions own,
                           resolve_caches(session_streams(options, caches.context), service.model.trained_context));
    std::vector<OpenStream> places;
    for (int64_t i = 0; i < options.sessions; ++i) {
      OpenStream place;
      place.session = service.session;
      KVASS_ASSIGN_OR_RETURN(place.sequence, Sequence::create(service.model.engine, own));
      places.push_back(std::move(place));
    }
    KVASS_ASSIGN_OR_RETURN(service.sessions, SessionStore::create(service, std::move(places), options.state));
  }
  if (!options.speech.empty()) {
    KVASS_ASSIGN_OR_RETURN(service.speech, Speech::open(speech_options(options)));
  }
  impl->add_routes();
  Impl* const self = impl.get();
  KVASS_ASSIGN_OR_RETURN(impl->http, HttpServer::listen(
                                         options.host, options.port, options.limits,
                                         [self](const Exchange& exchange) { self->handle(exchange); },
                                         [self](const HttpExchange& exchange) { self->log(exchange); }));
  // A service manager may have opened another address than the one that was asked for.
  if (!impl->http->is_local()) KVASS_RETURN_IF_ERROR(check_keys(options, impl->http->url()));
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Server::~Server() {
  // Those who hold exchanges end before the sockets do.
  impl_->service.speech.reset();
  if (impl_->service.workers) impl_->service.workers->stop();
  if (impl_->service.scheduler) impl_->service.scheduler->stop();
  if (impl_->http) impl_->http->stop();
  // What never ran still has exchanges, which are the sockets'.
  impl_->service.workers.reset();
  impl_->service.scheduler.reset();
}

const std::string& Server::url() const { return impl_->http->url(); }

void Server::start() {
  impl_->service.scheduler->start();
  impl_->http->start();
}

void Server::drain() {
  Service& service = impl_->service;
  service.draining = true;
  impl_->http->stop_accepting();
  service.scheduler->close();
  const auto wait = [&](double seconds) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (!(service.scheduler->idle() && impl_->http->open_exchanges() == 0)) {
      if (std::chrono::steady_clock::now() > end) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  };
  wait(impl_->options.drain_seconds);
  service.scheduler->cancel_all();  // sessions keep what was said
  wait(impl_->options.drain_seconds + 30.0);
}

Status Server::reload_keys() { return impl_->has_keys() ? impl_->keys.read(impl_->options.keys) : Status(); }

}  // namespace kvass::serve
