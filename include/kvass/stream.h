// Stream: tokens in, logits out, along one sequence of positions in memory that was planned before the first token.
//
//     kvass::StreamOptions options;
//     options.attention_sink = kvass::AttentionSink{4, 508};  // without end: 4 tokens for ever, and the latest 508
//     KVASS_ASSIGN_OR_RETURN(kvass::Stream stream, kvass::Stream::open(model, options));
//     KVASS_RETURN_IF_ERROR(stream.step(ids));
//     KVASS_ASSIGN_OR_RETURN(std::span<const float> logits, stream.logits());
//
// A stream has caches of its own, and an arena and threads that it shares with its group, where it has one
// (open_group). Everything is mapped when it is made; a step allocates nothing. The bits of its results depend on its
// tokens alone: not on how they were cut into steps, on what runs beside it, on threads, or on the instruction set.
//
// Threads: a group (a stream that was opened alone is one) has one caller at a time. A second one gets
// StatusCode::busy, and nothing has happened. length(), rewind_floor() and the sizes may be asked at any time; while a
// call runs, in its callbacks too, they are what they were before it. Streams of different groups never wait for each
// other.
//
// Errors: the state is as before; only where a call is cancelled, or a callback of it throws, what has run stays.
// cache_full: the stream has no room. bad_input: tokens outside of the vocabulary, a position that is not held any
// more, a file of another model. A stream that was moved from is an empty handle.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kvass/cache_plan.h"
#include "kvass/export.h"
#include "kvass/model.h"
#include "kvass/options.h"
#include "kvass/plan.h"
#include "kvass/status.h"

namespace kvass {

class Stream;

// The part of one stream in a step of several.
struct StreamTokens {
  Stream* stream = nullptr;
  std::span<const int32_t> tokens;
};

// A method of the program that a stream runs: a step runs the shortest that its tokens fit. Bits do not depend on it.
struct StreamMethod {
  std::string name;  // "forward", or "prefill" and "decode"
  int64_t rows = 0;  // tokens of a step at most
};

struct ForkOptions {
  bool share_arena = false;  // the fork joins this stream's group; otherwise it has an arena and threads of its own
};

class KVASS_API Stream {
 public:
  // Of a text model that is loaded. Refuses, before anything is mapped, what is above options.memory_limit.
  static Result<Stream> open(const Model& model, const StreamOptions& options = {});
  // options.sequences streams that share an arena and threads, and may advance in one step.
  static Result<std::vector<Stream>> open_group(const Model& model, const StreamOptions& options);
  // The stream that was saved, with the options that it had; threads, pin, checkpoints and memory_limit from `machine`.
  // A conversation is for Chat::resume.
  static Result<Stream> resume(const Model& model, const std::string& path, const StreamOptions& machine = {});

  Stream();  // an empty handle; its calls are bad_input
  Stream(Stream&&) noexcept;
  Stream& operator=(Stream&&) noexcept;
  ~Stream();

  // Appends tokens, any number, in chunks as planned. `cancel` is looked at before each chunk: tokens that have run
  // stay, and the code is cancelled. `on_progress` gets the tokens done, after each chunk; an exception from it ends
  // the call there, with StatusCode::internal.
  Status step(std::span<const int32_t> tokens, const std::atomic<bool>* cancel = nullptr,
              const std::function<void(int64_t)>& on_progress = {});
  // One step of several streams of one group, each at most once. Together they bring at most the chunk and one token
  // for each other stream of the group (StreamOptions.chunk, sequences). All advance, or none.
  static Status step(std::span<const StreamTokens> tokens);

  // After the last token: float32 [vocabulary], valid until the group's next call. bad_input where there is none: the
  // stream is empty or was rewound. Tokens that are not in the caches yet (length) run first: after a generation that
  // was cancelled in its prompt these are the rest of the prompt. `cancel` is looked at as in step(), here and below.
  Result<std::span<const float>> logits(const std::atomic<bool>* cancel = nullptr);
  // Its largest logit's token (the lowest of those that share it), without computing all where the model allows that.
  Result<int32_t> argmax(const std::atomic<bool>* cancel = nullptr);
  // ln p of a token as the next one: the negative of score()'s value for it, bit for bit.
  Result<double> logprob(int32_t token, const std::atomic<bool>* cancel = nullptr);

  // Tokens so far: the position of the next one. Those of a generation that are not in the caches yet are counted: the
  // last one that it chose, or the rest of a prompt that was cancelled. They run before anything else.
  int64_t length() const;
  bool endless() const;  // no length ends it
  // Back to a position, as if it had never gone further. Every position from rewind_floor() on works, and 0, and those
  // of checkpoints.
  Status rewind(int64_t length);
  int64_t rewind_floor() const;
  // Keeps the keys that the rings hold now, so that a later rewind to this position always works. If all
  // StreamOptions.checkpoints places are taken, the oldest checkpoint is replaced. bad_input if there are no places.
  Status checkpoint(const std::atomic<bool>* cancel = nullptr);
  std::vector<int64_t> checkpoints() const;  // positions, ascending; empty while the stream is busy
  // The same stream a second time.
  Result<Stream> fork(const ForkOptions& options = {}) const;
  Status clear();  // an empty stream; nothing is freed

  // The stream as a file that appears whole or not at all. Afterwards the stream is what it was.
  Status save(const std::string& path);
  // Becomes the stream that was saved, which had the same cache options.
  Status restore(const std::string& path);

  std::vector<StreamMethod> methods() const;
  const Model& model() const;
  const StreamOptions& options() const;  // every default filled in
  const MemoryPlan& plan() const;        // of its group: layouts and bytes
  size_t bytes() const;                  // its caches and its group's arena, as mapped

  struct KVASS_HIDDEN Impl;
  Impl* impl() const { return impl_.get(); }  // kvass's own
  const std::shared_ptr<Impl>& shared() const { return impl_; }

 private:
  explicit Stream(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

// The vocabulary's tokens by their logits, largest first, ties to the lower id.
struct TokenLogit {
  int32_t id = -1;
  float logit = 0.0f;
};
KVASS_API Result<std::vector<TokenLogit>> top_tokens(std::span<const float> logits, int64_t count);

}  // namespace kvass
