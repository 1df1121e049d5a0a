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
  SessionStore::Failed failed() const {
    return [exchange = exchange](const ApiError& error) { exchange->answer(error_reply(error)); };
  }
  SessionStore::Name name(const std::string& id) const { return {exchange->request().owner, id}; }
  void on_scheduler(std::function<void()> call) const { service.scheduler->call(std::move(call)); }
};

SessionStore::Name checked_name(const Exchange& exchange, const std::string& id) {
  if (!is_session_id(id)) {
    throw ApiError{400,
                   expected_message("id", "1 to 64 letters, digits, - and _", "'" + valid_utf8(id).substr(0, 80) + "'"),
                   "id", "invalid_value"};
  }
  return {exchange->request().owner, id};
}

std::string id_or_new(Params& params) {
  const std::optional<std::string> id = params.text("id");
  return id ? *id : new_id("session_");
}

void check_sessions(const Service& service) {
  if (!service.sessions)
    throw ApiError{404, "sessions: expected a server with --sessions of at least 1, got 0", "", "unsupported"};
  if (service.model.chat_template.empty()) {
    throw ApiError{400, "sessions: expected a model with a chat template, got one without", "", "invalid_value"};
  }
}

void create(Service& service, const Exchange& exchange) {
  check_sessions(service);
  Params params(exchange->request().body.empty() ? "{}" : exchange->request().body);
  check_model(params, service, service.id);
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
                                     "sessions (--session-sinks), so that they stay in sight for ever",
                                     caches.sink_tokens),
                         std::to_string(opening.value())),
        "system", "invalid_value"};
  }
  const Call call{service, exchange};
  call.on_scheduler([call, name, options] {
    call.store().create_session(
        name, options,
        [call](Session& session) {
          call.store().save(session, [call, &session](const Status& status) {
            if (!status.ok()) {
              call.store().remove(session);
              return call.exchange->answer(error_reply(api_error(status)));
            }
            const Json json = full_json(call.store(), session);
            call.store().release(session);
            call.exchange->answer({201, "application/json", dump(json)});
          });
        },
        call.failed());
  });
}

void message(Service& service, const Exchange& exchange, const std::string& id) {
  check_sessions(service);
  const SessionStore::Name name = checked_name(exchange, id);
  Params params(exchange->request().body);
  check_model(params, service, service.id);
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
  const Call call{service, exchange};
  call.on_scheduler([call, name, turn] {
    call.store().use(
        name, [turn](Session& session) { turn->run(session); }, call.failed());
  });
}

void append(Service& service, const Exchange& exchange, const std::string& id) {
  check_sessions(service);
  const SessionStore::Name name = checked_name(exchange, id);
  Params params(exchange->request().body);
  const auto text = params.text("text");
  const Json* list = params.take("ids");
  params.finish();
  if (text.has_value() == (list != nullptr)) params.refuse("text", "text or ids", text ? "both" : "neither");
  auto ids = std::make_shared<std::vector<int32_t>>();
  if (list != nullptr) {
    const int64_t vocabulary = service.session->engine().program().vocabulary();
    if (!list->is_array() || list->empty()) params.refuse("ids", "a list of token ids", shown(*list));
    for (const Json& one : *list) {
      if (!one.is_number_integer() || one.get<int64_t>() < 0 || one.get<int64_t>() >= vocabulary) {
        params.refuse("ids", fmt::format("token ids from 0 to {}", vocabulary - 1), shown(one));
      }
      ids->push_back(one.get<int32_t>());
    }
  } else if (text->empty()) {
    params.refuse("text", "text that is not empty", "none");
  }
  const Call call{service, exchange};
  call.on_scheduler([call, name, text, ids] {
    call.store().use(
        name,
        [call, text, ids](Session& session) {
          Service& service = call.service;
          const Sequence& sequence = *call.store().stream(session).sequence;
          if (text) {
            const Tokenizer& tokenizer = *service.model.tokenizer;
            const TextPart part{*text, /*parse_special=*/false};
            const bool first = sequence.length() == 0;
            *ids = tokenizer.encode_parts(std::span(&part, 1), first && tokenizer.add_bos(), !first);
          }
          const auto job = std::make_shared<SessionJob>(
              service, [&session, ids] { return session.chat->begin_ids(*ids); }, [](const DecodeEvent&) {},
              [call, &session](const Result<DecodeResult>& result) {
                if (!result.ok()) {
                  call.store().release(session);
                  return call.exchange->answer(error_reply(api_error(result.status())));
                }
                session.chat->end_ids();
                const bool cut = result->reason == StopReason::cancelled;
                const int64_t run = result->prompt_tokens;
                call.store().save(session, [call, &session, cut, run](const Status& saved) {
                  const Json json = {{"id", session.id},       {"object", "session"},      {"appended", run},
                                     {"turns", session.turns}, {"length", session.length}, {"saved", session.saved}};
                  call.store().release(session);
                  if (!saved.ok()) return call.exchange->answer(error_reply(api_error(saved)));
                  if (cut)
                    return call.exchange->answer(
                        error_reply({503, fmt::format("append: cut after {} tokens", run), "", "cancelled"}));
                  call.exchange->answer({200, "application/json", dump(json)});
                });
              });
          call.exchange->on_gone([job] { job->cancel(); });
          if (const Status status = service.scheduler->submit(job); !status.ok()) {
            call.store().release(session);
            call.exchange->answer(error_reply(too_many(service, status)));
          }
        },
        call.failed());
  });
}

void fork(Service& service, const Exchange& exchange, const std::string& id) {
  check_sessions(service);
  const SessionStore::Name name = checked_name(exchange, id);
  Params params(exchange->request().body.empty() ? "{}" : exchange->request().body);
  const SessionStore::Name other = checked_name(exchange, id_or_new(params));
  params.finish();
  const Call call{service, exchange};
  if (service.sessions->places() < 2) {
    throw ApiError{400, "fork: expected a server with at least 2 places for sessions (--sessions), got 1", "",
                   "unsupported"};
  }
  call.on_scheduler([call, name, other] {
    call.store().use(
        name,
        [call, other](Session& session) {
          ChatOptions options;
          const StreamState state = session.chat->state();
          options.sampling = state.sampling;
          options.stops = state.stops;
          const auto failed = [call, &session](const ApiError& error) {
            call.store().release(session);
            call.exchange->answer(error_reply(error));
          };
          call.store().create_session(
              other, options,
              [call, &session, state, options](Session& copy) {
                OpenStream& to = call.store().stream(copy);
                Status status = to.sequence->copy_from(*call.store().stream(session).sequence);
                call.store().release(session);
                if (status.ok()) {
                  Result<Conversation> chat = Conversation::resume(call.service.model, to, options, state, copy.id);
                  status = chat.status();
                  if (chat.ok()) {
                    copy.chat.reset();
                    copy.chat.emplace(std::move(chat).value());
                  }
                }
                if (!status.ok()) {
                  call.store().remove(copy);
                  return call.exchange->answer(error_reply(api_error(status)));
                }
                call.store().save(copy, [call, &copy](const Status& saved) {
                  const Json json = full_json(call.store(), copy);
                  if (!saved.ok()) {
                    call.store().remove(copy);
                    return call.exchange->answer(error_reply(api_error(saved)));
                  }
                  call.store().release(copy);
                  call.exchange->answer({201, "application/json", dump(json)});
                });
              },
              failed);
        },
        call.failed());
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
  call.on_scheduler([call, name, turns, position] {
    call.store().use(
        name,
        [call, turns, position](Session& session) {
          const Status status = turns ? session.chat->rewind_turns(*turns) : session.chat->rewind(*position);
          if (!status.ok()) {
            call.store().release(session);
            ApiError error = api_error(status);
            error.status = 409;
            return call.exchange->answer(error_reply(error));
          }
          call.store().save(session, [call, &session](const Status& saved) {
            const Json json = full_json(call.store(), session);
            call.store().release(session);
            call.exchange->answer(saved.ok() ? HttpReply{200, "application/json", dump(json), {}}
                                             : error_reply(api_error(saved)));
          });
        },
        call.failed());
  });
}

void save(Service& service, const Exchange& exchange, const std::string& id) {
  check_sessions(service);
  const SessionStore::Name name = checked_name(exchange, id);
  if (!service.sessions->on_disk()) {
    throw ApiError{400, "save: expected a server with a folder for sessions (--state), got one without", "",
                   "unsupported"};
  }
  const Call call{service, exchange};
  call.on_scheduler([call, name] {
    call.store().use(
        name,
        [call](Session& session) {
          call.store().save(session, [call, &session](const Status& saved) {
            const Json json = full_json(call.store(), session);
            call.store().release(session);
            call.exchange->answer(saved.ok() ? HttpReply{200, "application/json", dump(json), {}}
                                             : error_reply(api_error(saved)));
          });
        },
        call.failed());
  });
}

void get(Service& service, const Exchange& exchange, const std::string& id) {
  check_sessions(service);
  const SessionStore::Name name = checked_name(exchange, id);
  const Call call{service, exchange};
  call.on_scheduler([call, name] {
    Session* const session = call.store().find(name);
    if (session == nullptr) return call.store().use(name, {}, call.failed());
    if (session->busy) {  // what is known of it while somebody works with it
      return call.exchange->answer({200, "application/json", dump(session_json(call.store(), *session))});
    }
    if (session->place) {
      return call.exchange->answer({200, "application/json", dump(full_json(call.store(), *session))});
    }
    call.store().peek(*session, [call, session](const Result<SnapshotInfo>& info) {
      if (!info.ok()) {
        return call.exchange->answer(error_reply({500, "the session's file cannot be read", "", "session_unreadable"}));
      }
      Json json = session_json(call.store(), *session);
      json["held_bytes"] = info->body_bytes;
      json["endless"] = info->caches.sinks;
      json["system"] = valid_utf8(info->state.chat.system);
      json["turn_ends"] = info->state.chat.turn_ends;
      json["busy"] = false;
      call.exchange->answer({200, "application/json", dump(json)});
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
    call.exchange->answer({200, "application/json", dump({{"object", "list"}, {"data", all}})});
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
      call.exchange->answer({200, "application/json", dump({{"id", id}, {"object", "session"}, {"deleted", true}})});
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
