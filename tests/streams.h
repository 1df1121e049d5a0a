// Runs tokens through engines, sessions and sequences in tests, and collects the logits of every position.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <numeric>
#include <span>
#include <vector>

#include "base/cpu.h"
#include "model/model.h"
#include "session/engine.h"
#include "session/session.h"
#include "tiny_model.h"

namespace kvass::testing {

using EnginePtr = std::shared_ptr<const Engine>;
using StepRun = ::kvass::Run;  // in a test body `Run` is gtest's

// Instruction sets that can be tested here.
inline std::vector<Isa> available_isas() {
  std::vector<Isa> isas;
  for (Isa isa : kIsas) {
    if (isa_available(isa, detect_cpu_features())) isas.push_back(isa);
  }
  return isas;
}

inline Result<EnginePtr> try_engine(const Gguf& file, Math math, Isa isa) {
  KVASS_ASSIGN_OR_RETURN(ModelProgram model, build_program(file));
  ThreadPool pool(1);
  KVASS_ASSIGN_OR_RETURN(WeightStore weights, load_weights(file, model, pool));
  return Engine::create(std::move(model.program), std::move(weights), {math, isa});
}

inline Result<EnginePtr> try_engine(const std::vector<uint8_t>& gguf, Math math, Isa isa) {
  KVASS_ASSIGN_OR_RETURN(const Gguf file, Gguf::parse(gguf, "tiny.gguf"));
  return try_engine(file, math, isa);
}

inline EnginePtr tiny_engine(const TinyModel& model, Math math, Isa isa) {
  Result<EnginePtr> engine = try_engine(model.gguf(), math, isa);
  if (!engine.ok()) ADD_FAILURE() << engine.status().message();
  return engine.ok() ? engine.value() : nullptr;
}

inline Isa best_isa() { return choose_isa(detect_cpu_features(), "").value(); }

inline CacheOptions flat_caches(int64_t context, int64_t chunk, DType dtype = DType::f16) {
  CacheOptions options;
  options.context = context;
  options.chunk = chunk;
  options.dtype = dtype;
  return options;
}

inline CacheOptions sink_caches(int64_t sink, int64_t window, int64_t chunk, DType dtype = DType::f16) {
  CacheOptions options = flat_caches(sink + window, chunk, dtype);
  options.sinks = true;
  options.sink_tokens = sink;
  options.sink_window = window;
  return options;
}

inline std::unique_ptr<Session> make_session(const EnginePtr& engine, int64_t rows, int threads = 1,
                                             int64_t sequences = 1) {
  SessionOptions options;
  options.rows = rows;
  options.head_rows = rows;
  options.sequences = sequences;
  options.threads = threads;
  Result<std::unique_ptr<Session>> session = Session::create(engine, options);
  if (!session.ok()) ADD_FAILURE() << session.status().message();
  return session.ok() ? std::move(session).value() : nullptr;
}

inline std::unique_ptr<Sequence> make_sequence(const EnginePtr& engine, const CacheOptions& options) {
  Result<std::unique_ptr<Sequence>> sequence = Sequence::create(engine, options);
  if (!sequence.ok()) ADD_FAILURE() << sequence.status().message();
  return sequence.ok() ? std::move(sequence).value() : nullptr;
}

// Logits of rows of the session's last step.
inline Result<std::span<const float>> logits_of(Session& session, std::span<const int32_t> rows) {
  KVASS_ASSIGN_OR_RETURN(const StepResult result, session.step({.logits = rows}));
  return result.logits;
}

// Appends the logits of all rows of the session's last step.
inline void append_logits(Session& session, int64_t rows, std::vector<float>& logits) {
  std::vector<int32_t> ids(static_cast<size_t>(rows));
  std::iota(ids.begin(), ids.end(), 0);
  const Result<std::span<const float>> values = logits_of(session, ids);
  ASSERT_TRUE(values.ok()) << values.status().message();
  logits.insert(logits.end(), values.value().begin(), values.value().end());
}

// Runs the next tokens of `sequence` in chunks of the sizes `chunks` (the last size is repeated). Returns the logits of
// every position.
inline std::vector<float> run_chunks(Session& session, Sequence& sequence, std::span<const int32_t> tokens,
                                     const std::vector<int64_t>& chunks) {
  std::vector<float> logits;
  for (size_t at = 0, i = 0; at < tokens.size(); ++i) {
    const size_t count = std::min(static_cast<size_t>(chunks[std::min(i, chunks.size() - 1)]), tokens.size() - at);
    const Run run{&sequence, sequence.length(), tokens.subspan(at, count)};
    const Status status = session.step({std::span(&run, 1)}).status();
    EXPECT_TRUE(status.ok()) << status.message();
    if (!status.ok()) return {};
    append_logits(session, static_cast<int64_t>(count), logits);
    at += count;
  }
  return logits;
}

// The same for a new stream, from its first token.
inline std::vector<float> run_stream(const EnginePtr& engine, const CacheOptions& caches,
                                     std::span<const int32_t> tokens, const std::vector<int64_t>& chunks,
                                     int threads = 1) {
  const std::unique_ptr<Session> session = make_session(engine, caches.chunk, threads);
  const std::unique_ptr<Sequence> sequence = make_sequence(engine, caches);
  if (!session || !sequence) return {};
  return run_chunks(*session, *sequence, tokens, chunks);
}

// The first position whose logits differ in a bit, or -1. Sizes must be equal.
inline int64_t first_difference(const std::vector<float>& a, const std::vector<float>& b, int64_t vocabulary) {
  EXPECT_EQ(a.size(), b.size());
  EXPECT_FALSE(a.empty());
  if (a.size() != b.size()) return 0;
  const auto width = static_cast<size_t>(vocabulary);
  for (size_t row = 0; row * width < a.size(); ++row) {
    if (std::memcmp(a.data() + row * width, b.data() + row * width, width * sizeof(float)) != 0)
      return static_cast<int64_t>(row);
  }
  return -1;
}

}  // namespace kvass::testing

// Same bits at every position; a message names the first one that differs.
#define EXPECT_SAME_BITS(a, b) EXPECT_EQ(::kvass::testing::first_difference(a, b, 300), -1)
