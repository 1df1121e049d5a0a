// Opening a model: file to engine, tokenizer and the figures that a person wants to see. Shared by every job.
#pragma once

#include <memory>
#include <string>

#include "app/model_file.h"
#include "app/stream_options.h"
#include "kvass/status.h"
#include "session/engine.h"
#include "session/session.h"
#include "text/tokenizer.h"

namespace kvass {

struct OpenModel {
  std::string path;
  std::string family;  // "gemma3"
  std::shared_ptr<const Engine> engine;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::string chat_template;        // its jinja text as the file has it; empty: none
  int64_t trained_context = 0;      // tokens
  std::vector<MethodPlan> methods;  // that the file brings; sessions of other options plan their own
  double load_seconds = 0.0;
};

// Maps the file, brings the weights into memory on `threads` threads (those of a .kvp are there with the map) and
// chooses the instruction set (KVASS_ISA forces one). For another device than the CPU they are then copied there.
Result<OpenModel> open_model(const std::string& path, Math math, int threads, const WeightOptions& weights = {});
Result<OpenModel> open_model(ModelFile file, Math math, int threads, const WeightOptions& weights = {});

// What the streams of a file are unless they say otherwise: for a .kvp those that it was exported for, for a speech
// model float32 throughout.
Result<StreamOptions> stream_defaults(const std::string& path);

// The tokenizer alone; reads no weights.
Result<Tokenizer> open_tokenizer(const std::string& path);

// A session and one sequence, all memory mapped: what running a stream takes.
struct OpenStream {
  std::shared_ptr<Session> session;  // other streams may share it
  std::unique_ptr<Sequence> sequence;

  size_t cache_bytes() const { return sequence->cache_bytes(); }
  size_t arena_bytes() const { return session->arena_bytes(); }
};

// The session that options.sequences streams with these caches take: rows for a chunk of one of them beside a token of
// each other, and logits for a row of each.
Result<SessionOptions> session_options(const StreamOptions& options, const CacheOptions& caches, int64_t head_rows);

// `head_rows`: rows of logits that one call may ask for.
Result<OpenStream> open_stream(const OpenModel& model, const StreamOptions& options, int64_t head_rows);

// The process's peak resident memory so far, in bytes.
size_t peak_rss_bytes();

}  // namespace kvass
