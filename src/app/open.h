// Opening a model: file to engine, tokenizer and the figures that a person wants to see. Shared by every job.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "app/model_file.h"
#include "app/stream_options.h"
#include "kvass/status.h"
#include "model/speech.h"
#include "session/engine.h"
#include "session/session.h"
#include "text/speech_tokenizer.h"
#include "text/tokenizer.h"

namespace kvass {

// A model that transcribes has these in place of a text tokenizer.
struct OpenSpeech {
  SpeechShape shape;
  std::shared_ptr<const SpeechTokenizer> tokenizer;
  std::vector<std::pair<int64_t, int64_t>> alignment_heads;  // (decoder layer, head): those that follow the audio
};

struct OpenModel {
  std::string path;
  std::string format;  // "GGUF"
  std::string family;  // "gemma3"
  std::shared_ptr<const Engine> engine;
  StreamOptions defaults;                      // ModelFile::stream_options()
  int64_t trained_context = 0;                 // tokens
  std::vector<MethodPlan> methods;             // that the file brings; sessions of other options plan their own
  std::shared_ptr<const Tokenizer> tokenizer;  // of a model that writes text; otherwise null
  std::string chat_template;                   // its jinja text as the file has it; empty: none
  std::optional<OpenSpeech> speech;            // of a model that transcribes
};

// Brings the weights of a file into memory on `threads` threads (those of a .kvp are there with the map) and chooses
// the instruction set (KVASS_ISA forces one). For another device than the CPU they are then copied there. The one is
// for models that write text, the other for those that transcribe; each refuses the other's before it loads anything.
Result<OpenModel> open_model(ModelFile file, Math math, int threads, const WeightOptions& weights = {});
Result<OpenModel> open_speech_model(ModelFile file, Math math, int threads, const WeightOptions& weights = {});

// The same of a file that nobody has to look at before.
Result<OpenModel> open_model(const std::string& path, Math math, int threads, const WeightOptions& weights = {});

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
