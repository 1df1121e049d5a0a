#include "program/op_check.h"

#include <fmt/format.h>

namespace kvass {

Status OpCheck::fail(std::string_view field, std::string_view expected, std::string_view got) const {
  return bad_input(fmt::format("program op '{}' ({}): {}", op_.name, op_kind_name(op_.kind), field), expected, got);
}

Status OpCheck::width(std::string_view what, int64_t expected, int64_t got) const {
  if (expected == got) return {};
  return fail(what, fmt::format("width {}", expected), fmt::format("{}", got));
}

Status OpCheck::heads(int64_t kv_heads) const {
  if (op_.heads >= 1 && op_.heads <= kMaxHeads && op_.heads % kv_heads == 0) return {};
  return fail("heads", fmt::format("a multiple of {} KV heads", kv_heads), fmt::format("{}", op_.heads));
}

}  // namespace kvass
