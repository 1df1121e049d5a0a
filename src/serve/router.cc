#include "serve/router.h"

#include <algorithm>

namespace kvass::serve {
namespace {

bool matches(std::string_view pattern, std::string_view path, std::vector<std::string>& arguments) {
  while (!pattern.empty() && !path.empty()) {
    const size_t pattern_end = std::min(pattern.find('/', 1), pattern.size());
    const size_t path_end = std::min(path.find('/', 1), path.size());
    const std::string_view wanted = pattern.substr(0, pattern_end), got = path.substr(0, path_end);
    if (wanted.starts_with("/{")) {
      if (got.size() < 2) return false;
      arguments.emplace_back(got.substr(1));
    } else if (wanted != got) {
      return false;
    }
    pattern.remove_prefix(pattern_end);
    path.remove_prefix(path_end);
  }
  return pattern.empty() && path.empty();
}

}  // namespace

Router::Match Router::find(std::string_view method, std::string_view path) const {
  Match match;
  for (const Route& route : routes_) {
    std::vector<std::string> arguments;
    if (!matches(route.pattern, path, arguments)) continue;
    if (method == route.method || (method == "HEAD" && std::string_view(route.method) == "GET")) {
      return {&route, std::move(arguments), {}};
    }
    match.allowed += (match.allowed.empty() ? "" : ", ") + std::string(route.method);
  }
  return match;
}

}  // namespace kvass::serve
