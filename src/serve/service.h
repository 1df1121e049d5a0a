// What the endpoints share: the model, the session with its sequences, and who works with them. Made before the socket
// opens, and as large as it will ever be.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "app/open.h"
#include "kvass/sampling.h"
#include "serve/metrics.h"
#include "serve/prefix_store.h"
#include "serve/scheduler.h"
#include "serve/workers.h"

namespace kvass::serve {

class SessionStore;
class Speech;

struct Service {
  OpenModel model;
  std::shared_ptr<Session> session;
  std::string id;                         // the model's name in the API
  std::string fingerprint;                // of program, weights, numerics version and what else decides bits
  int64_t created = 0;                    // seconds since 1970
  SampleOptions sampling;                 // what requests do not say; without a seed it is random
  int64_t context = 0;                    // tokens of a text
  std::optional<double> request_seconds;  // the longest that a text may take

  Metrics metrics;
  std::unique_ptr<PrefixStore> prefixes;
  std::unique_ptr<SessionStore> sessions;
  std::unique_ptr<Speech> speech;  // null: no speech model
  std::unique_ptr<Scheduler> scheduler;
  std::unique_ptr<Workers> workers;
  std::atomic<bool> draining{false};

  Service();
  ~Service();
};

std::string served_name(const std::string& path);  // of a model's file or folder, without its ending

}  // namespace kvass::serve
