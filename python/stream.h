// A stream as Python holds it, and the tokens that callers hand in. Python's types are bound in sequence.cc and
// generation.cc.
#pragma once

#include <nanobind/nanobind.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "errors.h"
#include "interrupt.h"
#include "kvass/generate.h"
#include "kvass/stream.h"

namespace kvass::python {

namespace nb = nanobind;

// Shared with the generations that run on it. While one thread works with it (alone), others may ask it for what
// stream.h allows at any time. It is closed only with the GIL and the claim.
struct SharedStream {
  explicit SharedStream(Stream opened) : stream(std::move(opened)) {}

  std::optional<Stream> stream;                     // none: closed
  std::weak_ptr<std::optional<Generation>> latest;  // generation, which holds memory of the stream until it has ended
  std::atomic_flag busy;

  Stream& opened() {
    if (!stream) check(bad_input("sequence", "an open one", "one that was closed"));
    return *stream;
  }
  void close() {
    const Claim claim(busy, "sequence");
    if (const auto generation = latest.lock()) generation->reset();
    stream.reset();
  }
};

// What body(stream) gives, a Status or a Result, alone on the stream and without the GIL.
template <class Body>
auto alone(SharedStream& shared, const Interrupt& interrupt, Body&& body) {
  const Claim claim(shared.busy, "sequence");
  Stream& stream = shared.opened();
  return without_gil(interrupt, [&] { return body(stream); });
}
template <class Body>
auto alone(SharedStream& shared, Body&& body) {
  return alone(shared, Interrupt(), std::forward<Body>(body));
}

// Tokens of a caller: ids, or a text, which becomes ids with the claim, since the begin token depends on where the
// stream is.
class TokenArgument {
 public:
  TokenArgument(nb::handle from, bool special);  // a list or array of ids, a text, or None
  // What follows in the stream: a text gets the begin token where the stream is empty and the model expects it.
  Result<std::vector<int32_t>> ids(const Stream& stream) const;
  const std::vector<int32_t>& ids() const { return ids_; }  // of one that is no text

 private:
  std::optional<std::string> text_;
  std::vector<int32_t> ids_;
  bool special_;
};

// A kvass.Sequence.
nb::object sequence_object(Stream stream);
// An iterator over the text that follows.
nb::object begin_generation(std::shared_ptr<SharedStream> shared, nb::handle prompt, bool special,
                            const nb::kwargs& options);
// Its keywords, as its signature has them.
std::string generate_keyword_types();

// Rows of logits at once: what score() is fast with.
inline constexpr int64_t kLogitRows = 16;

}  // namespace kvass::python
