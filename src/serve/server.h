// `kvass serve`: the plan, the model, the session and its sequences, then the endpoints over HTTP. Everything is mapped
// before the socket opens. docs/server.md says what clients may rely on.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "app/model_file.h"
#include "serve/options.h"
#include "serve/service.h"

namespace kvass::serve {

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
