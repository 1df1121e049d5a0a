// What a Stream is inside: a sequence, the text state that goes with it, and the group whose session steps it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "api/guard.h"
#include "api/model_impl.h"
#include "app/open.h"
#include "base/busy.h"
#include "kvass/stream.h"
#include "session/snapshot.h"

namespace kvass {

// Streams that share an arena and threads. One caller at a time.
struct StreamGroup {
  Model model;
  StreamOptions options;  // nothing left open
  CacheOptions caches;
  MemoryPlan plan;
  std::shared_ptr<Session> session;
  std::vector<Run> runs;  // of a step of several streams
  int64_t steps = 0;      // of the session: the rows of the last one are there to be asked for
  std::atomic<bool> busy{false};

  const OpenModel& text() const { return *model.impl()->opened; }
};

struct Stream::Impl {
  std::shared_ptr<StreamGroup> group;
  OpenStream stream;  // the group's session, and this stream's sequence
  // What a snapshot has beside the caches: tokens that are part of the stream but not yet in the caches, text that is
  // not complete.
  StreamState text;
  std::vector<int32_t> joined;  // pending tokens and those that follow, while they run
  int32_t row = -1;             // of this stream's last step; -1: there is none
  int64_t row_step = 0;         // StreamGroup::steps when that step had run
  int32_t last_token = -1;      // in the caches, while `row` is known
  int64_t changes = 0;          // a generation goes on only while nobody else changes the stream
  // Other threads may read these while a call runs. They hold the values after the last finished call.
  std::atomic<int64_t> length{0}, rewind_floor{0};

  Sequence& sequence() { return *stream.sequence; }
  int64_t now() const { return stream.sequence->length() + static_cast<int64_t>(text.pending.size()); }
  void publish();  // length and rewind_floor

  // Runs what is pending, then `ids`, a chunk at a time. `on_progress` gets how many of them are done.
  Status run(std::span<const int32_t> ids, const std::atomic<bool>* cancel = nullptr,
             const std::function<void(int64_t)>& on_progress = {});
  Status run_pending(const std::atomic<bool>* cancel) { return text.pending.empty() ? Status() : run({}, cancel); }
  void take_from_pending(size_t tokens);  // they have run
  // The row with the logits of what follows is in the session: pending tokens run, and the last one again where another
  // stream of the group has stepped since. `what` stands in the message where there is none.
  Status need_row(const char* what, const std::atomic<bool>* cancel);
  // The last token becomes pending, so that a generation or a snapshot has it to begin with.
  Status take_back_last();
  void forget_text();  // the row, and what is pending
  Status restore(const Snapshot& snapshot);
  // run() of the token that was taken back; a checkpoint that stood after it stands again.
  Status put_back_last(bool checkpointed);
  bool checkpointed() const;  // at the present position
};

// The options of the stream that a snapshot has, where `machine` asks for nothing else.
Result<StreamOptions> saved_options(const Snapshot& snapshot, const StreamOptions& machine);

// body(impl) -> Status or Result, alone in the stream's group.
template <class Body>
auto alone(Stream::Impl* impl, Body&& body) -> decltype(body(*impl)) {
  return guarded([&]() -> decltype(body(*impl)) {
    if (impl == nullptr) return bad_input("stream", "an open one", "none");
    const Busy busy(impl->group->busy);
    if (!busy.mine()) {
      return Status::error(StatusCode::busy, "stream: expected one caller at a time, got a second one");
    }
    const struct Publish {  // however the call ends
      Stream::Impl& impl;
      ~Publish() { impl.publish(); }
    } publish{*impl};
    return body(*impl);
  });
}

}  // namespace kvass
