// A model and its streams as Python holds them: what a Sequence of Python is beside the library's, and the claim that
// keeps a second thread out. Plain C++; Python's types are bound in engine.cc.
#pragma once

#include <nanobind/nanobind.h>

#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "app/generate.h"
#include "app/open.h"
#include "app/score.h"
#include "base/busy.h"
#include "interrupt.h"
#include "session/snapshot.h"
#include "tensors.h"

namespace kvass::python {

struct LoadedModel {
  OpenModel model;
  StreamOptions stream;  // the file's, over which a sequence's options go
};

// Shared with the generations that run on it. While one thread works with it (alone), others may read `shown_length`
// and what never changes of the stream; the stream itself goes only with the GIL and the claim (Sequence.close).
struct StreamState {
  std::shared_ptr<const LoadedModel> loaded;
  StreamOptions options;
  OpenStream stream;  // empty: closed
  // What a snapshot has beside the caches: tokens that are part of the stream but not yet in the caches, text that is
  // not complete.
  kvass::StreamState text;
  int32_t last_row = -1;    // of the last step; -1: it has no logits
  int32_t last_token = -1;  // of the last step, while last_row is known
  uint64_t changes = 0;     // a generation goes on only while nobody else changed the stream
  std::atomic<bool> busy{false};
  int64_t shown_length = 0;  // as the last call that has ended left it; written and read with the GIL

  // With the claim.
  int64_t length() const { return stream.sequence->length() + static_cast<int64_t>(text.pending.size()); }
  // Runs what is pending, then `ids`.
  Status run(std::span<const int32_t> ids, Interrupt& interrupt);
  // The last token becomes pending again, so that a generation has it to begin with.
  Status take_back_last();
  void moved() {
    last_row = -1;
    last_token = -1;
    text = {};
  }
};

using SharedStream = std::shared_ptr<StreamState>;

Result<SharedStream> open_shared(std::shared_ptr<const LoadedModel> loaded, const StreamOptions& options);
// The same stream a second time, with caches and an arena of its own.
Result<SharedStream> fork_shared(StreamState& from);

// Runs body() -> Status alone on the stream and without the GIL. Errors are exceptions: Busy where another thread works
// with it, ValueError for a closed one, and what errors.h says for the library's own.
template <class Body>
void alone(StreamState& state, Body&& body) {
  Busy busy(state.busy);
  if (!busy.mine()) raise_busy("sequence");
  if (!state.stream.sequence) check(bad_input("sequence", "an open one", "one that was closed"));
  Status status;
  {
    nb::gil_scoped_release released;
    status = body();
  }
  state.shown_length = state.length();
  check(status);
}

// Tokens of a caller: ids, or a text, which becomes ids with the claim, since the begin token depends on where the
// stream is.
class TokenArgument {
 public:
  TokenArgument(nb::handle from, bool special);  // a list or array of ids, a text, or None
  // `begin`: a text gets the begin token where the model expects it.
  std::vector<int32_t> ids(const LoadedModel& model, bool begin) const;
  std::vector<int32_t> ids(const StreamState& state) const { return ids(*state.loaded, state.length() == 0); }

 private:
  std::optional<std::string> text_;
  std::vector<int32_t> ids_;
  bool special_;
};

void add_generation(nb::module_& module);
// An iterator over the text that follows.
nb::object begin_generation(SharedStream stream, nb::handle prompt, const nb::kwargs& options);

}  // namespace kvass::python
