// Sessions as objects of the server: conversations whose history is the caches of a stream of their own, without end by
// default. Some are in memory, in places that were mapped in the beginning; all of them are in a folder, each as a
// snapshot that is written after every turn, before the turn is acknowledged. So a session outlives the process, and
// there may be more of them than memory has places: the one that was used least lately makes room.
//
// State is of the scheduler's thread. Files are read and written by a worker while the session waits.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "app/chat.h"
#include "base/new_file.h"
#include "serve/params.h"
#include "serve/router.h"
#include "serve/service.h"
#include "session/snapshot.h"

namespace kvass::serve {

class SessionStore {
 public:
  // `places`: streams of sessions in memory, all of the same cache options. `folder`: empty: sessions are in memory
  // alone, and there are no more of them than places. busy where another server has the folder.
  static Result<std::unique_ptr<SessionStore>> create(Service& service, std::vector<OpenStream> places,
                                                      const std::string& folder);
  ~SessionStore();

  int64_t places() const { return static_cast<int64_t>(places_.size()); }

  // One session. `busy` while somebody works with it; others wait in its queue.
  struct Session {
    std::string owner, id;
    std::optional<size_t> place;       // in memory
    std::optional<Conversation> chat;  // there
    bool busy = false, saved = false, removed = false;
    std::deque<std::function<void(Session&)>> queue;
    int64_t used = 0;
    int64_t turns = 0, length = 0;  // as of when somebody last worked with it; -1: not known yet
  };
  using Name = std::pair<std::string, std::string>;  // owner, id
  // What a caller does with a session that is his: in memory and busy, until release(). `failed`: why he cannot have
  // it.
  using Use = std::function<void(Session&)>;
  using Failed = std::function<void(ApiError)>;

  // All of these on the scheduler's thread.
  void use(const Name& name, Use use, Failed failed);
  // `waits`: for a place in memory; a caller who has another session must not, since others may wait for that one's.
  void create_session(const Name& name, const ChatOptions& options, bool waits, Use use, Failed failed);
  // Writes the snapshot, then goes on here; without a folder at once.
  void save(Session& session, std::function<void(Status)> then);
  void release(Session& session);
  void remove(Session& session);  // and release
  // The header of a session's file, while it is not in memory and nobody works with it; then goes on here.
  void peek(Session& session, std::function<void(const Result<SnapshotInfo>&)> then);
  Session* find(const Name& name);
  std::vector<const Session*> list(const std::string& owner) const;

  OpenStream& stream(const Session& session) { return places_[*session.place]; }
  const CacheOptions& cache_options() const { return places_.front().sequence->options(); }
  bool on_disk() const { return !folder_.empty(); }
  void count() const;

 private:
  SessionStore(Service& service, std::vector<OpenStream> places, std::string folder);
  Status scan();
  std::string path_of(const Session& session) const;
  Session& add(const Name& name);
  void with_place(Session& session, bool waits, std::function<void(bool)> then);
  bool give_place(Session& session);
  void load(Session& session, Use use, Failed failed);
  void drop_place(Session& session);
  void serve_wanting();

  Service& service_;
  std::vector<OpenStream> places_;
  std::vector<bool> taken_;
  std::string folder_;
  std::optional<FileLock> lock_;
  std::map<Name, std::unique_ptr<Session>> sessions_;
  std::deque<std::pair<Name, std::function<void(bool)>>> wanting_;  // a place
  int64_t clock_ = 0;
};

bool is_session_id(const std::string& id);
ApiError not_saved(const Status& why, const std::string& what_now);  // 507

void add_sessions(Router& router, Service& service);

}  // namespace kvass::serve
