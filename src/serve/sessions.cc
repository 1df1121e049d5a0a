#include "serve/sessions.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <system_error>

#include "base/os_error.h"
#include "session/snapshot.h"

namespace kvass::serve {
namespace {

constexpr char kEnding[] = ".kvsnap";
constexpr size_t kMostQueued = 64;  // of one session
constexpr size_t kMostName = 64;

// A session whose file cannot be used. Where it lies is not for clients.
ApiError unreadable(const std::string& id, const std::string& path, const Status& status) {
  std::string message = api_error(status).message;
  const std::string name = "the session '" + id + "'";
  for (size_t at = message.find(path); at != message.npos; at = message.find(path, at + name.size())) {
    message.replace(at, path.size(), name);
  }
  return {500, message, "", "session_unreadable"};
}

ApiError not_found(const std::string& id) {
  return {404, expected_message("session", "one that exists", "'" + id.substr(0, kMostName) + "'"), "id",
          "session_not_found"};
}

}  // namespace

ApiError not_saved(const Status& why, const std::string& what_now) {
  return {507, "the session could not be saved: " + why.message() + "; " + what_now, "", "not_saved"};
}

bool is_session_id(const std::string& id) {
  const auto allowed = [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_'; };
  return !id.empty() && id.size() <= kMostName && std::all_of(id.begin(), id.end(), allowed);
}

SessionStore::SessionStore(Service& service, std::vector<OpenStream> places, std::string folder)
    : service_(service), places_(std::move(places)), taken_(places_.size()), folder_(std::move(folder)) {}

SessionStore::~SessionStore() = default;

Result<std::unique_ptr<SessionStore>> SessionStore::create(Service& service, std::vector<OpenStream> places,
                                                           const std::string& folder) {
  std::unique_ptr<SessionStore> store(new SessionStore(service, std::move(places), folder));
  if (!folder.empty()) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) return os_error("ServeOptions.state", "a folder that can be written", error.value());
    KVASS_ASSIGN_OR_RETURN(FileLock lock, FileLock::acquire(folder + "/sessions"));
    store->lock_.emplace(std::move(lock));
    KVASS_RETURN_IF_ERROR(store->scan());
  }
  store->count();
  return store;
}

// The sessions that are there: <folder>/<owner>/<id>.kvsnap.
Status SessionStore::scan() {
  std::error_code error;
  for (const auto& owner : std::filesystem::directory_iterator(folder_, error)) {
    if (!owner.is_directory()) continue;
    for (const auto& file : std::filesystem::directory_iterator(owner.path(), error)) {
      const std::string id = file.path().stem().string();
      if (file.path().extension() != kEnding || !is_session_id(id)) continue;
      Session& session = add({owner.path().filename().string(), id});
      session.saved = true;
      session.turns = session.length = -1;
    }
    if (error) break;
  }
  return error ? os_error("ServeOptions.state", "a folder that can be read", error.value()) : Status();
}

void SessionStore::count() const {
  int64_t memory = 0, disk = 0;
  for (const auto& [name, session] : sessions_) {
    memory += session->place.has_value();
    disk += session->saved;
  }
  service_.metrics.sessions_in_memory.set(memory);
  service_.metrics.sessions_on_disk.set(disk);
}

std::string SessionStore::path_of(const Session& session) const {
  return folder_ + "/" + session.owner + "/" + session.id + kEnding;
}

SessionStore::Session& SessionStore::add(const Name& name) {
  auto session = std::make_unique<Session>();
  session->owner = name.first;
  session->id = name.second;
  session->used = ++clock_;
  return *(sessions_[name] = std::move(session));
}

SessionStore::Session* SessionStore::find(const Name& name) {
  const auto found = sessions_.find(name);
  return found == sessions_.end() ? nullptr : found->second.get();
}

std::vector<const SessionStore::Session*> SessionStore::list(const std::string& owner) const {
  std::vector<const Session*> all;
  for (const auto& [name, session] : sessions_) {
    if (name.first == owner) all.push_back(session.get());
  }
  return all;
}

void SessionStore::use(const Name& name, Use use, Failed failed) {
  Session* const session = find(name);
  if (session == nullptr) return failed(not_found(name.second));
  if (session->busy) {
    if (session->queue.size() >= kMostQueued) {
      return failed(
          {429,
           expected_message("session", "at most " + std::to_string(kMostQueued) + " requests that wait for it",
                            "one more"),
           "id",
           "busy",
           {{"Retry-After", "5"}}});
    }
    session->queue.push_back([this, use = std::move(use), failed = std::move(failed)](Session& mine) {
      if (mine.removed) return failed(not_found(mine.id));
      load(mine, use, failed);
    });
    return;
  }
  session->busy = true;
  load(*session, std::move(use), std::move(failed));
}

// A place in memory for a session that has none: a free one, or that of the session that was used least lately and is
// on disk as it is.
bool SessionStore::give_place(Session& session) {
  const auto free = std::find(taken_.begin(), taken_.end(), false);
  if (free == taken_.end()) {
    Session* oldest = nullptr;
    for (const auto& [name, other] : sessions_) {
      if (other->place && !other->busy && other->saved && (oldest == nullptr || other->used < oldest->used)) {
        oldest = other.get();
      }
    }
    if (oldest == nullptr) return false;
    drop_place(*oldest);
  }
  const auto at = std::find(taken_.begin(), taken_.end(), false);
  *at = true;
  session.place = static_cast<size_t>(at - taken_.begin());
  return true;
}

void SessionStore::with_place(Session& session, bool waits, std::function<void(bool)> then) {
  if (give_place(session)) return then(true);
  // Without a folder nobody ever makes room for another, unless a session is deleted.
  if (!waits || !on_disk()) return then(false);
  wanting_.emplace_back(Name(session.owner, session.id), std::move(then));
}

void SessionStore::serve_wanting() {
  while (!wanting_.empty()) {
    Session* const session = find(wanting_.front().first);
    if (session != nullptr && !give_place(*session)) return;
    const auto then = std::move(wanting_.front().second);
    wanting_.pop_front();
    if (session != nullptr) then(true);
  }
}

void SessionStore::drop_place(Session& session) {
  if (!session.place) return;
  session.chat.reset();
  (void)places_[*session.place].sequence->clear();
  taken_[*session.place] = false;
  session.place.reset();
}

// The session into memory, if it is not there, then `use`.
void SessionStore::load(Session& session, Use use, Failed failed) {
  session.used = ++clock_;
  if (session.place) return use(session);
  with_place(session, /*waits=*/true, [this, &session, use = std::move(use), failed = std::move(failed)](bool there) {
    if (!there) {
      release(session);
      return failed(
          {429, "sessions: expected a place in memory, got none that is free", "", "busy", {{"Retry-After", "5"}}});
    }
    service_.workers->add([this, &session, use, failed] {
      OpenStream& place = places_[*session.place];
      const std::string path = path_of(session);
      Status status;
      std::optional<Conversation> chat;
      if (Result<Snapshot> snapshot = Snapshot::open(path); snapshot.ok()) {
        status = snapshot->info().caches ==
                         [&] {
                           CacheOptions same = place.sequence->options();
                           same.checkpoints = snapshot->info().caches.checkpoints;
                           return same;
                         }()
                     ? snapshot->restore(*place.sequence)
                     : bad_input(path, "a session of this server's cache options", "another's");
        if (status.ok()) {
          ChatOptions options;
          options.sampling = snapshot->info().state.sampling;
          options.stops = snapshot->info().state.stops;
          Result<Conversation> made =
              Conversation::resume(service_.model, place, options, snapshot->info().state, path);
          status = made.status();
          if (made.ok()) chat.emplace(std::move(made).value());
        }
      } else {
        status = snapshot.status();
      }
      auto loaded = std::make_shared<std::optional<Conversation>>(std::move(chat));
      service_.scheduler->call([this, &session, use, failed, status, loaded] {
        if (!status.ok()) {
          const ApiError error = unreadable(session.id, path_of(session), status);
          drop_place(session);
          release(session);
          return failed(error);
        }
        session.chat = std::move(*loaded);
        session.turns = session.chat->turns();
        session.length = stream(session).sequence->length();
        count();
        use(session);
      });
    });
  });
}

void SessionStore::create_session(const Name& name, const ChatOptions& options, bool waits, Use use, Failed failed) {
  if (find(name) != nullptr) {
    return failed(
        {409, expected_message("id", "a name that no session has", "'" + name.second + "'"), "id", "conflict"});
  }
  Session& session = add(name);
  session.busy = true;
  with_place(session, waits, [this, &session, options, use = std::move(use), failed = std::move(failed)](bool there) {
    if (!there) {
      remove(session);
      return failed({429,
                     expected_message(
                         "sessions",
                         "at most " + std::to_string(places_.size()) +
                             ", which is what is mapped (ServeOptions.sessions); ServeOptions.state keeps more on disk",
                         "one more"),
                     "",
                     "busy",
                     {{"Retry-After", "60"}}});
    }
    OpenStream& stream = places_[*session.place];
    Result<Conversation> chat = Conversation::create(service_.model, stream, options);
    if (!chat.ok()) {
      const Status status = chat.status();
      remove(session);
      return failed(api_error(status));
    }
    session.chat.emplace(std::move(chat).value());
    count();
    use(session);
  });
}

void SessionStore::save(Session& session, std::function<void(Status)> then) {
  session.turns = session.chat->turns();
  session.length = stream(session).sequence->length();
  session.saved = false;
  if (!on_disk()) return then({});
  auto state = std::make_shared<StreamState>(session.chat->state());
  const Sequence* const sequence = stream(session).sequence.get();
  service_.workers->add([this, &session, state, sequence, then = std::move(then)] {
    const auto begin = std::chrono::steady_clock::now();
    const std::string path = path_of(session);
    std::error_code error;
    std::filesystem::create_directories(folder_of(path), error);
    const Status status = save_snapshot(*sequence, *state, path);
    service_.metrics.snapshots.add();
    service_.metrics.snapshot.add(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    service_.scheduler->call([this, &session, status, then] {
      session.saved = status.ok();
      count();
      then(status);
    });
  });
}

void SessionStore::peek(Session& session, std::function<void(const Result<SnapshotInfo>&)> then) {
  session.busy = true;
  service_.workers->add([this, &session, then = std::move(then)] {
    const Result<Snapshot> snapshot = Snapshot::open(path_of(session));
    auto info = std::make_shared<Result<SnapshotInfo>>(snapshot.ok() ? Result<SnapshotInfo>(snapshot->info())
                                                                     : Result<SnapshotInfo>(snapshot.status()));
    service_.scheduler->call([this, &session, info, then] {
      if (info->ok()) {
        session.turns = info->value().state.chat.turns;
        session.length = info->value().length;
      }
      then(*info);
      release(session);
    });
  });
}

void SessionStore::release(Session& session) {
  session.busy = false;
  session.used = ++clock_;
  if (!session.queue.empty()) {
    const auto next = std::move(session.queue.front());
    session.queue.pop_front();
    session.busy = true;
    next(session);
  }
  serve_wanting();
}

void SessionStore::remove(Session& session) {
  session.removed = true;
  drop_place(session);
  if (on_disk()) {
    std::error_code ignored;
    std::filesystem::remove(path_of(session), ignored);
  }
  const auto queue = std::move(session.queue);
  for (const auto& next : queue) next(session);
  sessions_.erase({session.owner, session.id});
  count();
  serve_wanting();
}

}  // namespace kvass::serve
