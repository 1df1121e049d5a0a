#include "program/op_spec.h"

#include <iterator>
#include <string_view>

namespace kvass {

#define KVASS_OP(name, where, text) extern const OpSpec op_spec_##name;
#include "program/ops.inc"
#undef KVASS_OP

namespace {

enum class Where : uint8_t { cpu, devices };

struct Row {
  std::string_view name;
  std::string_view text;
  const OpSpec* spec;
  Where where;
};

constexpr Row kRows[] = {
#define KVASS_OP(name, where, text) {#name, text, &op_spec_##name, Where::where},
#include "program/ops.inc"
#undef KVASS_OP
};

const Row& row(OpKind kind) { return kRows[static_cast<size_t>(kind)]; }

}  // namespace

bool is_op_kind(OpKind kind) { return static_cast<size_t>(kind) < std::size(kRows); }
const OpSpec& op_spec(OpKind kind) { return *row(kind).spec; }
bool op_on_devices(OpKind kind) { return row(kind).where == Where::devices; }
std::string_view op_text(OpKind kind) { return row(kind).text; }
std::string_view op_kind_name(OpKind kind) { return is_op_kind(kind) ? row(kind).name : "unknown"; }

}  // namespace kvass
