// What `kvass serve` is asked for, and the memory that it takes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "app/model_file.h"
#include "kvass/sampling.h"
#include "serve/http_server.h"
#include "serve/scheduler.h"

namespace kvass::serve {

struct ServeOptions {
  StreamOptions streams;  // of texts; sequences: that run at a time
  int64_t prefixes = 4;   // sequences beside them, for the prefixes of earlier texts
  int64_t sessions = 4;   // places in memory; 0: no sessions
  std::optional<int64_t>
      session_sinks;  // tokens that a session keeps for ever; default: a quarter of the context, 512 at most
  WeightOptions weights;
  SampleOptions sampling{.temperature = 1.0f};
  std::string chat_template;  // jinja; empty: the model's own
  std::string alias;          // the model's name in the API; empty: its file's
  std::string speech;         // a model that transcribes; empty: none
  int64_t speech_sequences = 5;

  std::string host = "127.0.0.1";
  int port = 8080;
  HttpLimits limits;
  std::string state;  // a folder; empty: sessions are in memory alone
  std::string keys;   // a file with a key on each line; empty: none
  bool no_auth = false;
  std::vector<std::string> cors;  // origins; "*": all
  SchedulerOptions scheduler;
  std::optional<double> request_seconds;
  double drain_seconds = 10.0;
  bool log = true;
};

// Every field in its range, and none that another leaves without effect; otherwise bad_input that names it.
Status validate(const ServeOptions& options);

inline constexpr int64_t kScoreRows = 16;  // rows of logits at once, where a prompt is scored

// The streams of texts and sessions together, as the session that steps them is made: all that may run at a time.
StreamOptions text_streams(const ServeOptions& options);
// Those of sessions: without end, with sinks for what stands before the first message. `context`: of texts.
StreamOptions session_streams(const ServeOptions& options, int64_t context);

// What is mapped, to the byte.
struct ServerPlan {
  size_t weight_bytes = 0, arena_bytes = 0;
  int64_t texts = 0, prefixes = 0, sessions = 0;
  size_t text_bytes = 0;     // caches of one
  size_t session_bytes = 0;  // caches of one
  size_t sampler_bytes = 0;  // of all texts that run
  size_t speech_bytes = 0;
  size_t total() const {
    return weight_bytes + arena_bytes + static_cast<size_t>(texts + prefixes) * text_bytes +
           static_cast<size_t>(sessions) * session_bytes + sampler_bytes + speech_bytes;
  }
  std::string text() const;
};

// Without the speech model.
Result<ServerPlan> plan_server(const ModelFile& file, const ServeOptions& options);

}  // namespace kvass::serve
