// What makes a program sound. Everything that another part relies on without looking is checked here and in
// verify_op.cc.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "program/op_check.h"
#include "program/program.h"
#include "program/verify_op.h"

namespace kvass {
namespace {

// Bounds sums and products of a few sizes.
constexpr int64_t kMaxWidth = int64_t{1} << 32;
constexpr int64_t kMaxSourceRows = int64_t{1} << 24;

// Walks the ops in order, branches in their own scopes.
class ProgramVerifier {
 public:
  explicit ProgramVerifier(const Program& program)
      : program_(program),
        visible_(program.values.size(), false),
        written_(program.values.size(), false),
        owner_(program.values.size(), nullptr) {}

  Status part(const Part& part) {
    const bool head = part.name == "head" || part.name == "greedy";
    const Place place = part.name == "encode" ? Place::encode : head ? Place::head : Place::body;
    return ops(part.begin, part.end, place, 0);
  }
  const std::vector<bool>& visible() const { return visible_; }
  // Each branch belongs to one cond.
  Status all_branches_used() const {
    if (branches_ == program_.branches.size()) return {};
    return bad_input("program branches", fmt::format("{}, as conds have", branches_),
                     fmt::format("{}", program_.branches.size()));
  }

 private:
  Status ops(int32_t begin, int32_t end, Place place, int depth) {
    for (int32_t i = begin; i < end; ++i) {
      const Op& op = program_.ops[static_cast<size_t>(i)];
      KVASS_RETURN_IF_ERROR(verify_op(program_, op, place, visible_, written_));
      if (!op.branches.empty()) {
        // The outputs exist once both branches have run.
        for (ValueId id : op.outputs) visible_[static_cast<size_t>(id)] = false;
        KVASS_RETURN_IF_ERROR(cond(op, i, end, place, depth));
        for (ValueId id : op.outputs) visible_[static_cast<size_t>(id)] = true;
        i = branch(op, 1).end - 1;
      }
    }
    return {};
  }

  const Branch& branch(const Op& op, size_t i) const { return program_.branches[static_cast<size_t>(op.branches[i])]; }

  Status cond(const Op& op, int32_t at, int32_t end, Place place, int depth) {
    const auto fail = [&](std::string_view field, std::string_view expected, std::string_view got) {
      return bad_input(fmt::format("program op '{}' (cond): {}", op.name, field), expected, got);
    };
    if (depth == kMaxCondDepth) return fail("depth", fmt::format("at most {}", kMaxCondDepth), "more");
    int32_t next = at + 1;
    for (size_t i = 0; i < 2; ++i) {
      if (op.branches[i] < 0 || static_cast<size_t>(op.branches[i]) >= program_.branches.size()) {
        return fail("branches", "branches of the program", fmt::format("{}", op.branches[i]));
      }
      const Branch& ops = branch(op, i);
      if (ops.begin != next || ops.end < ops.begin || ops.end > end) {
        return fail("branches", fmt::format("ops from {} on, up to {}", next, end),
                    fmt::format("[{}, {})", ops.begin, ops.end));
      }
      next = ops.end;
      if (ops.results.size() != op.outputs.size()) {
        return fail("results", fmt::format("{}", op.outputs.size()), fmt::format("{}", ops.results.size()));
      }
      ++branches_;
    }
    for (size_t i = 0; i < 2; ++i) {
      const Branch& inside = branch(op, i);
      const Place within = place == Place::one_sequence || one_sequence(inside) ? Place::one_sequence : place;
      KVASS_RETURN_IF_ERROR(ops(inside.begin, inside.end, within, depth + 1));
      KVASS_RETURN_IF_ERROR(results(op, inside));
    }
    return {};
  }

  // As Program::one_sequence, of ops whose indices have not been looked at.
  bool one_sequence(const Branch& branch) const {
    for (int32_t i = branch.begin; i < branch.end; ++i) {
      const Op& op = program_.ops[static_cast<size_t>(i)];
      for (const std::vector<ValueId>* ids : {&op.inputs, &op.outputs}) {
        for (ValueId id : *ids) {
          if (id < 0 || static_cast<size_t>(id) >= program_.values.size()) return false;
        }
      }
    }
    return program_.one_sequence(branch);
  }

  // Results are what this branch wrote, of the outputs' form; then everything that it wrote goes out of sight.
  Status results(const Op& op, const Branch& inside) {
    for_each_output(inside, [&](size_t id) { owner_[id] = &inside; });
    const auto fail = [&](std::string_view expected, std::string_view got) {
      return bad_input(fmt::format("program op '{}' (cond): results", op.name), expected, got);
    };
    for (size_t i = 0; i < op.outputs.size(); ++i) {
      const ValueId id = inside.results[i];
      if (id < 0 || static_cast<size_t>(id) >= program_.values.size() || owner_[static_cast<size_t>(id)] != &inside ||
          !visible_[static_cast<size_t>(id)]) {
        return fail("values that the branch writes, each once", fmt::format("{}", id));
      }
      owner_[static_cast<size_t>(id)] = nullptr;  // it is a result once
      const Value& result = program_.values[static_cast<size_t>(id)];
      const Value& output = program_.values[static_cast<size_t>(op.outputs[i])];
      if (result.width != output.width || result.extent != output.extent || result.view != output.view ||
          result.cross != output.cross) {
        return fail(fmt::format("'{}', width {}, {}", output.name, output.width, extent_name(output.extent)),
                    fmt::format("'{}', width {}, {}", result.name, result.width, extent_name(result.extent)));
      }
      const bool keys = output.view == View::keys || output.view == View::values;
      if (output.extent != Extent::chunk && output.extent != Extent::sequence && !keys) {
        return fail("rows of the chunk, a row a sequence, or views of keys and values", extent_name(output.extent));
      }
    }
    for_each_output(inside, [&](size_t id) { visible_[id] = false; });
    return {};
  }

  // Every value that an op of the branch writes, those of branches inside it too: as often as conds are deep.
  template <class Body>
  void for_each_output(const Branch& inside, Body&& body) const {
    for (int32_t i = inside.begin; i < inside.end; ++i) {
      for (ValueId id : program_.ops[static_cast<size_t>(i)].outputs) body(static_cast<size_t>(id));
    }
  }

  const Program& program_;
  std::vector<bool> visible_;
  std::vector<bool> written_;
  std::vector<const Branch*> owner_;  // [values] the innermost branch whose results have been looked at
  size_t branches_ = 0;
};

// The encoder's sizes, and that there is a part for them.
Status verify_source(const Program& program) {
  const SourceShape& source = program.source;
  const bool none = source.rows == 0 && source.width == 0 && source.frames == 0;
  const bool sound = source.rows >= 1 && source.rows <= kMaxSourceRows && source.width >= 1 &&
                     source.width <= kMaxWidth && source.frames >= 0 && source.frames <= 2 * source.rows;
  if (!none && !sound) {
    return bad_input("program source", "rows and a width, and at most twice as many frames",
                     fmt::format("{} x {}, {} frames", source.rows, source.width, source.frames));
  }
  const Part* encode = program.find_part("encode");
  if ((encode != nullptr) != program.has_encoder()) {
    return bad_input("program source", "sizes of a source exactly where there is a part `encode`",
                     fmt::format("{} rows", source.rows));
  }
  if (none && !program.crosses.empty()) return bad_input("program cross caches", "none without an encoder", "some");
  for (const CrossState& cross : program.crosses) {
    if (cross.kv_heads < 1 || cross.kv_heads > kMaxHeads || cross.head_dim < 16 || cross.head_dim > kMaxHeadDim ||
        cross.head_dim % 16 != 0) {
      return bad_input("program cross cache '" + cross.name + "'",
                       fmt::format("KV heads and a head size that is a multiple of 16 up to {}", kMaxHeadDim),
                       fmt::format("{} x {}", cross.kv_heads, cross.head_dim));
    }
  }
  if (encode == nullptr) return {};
  int inputs = 0;
  int stores = 0;
  for (int32_t i = encode->begin; i < encode->end; ++i) {
    inputs += program.ops[static_cast<size_t>(i)].kind == OpKind::input;
    stores += program.ops[static_cast<size_t>(i)].kind == OpKind::store_source;
  }
  if (inputs == 1 && stores == 1) return {};
  return bad_input("program part 'encode'", "one `input` and one `store_source`",
                   fmt::format("{} and {}", inputs, stores));
}

// Parts are the ops in order, each with a name of its own.
Status verify_parts(const Program& program) {
  int32_t next = 0;
  for (const Part& part : program.parts) {
    if (part.begin != next || part.end < part.begin) {
      return bad_input("program part '" + part.name + "'", "ops that follow the part before it",
                       fmt::format("[{}, {})", part.begin, part.end));
    }
    next = part.end;
    if (program.find_part(part.name) != &part) {
      return bad_input("program parts", "names that differ", "`" + part.name + "` twice");
    }
  }
  if (static_cast<size_t>(next) != program.ops.size()) {
    return bad_input("program parts", "every op in one part", fmt::format("{} of {} ops", next, program.ops.size()));
  }
  for (std::string_view name : {"body", "head"}) {
    if (program.find_part(name) == nullptr)
      return bad_input("program parts", "`body` and `head`", "no `" + std::string(name) + "`");
  }
  return {};
}

Status verify_weights(const Program& program) {
  for (const Weight& weight : program.weights) {
    if (weight.outputs < 0 || weight.outputs > kMaxWidth || weight.inputs < 1 || weight.inputs > kMaxWidth) {
      return bad_input("program weight '" + weight.name + "'", "sizes up to 2^32",
                       fmt::format("{} x {}", weight.outputs, weight.inputs));
    }
  }
  return {};
}

Status verify_states(const Program& program) {
  for (const CacheState& state : program.states) {
    if (state.kv_heads < 1 || state.kv_heads > kMaxHeads || state.head_dim < 16 || state.head_dim > kMaxHeadDim ||
        state.head_dim % 16 != 0 || state.window < 0 || state.rotary < kNone ||
        (state.rotary != kNone && static_cast<size_t>(state.rotary) >= program.rotaries.size())) {
      return bad_input(
          "program state '" + state.name + "'",
          fmt::format("KV heads, a head size that is a multiple of 16 up to {}, a window and a rotary table or none",
                      kMaxHeadDim),
          fmt::format("{} x {}, window {}, rotary {}", state.kv_heads, state.head_dim, state.window, state.rotary));
    }
    if (state.rotary == kNone) continue;
    const RotaryParams& rotary = program.rotaries[static_cast<size_t>(state.rotary)];
    if (rotary.head_dim != state.head_dim) {
      return bad_input("program state '" + state.name + "'",
                       fmt::format("a rotary table of its head size {}", state.head_dim),
                       fmt::format("{}", rotary.head_dim));
    }
  }
  return {};
}

// `written` [values]: that an op has written, outside of branches.
Status verify_results(const Program& program, const std::vector<bool>& written) {
  std::vector<std::pair<ValueId, Extent>> results = {{program.hidden, Extent::chunk}, {program.logits, Extent::head}};
  if (program.find_part("greedy")) results.emplace_back(program.argmax(), Extent::head);
  for (const auto& [result, extent] : results) {
    if (result < 0 || static_cast<size_t>(result) >= written.size() || !written[static_cast<size_t>(result)]) {
      return bad_input("program result", "a value that an op writes", fmt::format("{}", result));
    }
    if (program.values[static_cast<size_t>(result)].extent != extent) {
      return bad_input("program result", extent_name(extent),
                       extent_name(program.values[static_cast<size_t>(result)].extent));
    }
  }
  const Part* greedy = program.find_part("greedy");
  if (!greedy) return {};
  const Op& last = program.ops[static_cast<size_t>(greedy->end - 1)];
  const int64_t logits = last.kind == OpKind::argmax_linear
                             ? program.weights[static_cast<size_t>(last.weights[0])].outputs
                         : last.kind == OpKind::argmax ? program.values[static_cast<size_t>(last.inputs[0])].width
                                                       : 0;
  if (logits == program.vocabulary()) return {};
  return bad_input("program part 'greedy'", fmt::format("the largest of {} logits at its end", program.vocabulary()),
                   "'" + last.name + "'");
}

// Whatever is a token has a row in the tables that are read by token.
Status verify_token_rows(const Program& program) {
  for (const Op& op : program.ops) {
    if (op.kind != OpKind::embed) continue;
    const Weight& table = program.weights[static_cast<size_t>(op.weights[0])];
    if (table.outputs < program.vocabulary()) {
      return bad_input("program weight '" + table.name + "'",
                       fmt::format("a row for each of {} tokens", program.vocabulary()),
                       fmt::format("{}", table.outputs));
    }
  }
  return {};
}

}  // namespace

Status verify_program(const Program& program) {
  KVASS_RETURN_IF_ERROR(verify_parts(program));
  KVASS_RETURN_IF_ERROR(verify_weights(program));
  KVASS_RETURN_IF_ERROR(verify_states(program));
  KVASS_RETURN_IF_ERROR(verify_source(program));
  ProgramVerifier verifier(program);
  for (const Part& part : program.parts) KVASS_RETURN_IF_ERROR(verifier.part(part));
  KVASS_RETURN_IF_ERROR(verifier.all_branches_used());
  KVASS_RETURN_IF_ERROR(verify_results(program, verifier.visible()));
  return verify_token_rows(program);
}

}  // namespace kvass
