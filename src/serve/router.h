// Which function answers which request. Patterns are paths whose parts in braces match one part: "/v1/sessions/{id}".
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "serve/http_exchange.h"

namespace kvass::serve {

using Exchange = std::shared_ptr<HttpExchange>;

struct Route {
  // On a worker; it throws ApiError for what it refuses before the answer begins.
  using Call = std::function<void(const Exchange& exchange, const std::vector<std::string>& arguments)>;

  const char* method;
  std::string pattern;
  Call call;
  bool open = false;  // without a key, and while the server loads or ends
};

class Router {
 public:
  void add(Route route) { routes_.push_back(std::move(route)); }

  struct Match {
    const Route* route = nullptr;  // null: none
    std::vector<std::string> arguments;
    std::string allowed;  // methods of this path, where only the method is wrong
  };
  Match find(std::string_view method, std::string_view path) const;

 private:
  std::vector<Route> routes_;
};

}  // namespace kvass::serve
