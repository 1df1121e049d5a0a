// `kvass serve`: the plan, the model, the session and its sequences, then the endpoints over HTTP. Everything is mapped
// before the socket opens. docs/server.md says what clients may rely on.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/model_file.h"
#include "app/plan.h"
#include "serve/http_server.h"
#include "serve/router.h"
#include "serve/service.h"

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

class Server {
 public:
  // Checks everything that can be checked, refuses a plan above streams.memory_limit, then loads and maps. `on_plan`
  // gets the plan before anything is loaded.
  static Result<std::unique_ptr<Server>> open(ModelFile file, const ServeOptions& options,
                                              const std::function<void(const ServerPlan&)>& on_plan);
  ~Server();

  const std::string& url() const;
  void start();
  // Once: no connection is taken any more, what runs may go on for drain_seconds, then it is cut and saved.
  void drain();
  Status reload_keys();

  struct Impl;

 private:
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

std::string openapi_json(const Service& service);

}  // namespace kvass::serve
