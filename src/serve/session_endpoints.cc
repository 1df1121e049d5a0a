// /v1/sessions: conversations as objects. docs/server.md describes them.
#include <fmt/format.h>

#include "app/text.h"
#include "base/new_file.h"
#include "serve/answer.h"
#include "serve/session_turn.h"
#include "serve/sessions.h"

namespace kvass::serve {
namespace {

using Session = SessionStore::Session;

std::string layout_name(const CacheOptions& caches) {
  return caches.sinks ? fmt::format("sinks {} + window {}", caches.sink_tokens, caches.sink_window)
                      : fmt::format("context {}", caches.context);
}

Json session_json(const SessionStore& store, const Session& session) {
  Json json = {
      {"id", session.id}, {"object", "session"}, {"in_memory", session.place.has_value()}, {"saved", session.saved}};
  json["turns"] = session.turns < 0 ? Json() : Json(session.turns);
  json["length"] = session.length < 0 ? Json() : Json(session.length);
  json["layout"] = layout_name(store.cache_options());
  json["busy"] = session.busy;
  return json;
}

// With what only a session in memory knows; of one that nobody else works with.
Json full_json(SessionStore& store, const Session& session) {
  Json json = session_json(store, session);
  const Sequence& sequence = *store.stream(session).sequence;
  json["turns"] = session.chat->turns();
  json["length"] = sequence.length();
  json["bytes"] = sequence.cache_bytes();
  json["held_bytes"] = sequence.held_bytes();
  json["endless"] = sequence.endless();
  json["rewind_floor"] = sequence.rewind_floor();
  json["checkpoints"] = sequence.checkpoints();
  json["system"] = valid_utf8(session.chat->state().chat.system);
  Json positions = Json::array();
  for (const int64_t end : session.chat->state().chat.turn_ends) positions.push_back(end);
  json["turn_ends"] = positions;
  json["busy"] = false;
  return json;
}

// What a handler does on the scheduler's thread; errors of it are the answer.
struct Call {
  Service& service;
  Exchange exchange;
  SessionStore& store() const { return *service.sessions; }
  void answer(const ApiError& error) const { exchange->answer(error_reply(error)); }
  void answer(const Json& json, int status = 200) const {
    exchange->answer({status, "application/json", dump(json), {}});
  }
  SessionStore::Failed failed() const {
    return [call = *this](const ApiError& error) { call.answer(error); };
  }
  void on_scheduler(std::function<void()> call) const { service.scheduler->call(std::move(call)); }
  // `use` gets the session once it is in memory and nobody else's.
  void with(const SessionStore::Name& name, SessionStore::Use use) const {
    on_scheduler([call = *this, name, use = std::move(use)] { call.store().use(name, use, call.failed()); });
  }
};

// Saves a session, lets it go, and answers with what it is then. A new one that cannot be saved is gone.
void save_and_answer(const Call& call, Session& session, bool is_new) {
  call.store().save(session, [call, &session, is_new](const Status& saved) {
    const Json json = full_json(call.store(), session);
    if (is_new && !saved.ok()) {
      call.store().remove(session);
      return call.answer(not_saved(saved, "there is none"));
    }
    call.store().release(session);
    if (!saved.ok()) return call.answer(not_saved(saved, "it is in memory alone"));
    call.answer(json, is_new ? 201 : 200);
  });
}

SessionStore::Name checked_name(const Exchange& exchange, const std::string& id) {
  if (!is_session_id(id)) {
    throw ApiError{400, expected_message("id", "1 to 64 letters, digits, - and _", in_quotes(id)), "id",
                   "invalid_value"};
  }
  return {exchange->request().owner, id};
}

std::string id_or_new(Params& params) {
  const std::optional<std::string> id = params.text("id");
  return id ? *id : new_id("session_");
}

void check_sessions(const Service& service) {
  if (!service.sessions)
    throw ApiError{404, "sessions: expected a server with ServeOptions.sessions of at least 1, got 0", "",
                   "unsupported"};
  if (service.model.chat_template.empty()) {
    throw ApiError{400, "sessions: expected a model with a chat template, got one without", "", "invalid_value"};
  }
}

void create(Service& service, const Exchange& exchange) {
  check_sessions(service);
  Params params(exchange->request().body.empty() ? "{}" : exchange->request().body);
  check_model(params, service.id);
  const SessionStore::Name name = checked_name(exchange, id_or_new(params));
  ChatOptions options;
  options.system = params.text("system").value_or("");
  options.sampling = take_sampling(params, service.session->engine().program().vocabulary(), service.sampling);
  options.stops = params.texts("stop", 64);
  if (const Json* variables = params.take("chat_template_kwargs")) {
    if (!variables->is_object()) params.refuse("chat_template_kwargs", "an object", shown(*variables));
    options.variables = dump(*variables);
  }
  const CacheOptions& caches = service.sessions->cache_options();
  const bool endless = caches.sinks;
  if (const auto asked = params.boolean("endless"); asked && *asked != endless) {
    params.refuse("endless",
                  fmt::format("{}, as the sessions of this server are mapped ({})", endless, layout_name(caches)),
                  *asked ? "true" : "false");
  }
  params.finish();
  options.endless = endless;
  // What stays in sight for ever must fit into the sinks that are mapped.
  Result<ChatHistory> history =
      ChatHistory::create(service.model.tokenizer, service.model.chat_template, options, service.model.path);
  if (!history.ok()) throw api_error(history.status());
  const Result<int64_t> opening = history->opening_tokens();
  if (!opening.ok()) throw api_error(opening.status());
  if (endless && opening.value() > caches.sink_tokens) {
    throw ApiError{
        400,
        expected_message("system",
                         fmt::format("at most {} tokens before the first message, the sinks of this server's "
                                     "sessions (ServeOptions.session_sinks), so that they stay in sight for ever",
                                     caches.sink_tokens),
                         std::to_string(opening.value())),
        "system", "invalid_value"};
  }
  const Call call{service, exchange};
  call.on_scheduler([call, name, options] {
    const auto save = [call](Session& session) { save_and_answer(call, session, /*is_new=*/true); };
    call.store().create_session(name, options, /*waits=*/true, save, call.failed());
  });
}

void message(Service& service, const Exchange& exchange, const std::string& id) {
  check_sessions(service);
  const SessionStore::Name name = checked_name(exchange, id);
  Params params(exchange->request().body);
  check_model(params, service.id);
  MessageRequest request;
  const auto content = params.text("content");
  if (!content) params.refuse("content", "the user's text", "none");
  if (const auto role = params.text("role"); role && *role != "user") params.refuse("role", "user", *role);
  request.content = *content;
  request.max_tokens = params.integer("max_tokens", 1, INT64_MAX).value_or(INT64_MAX);
  request.stream = params.boolean("stream").value_or(false);
  params.finish();
  if (const Status status = check_utf8(request.content, "content"); !status.ok()) throw api_error(status);
  const auto turn = std::make_shared<SessionTurn>(service, exchange, std::move(request));
  Call{service, exchange}.with(name, [turn](Session& session) { turn->run(session); });
}

// Text or ids that are no message, at the end of the session's stream.
struct Appended {
  std::optional<std::string> text;
  std::vector<int32_t> ids;
};

void run_append(const Call& call, Session& session, Appended what) {
  Service& service = call.service;
  const Sequence& sequence = *call.store().stream(session).sequence;
  const int64_t before = sequence.length();
  if (what.text) {
    const Tokenizer& tokenizer = *service.model.tokenizer;
    const TextPart part{*what.text, /*parse_special=*/false};
    what.ids = tokenizer.encode_parts(std::span(&part, 1), before == 0 && tokenizer.add_bos(), before > 0);
  }
  const auto end = [call, &session, before](const Result<DecodeResult>& result) {
    if (!result.ok()) {
      call.store().release(session);
      return call.answer(api_error(result.status()));
    }
    session.chat->end_ids();
    const bool cut = result->reason == StopReason::cancelled;
    const int64_t run = result->prompt_tokens;
    call.store().save(session, [call, &session, before, cut, run](const Status& saved) {
      const bool back = !saved.ok() && session.chat->rewind(before).ok();
      session.length = call.store().stream(session).sequence->length();
      const Json json = {{"id", session.id},       {"object", "session"},      {"appended", run},
                         {"turns", session.turns}, {"length", session.length}, {"saved", session.saved}};
      call.store().release(session);
      if (!saved.ok()) return call.answer(not_saved(saved, back ? "it was taken back" : "it is in memory alone"));
      if (cut) return call.answer(ApiError{503, fmt::format("append: cut after {} tokens", run), "", "cancelled"});
      call.answer(json);
    });
  };
  const auto job = std::make_shared<SessionJob>(
      service, [&session, ids = std::move(what.ids)] { return session.chat->begin_ids(ids); },
      [](const DecodeEvent&) {}, end);
  call.exchange->on_gone([job] { job->cancel(); });
  if (const Status status = service.scheduler->submit(job); !status.ok()) {
    call.store().release(session);
    call.answer(too_many(service, status));
  }
}

void append(Service& service, const Exchange& exchange, const std::string& id) {
  check_sessions(service);
  const SessionStore::Name name = checked_name(exchange, id);
  Params params(exchange->request().body);
  Appended what{params.text("text"), {}};
  const Json* list = params.take("ids");
  params.finish();
  if (what.text.has_value() == (list != nullptr)) {
    params.refuse("text", "text or ids", what.text ? "both" : "neither");
  }
  if (list != nullptr) {
    what.ids = take_ids(params, "ids", *list, service.session->engine().program().vocabulary());
    if (what.ids.empty()) params.refuse("ids", "at least one id", "none");
  } else if (what.text->empty()) {
    params.refuse("text", "text that is not empty", "none");
  }
  const Call call{service, exchange};
  call.with(name, [call, what](Session& session) { run_append(call, session, what); });
}

// `copy` becomes the session `from`, which is let go.
Status become(const Call& call, Session& copy, Session& from, const ChatOptions& options) {
  OpenStream& to = call.store().stream(copy);
  const StreamState state = from.chat->state();
  const Status copied = to.sequence->copy_from(*call.store().stream(from).sequence);
  call.store().release(from);
  KVASS_RETURN_IF_ERROR(copied);
  KVASS_ASSIGN_OR_RETURN(Conversation chat, Conversation::resume(call.service.model, to, options, state, copy.id));
  copy.chat.reset();
  copy.chat.emplace(std::move(chat));
  return {};
}

void fork(Service& service, const Exchange& exchange, const std::string& id) {
  check_sessions(service);
  const SessionStore::Name name = checked_name(exchange, id);
  Params params(exchange->request().body.empty() ? "{}" : exchange->request().body);
  const SessionStore::Name other = checked_name(exchange, id_or_new(params));
  params.finish();
  const Call call{service, exchange};
  if (service.sessions->places() < 2) {
    throw ApiError{400, "fork: expected a server with at least 2 places for sessions (ServeOptions.sessions), got 1",
                   "", "unsupported"};
  }
  call.with(name, [call, other](Session& session) {
    ChatOptions options;
    const StreamState state = session.chat->state();
    options.sampling = state.sampling;
    options.stops = state.stops;
    const auto use = [call, &session, options](Session& copy) {
      if (const Status status = become(call, copy, session, options); !status.ok()) {
        call.store().remove(copy);
        return call.answer(api_error(status));
      }
      save_and_answer(call, copy, /*is_new=*/true);
    };
    const auto failed = [call, &session](const ApiError& error) {
      call.store().release(session);
      call.answer(error);
    };
    call.store().create_session(other, options, /*waits=*/false, use, failed);
  });
}

void rewind(Service& service, const Exchange& exchange, const std::string& id) {
  check_sessions(service);
  const SessionStore::Name name = checked_name(exchange, id);
  Params params(exchange->request().body);
  const auto turns = params.integer("turns", 0, INT64_MAX);
  const auto position = params.integer("position", 0, INT64_MAX);
  params.finish();
  if (turns.has_value() == position.has_value())
    params.refuse("turns", "turns or position", turns ? "both" : "neither");
  const Call call{service, exchange};
  call.with(name, [call, turns, position](Session& session) {
    const Status status = turns ? session.chat->rewind_turns(*turns) : session.chat->rewind(*position);
    if (status.ok()) return save_and_answer(call, session, /*is_new=*/false);
    call.store().release(session);
    ApiError error = api_error(status);
    error.status = 409;
    call.answer(error);
  });
}

void save(Service& service, const Exchange& exchange, const std::string& id) {
  check_sessions(service);
  const SessionStore::Name name = checked_name(exchange, id);
  if (!service.sessions->on_disk()) {
    throw ApiError{400, "save: expected a server with a folder for sessions (ServeOptions.state), got one without", "",
                   "unsupported"};
  }
  Params(exchange->request().body.empty() ? "{}" : exchange->request().body).finish();
  const Call call{service, exchange};
  call.with(name, [call](Session& session) { save_and_answer(call, session, /*is_new=*/false); });
}

void get(Service& service, const Exchange& exchange, const std::string& id) {
  check_sessions(service);
  const SessionStore::Name name = checked_name(exchange, id);
  const Call call{service, exchange};
  call.on_scheduler([call, name] {
    Session* const session = call.store().find(name);
    if (session == nullptr) return call.store().use(name, {}, call.failed());
    if (session->busy) {  // what is known of it while somebody works with it
      return call.answer(session_json(call.store(), *session));
    }
    if (session->place) {
      return call.answer(full_json(call.store(), *session));
    }
    call.store().peek(*session, [call, session](const Result<SnapshotInfo>& info) {
      if (!info.ok()) {
        return call.answer(ApiError{500, "the session's file cannot be read", "", "session_unreadable"});
      }
      Json json = session_json(call.store(), *session);
      json["held_bytes"] = info->body_bytes;
      json["endless"] = info->caches.sinks;
      json["system"] = valid_utf8(info->state.chat.system);
      json["turn_ends"] = info->state.chat.turn_ends;
      json["busy"] = false;
      call.answer(json);
    });
  });
}

void list(Service& service, const Exchange& exchange) {
  check_sessions(service);
  const Call call{service, exchange};
  call.on_scheduler([call] {
    Json all = Json::array();
    for (const Session* session : call.store().list(call.exchange->request().owner)) {
      all.push_back(session_json(call.store(), *session));
    }
    call.answer({{"object", "list"}, {"data", all}});
  });
}

void remove(Service& service, const Exchange& exchange, const std::string& id) {
  check_sessions(service);
  const SessionStore::Name name = checked_name(exchange, id);
  const Call call{service, exchange};
  call.on_scheduler([call, name] {
    const auto drop = [call](Session& session) {
      const std::string id = session.id;
      call.store().remove(session);
      call.answer({{"id", id}, {"object", "session"}, {"deleted", true}});
    };
    Session* const session = call.store().find(name);
    // One that is on disk alone need not be readable to be removed.
    if (session != nullptr && !session->busy && !session->place) return drop(*session);
    call.store().use(name, drop, call.failed());
  });
}

}  // namespace

void add_sessions(Router& router, Service& service) {
  const auto with_id = [&](const char* method, const char* pattern,
                           void (*call)(Service&, const Exchange&, const std::string&)) {
    router.add({method, pattern, [&service, call](const Exchange& exchange, const std::vector<std::string>& arguments) {
                  call(service, exchange, arguments[0]);
                }});
  };
  router.add(
      {"POST", "/v1/sessions", [&service](const Exchange& exchange, const auto&) { create(service, exchange); }});
  router.add({"GET", "/v1/sessions", [&service](const Exchange& exchange, const auto&) { list(service, exchange); }});
  with_id("GET", "/v1/sessions/{id}", get);
  with_id("DELETE", "/v1/sessions/{id}", remove);
  with_id("POST", "/v1/sessions/{id}/messages", message);
  with_id("POST", "/v1/sessions/{id}/append", append);
  with_id("POST", "/v1/sessions/{id}/fork", fork);
  with_id("POST", "/v1/sessions/{id}/rewind", rewind);
  with_id("POST", "/v1/sessions/{id}/save", save);
}

}  // namespace kvass::serve
