#include "plan/method.h"

#include <algorithm>

namespace kvass {

Status check_method(const Program& program, const MethodPlan& method) {
  constexpr size_t kMaxBytes = size_t{1} << 46;  // larger than the arena of any machine
  const std::string where = "method '" + method.name + "'";
  const auto most = [](const std::vector<size_t>& list) {
    return list.empty() ? size_t{0} : *std::max_element(list.begin(), list.end());
  };
  if (method.threads < 1) return bad_input(where, "at least 1 thread", std::to_string(method.threads));
  if (method.workspace_bytes.size() != program.ops.size()) {
    return bad_input(where, "a workspace for each of " + std::to_string(program.ops.size()) + " ops",
                     std::to_string(method.workspace_bytes.size()));
  }
  const size_t largest = std::max(
      {method.arena.bytes, most(method.arena.values), most(method.arena.workspace), most(method.workspace_bytes)});
  if (largest > kMaxBytes) return bad_input(where, "an arena below 64 TiB", std::to_string(largest));
  return check_arena(program, method.limits(), method.workspace_bytes, method.arena);
}

}  // namespace kvass
