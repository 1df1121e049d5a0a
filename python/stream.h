// A model and its streams as Python holds them: what a Sequence of Python is beside the library's, and the claim that
// keeps a second thread out. Plain C++; Python's types are bound in engine.cc.
#pragma once

#include <nanobind/nanobind.h>

#include <atomic>
#include <memory>
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

// Shared with the generations that run on it.
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

// Runs body() -> Status alone on the stream and without the GIL. Errors are exceptions: RuntimeError where another
// thread works with it, ValueError for a closed one and for what the library refuses.
template <class Body>
void alone(StreamState& state, Body&& body) {
  Busy busy(state.busy);
  if (!busy.mine()) {
    throw std::runtime_error("sequence: expected one caller at a time, got a second one");
  }
  if (!state.stream.sequence) check(bad_input("sequence", "an open one", "one that was closed"));
  Status status;
  {
    nb::gil_scoped_release released;
    status = body();
  }
  check(status);
}

// Ids as a list or array, or a text.
std::vector<int32_t> token_ids(nb::handle from, const LoadedModel& model, bool begin, bool special);

void add_generation(nb::module_& module);
// An iterator over the text that follows.
nb::object begin_generation(SharedStream stream, nb::handle prompt, const nb::kwargs& options);

}  // namespace kvass::python
