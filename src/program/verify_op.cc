#include "program/verify_op.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>

namespace kvass {
namespace {

// One op against the rules of its kind.
class OpVerifier {
 public:
  OpVerifier(const Program& program, const Op& op, Place place, std::vector<bool>& visible, std::vector<bool>& written)
      : program_(program), op_(op), place_(place), visible_(visible), written_(written) {}

  Status run() {
    KVASS_RETURN_IF_ERROR(indices());
    KVASS_RETURN_IF_ERROR(kind());
    KVASS_RETURN_IF_ERROR(views());
    KVASS_RETURN_IF_ERROR(extents());
    KVASS_RETURN_IF_ERROR(standing());
    for (ValueId id : op_.outputs) {
      if (written_[static_cast<size_t>(id)]) return fail("outputs", "a value that no other op writes", value(id).name);
      written_[static_cast<size_t>(id)] = visible_[static_cast<size_t>(id)] = true;
    }
    return {};
  }

 private:
  const Value& value(ValueId id) const { return program_.values[static_cast<size_t>(id)]; }
  const Value& in(size_t i) const { return value(op_.inputs[i]); }
  const Value& out(size_t i) const { return value(op_.outputs[i]); }
  const Weight& weight(size_t i) const { return program_.weights[static_cast<size_t>(op_.weights[i])]; }

  Status fail(std::string_view field, std::string_view expected, std::string_view got) const {
    return bad_input(fmt::format("program op '{}' ({}): {}", op_.name, op_kind_name(op_.kind), field), expected, got);
  }
  Status arity(size_t inputs, size_t outputs, size_t weights) const {
    if (op_.inputs.size() == inputs && op_.outputs.size() == outputs && op_.weights.size() == weights) return {};
    return fail("arity", fmt::format("{} inputs, {} outputs, {} weights", inputs, outputs, weights),
                fmt::format("{}, {}, {}", op_.inputs.size(), op_.outputs.size(), op_.weights.size()));
  }
  Status width(std::string_view what, int64_t expected, int64_t got) const {
    if (expected == got) return {};
    return fail(what, fmt::format("width {}", expected), fmt::format("{}", got));
  }

  // Weight i is a matrix, or a vector.
  Status weight_kind(size_t i, bool matrix) const {
    if ((weight(i).outputs > 0) == matrix) return {};
    return fail("weight", matrix ? "a matrix" : "a vector", fmt::format("{} outputs", weight(i).outputs));
  }
  Status extent(const Value& value, Extent expected) const {
    if (value.extent == expected) return {};
    return fail(fmt::format("value '{}'", value.name), extent_name(expected), extent_name(value.extent));
  }

  bool is(std::initializer_list<OpKind> kinds) const {
    return std::find(kinds.begin(), kinds.end(), op_.kind) != kinds.end();
  }

  // Only ops that read state make views, and only attention over a cross cache reads keys and values as views.
  Status views() const {
    const auto check = [&](const Value& value, View view, CrossId cross) -> Status {
      if (value.view == view && value.cross == cross) return {};
      return fail(fmt::format("value '{}'", value.name),
                  view == View::none ? "a value of its own" : "a view of the op's state",
                  value.view == View::none ? "a value of its own" : "another view");
    };
    const bool makes_keys = is({OpKind::alias, OpKind::update_cross_attn_cache});
    for (size_t i = 0; i < op_.outputs.size() && op_.kind != OpKind::cond; ++i) {
      const View view = makes_keys                   ? (i == 0 ? View::keys : View::values)
                        : op_.kind == OpKind::source ? View::source
                                                     : View::none;
      KVASS_RETURN_IF_ERROR(check(out(i), view, makes_keys ? op_.cross : kNone));
    }
    for (size_t i = 0; i < op_.inputs.size(); ++i) {
      if (op_.kind == OpKind::cross_attention && i > 0) {
        KVASS_RETURN_IF_ERROR(check(in(i), i == 1 ? View::keys : View::values, op_.cross));
      } else if (in(i).view != View::source) {
        KVASS_RETURN_IF_ERROR(check(in(i), View::none, kNone));
      }
    }
    return {};
  }

  // Rows match: `embed` makes rows of the chunk and `input` those of the encoder, only `select_rows` leads from rows of
  // the chunk to rows of the head, and only a convolution of stride 2 from frames to source rows.
  Status extents() const {
    if (op_.kind == OpKind::cond) return extent(in(0), Extent::sequence);
    if (op_.kind == OpKind::input) {
      return out(0).extent == Extent::source ? Status() : extent(out(0), Extent::frames);
    }
    if (op_.kind == OpKind::conv1d) {
      if (op_.stride == 1) return extent(out(0), in(0).extent);
      KVASS_RETURN_IF_ERROR(extent(in(0), Extent::frames));
      return extent(out(0), Extent::source);
    }
    if (op_.kind == OpKind::cross_attention) {
      KVASS_RETURN_IF_ERROR(extent(in(0), Extent::chunk));
      return extent(out(0), Extent::chunk);
    }
    Extent from = op_.inputs.empty() ? Extent::chunk : in(0).extent;
    if (is({OpKind::embed, OpKind::cache_write, OpKind::attention, OpKind::select_rows})) from = Extent::chunk;
    if (is({OpKind::store_source, OpKind::source, OpKind::alias, OpKind::update_cross_attn_cache}))
      from = Extent::source;
    if (is({OpKind::is_initialised, OpKind::any_nonzero})) from = Extent::sequence;
    for (ValueId id : op_.inputs) KVASS_RETURN_IF_ERROR(extent(value(id), from));
    for (ValueId id : op_.outputs) {
      KVASS_RETURN_IF_ERROR(extent(value(id), op_.kind == OpKind::select_rows ? Extent::head : from));
    }
    return {};
  }

  // Ops on rows that there are here.
  Status standing() const {
    const bool encodes = is({OpKind::input, OpKind::conv1d, OpKind::store_source});
    if (encodes && place_ != Place::encode) return fail("place", "in `encode`", "another method");
    if (op_.kind == OpKind::cond && place_ != Place::steps && place_ != Place::one_sequence) {
      return fail("place", "in a method that steps run", "another method");
    }
    const auto check = [&](const Value& value) -> Status {
      const bool of_source = value.extent == Extent::frames || value.extent == Extent::source;
      if (place_ == Place::encode) {
        return of_source ? Status() : fail("rows in `encode`", "of the encoder", extent_name(value.extent));
      }
      if (value.extent == Extent::frames) return fail("rows", "of a step", extent_name(value.extent));
      if (of_source && value.view != View::keys && value.view != View::values && place_ != Place::one_sequence) {
        return fail("source rows", "in a branch", "outside");
      }
      return {};
    };
    for (ValueId id : op_.inputs) KVASS_RETURN_IF_ERROR(check(value(id)));
    for (ValueId id : op_.outputs) KVASS_RETURN_IF_ERROR(check(value(id)));
    return {};
  }

  Status indices() const {
    for (ValueId id : op_.inputs) {
      if (id < 0 || static_cast<size_t>(id) >= program_.values.size())
        return fail("inputs", "a value of the program", fmt::format("{}", id));
      if (!visible_[static_cast<size_t>(id)]) return fail("inputs", "a value that was written before", value(id).name);
    }
    for (ValueId id : op_.outputs) {
      if (id < 0 || static_cast<size_t>(id) >= program_.values.size())
        return fail("outputs", "a value of the program", fmt::format("{}", id));
    }
    for (WeightId id : op_.weights) {
      if (id < 0 || static_cast<size_t>(id) >= program_.weights.size())
        return fail("weights", "a weight of the program", fmt::format("{}", id));
    }
    const bool stateful = op_.kind == OpKind::cache_write || op_.kind == OpKind::attention;
    if (stateful && (op_.state < 0 || static_cast<size_t>(op_.state) >= program_.states.size())) {
      return fail("state", "a state of the program", fmt::format("{}", op_.state));
    }
    const bool crosses = is({OpKind::is_initialised, OpKind::any_nonzero, OpKind::alias,
                             OpKind::update_cross_attn_cache, OpKind::cross_attention});
    if (crosses && (op_.cross < 0 || static_cast<size_t>(op_.cross) >= program_.crosses.size())) {
      return fail("state", "a cross cache of the program", fmt::format("{}", op_.cross));
    }
    if (op_.kind != OpKind::cond && !op_.branches.empty())
      return fail("branches", "none", fmt::format("{}", op_.branches.size()));
    return {};
  }

  Status kind() const {
    switch (op_.kind) {
      case OpKind::embed:
        KVASS_RETURN_IF_ERROR(arity(0, 1, 1));
        KVASS_RETURN_IF_ERROR(weight_kind(0, true));
        return width("output", weight(0).inputs, out(0).width);
      case OpKind::rms_norm:
        KVASS_RETURN_IF_ERROR(arity(1, 1, 1));
        KVASS_RETURN_IF_ERROR(weight_kind(0, false));
        if (op_.heads < 1 || op_.heads > kMaxHeads) return fail("heads", "1 to 2^20", fmt::format("{}", op_.heads));
        KVASS_RETURN_IF_ERROR(width("input", weight(0).inputs * op_.heads, in(0).width));
        return width("output", in(0).width, out(0).width);
      case OpKind::linear:
        if (op_.weights.empty() || op_.weights.size() > kMaxLinearWeights) {
          return fail("weights", fmt::format("1 to {}", kMaxLinearWeights), fmt::format("{}", op_.weights.size()));
        }
        KVASS_RETURN_IF_ERROR(arity(1, op_.weights.size(), op_.weights.size()));
        for (size_t i = 0; i < op_.weights.size(); ++i) {
          KVASS_RETURN_IF_ERROR(weight_kind(i, true));
          KVASS_RETURN_IF_ERROR(width("input", weight(i).inputs, in(0).width));
          KVASS_RETURN_IF_ERROR(width("output", weight(i).outputs, out(i).width));
        }
        return {};
      case OpKind::cache_write: {
        KVASS_RETURN_IF_ERROR(arity(2, 0, 0));
        const CacheState& state = program_.states[static_cast<size_t>(op_.state)];
        KVASS_RETURN_IF_ERROR(width("k", state.kv_heads * state.head_dim, in(0).width));
        return width("v", state.kv_heads * state.head_dim, in(1).width);
      }
      case OpKind::attention: {
        KVASS_RETURN_IF_ERROR(arity(1, 1, 0));
        const CacheState& state = program_.states[static_cast<size_t>(op_.state)];
        if (op_.heads < 1 || op_.heads > kMaxHeads || op_.heads % state.kv_heads != 0) {
          return fail("heads", fmt::format("a multiple of {} KV heads", state.kv_heads), fmt::format("{}", op_.heads));
        }
        KVASS_RETURN_IF_ERROR(width("q", op_.heads * state.head_dim, in(0).width));
        return width("output", in(0).width, out(0).width);
      }
      case OpKind::gelu_gate:
      case OpKind::silu_gate:
      case OpKind::add:
        KVASS_RETURN_IF_ERROR(arity(2, 1, 0));
        KVASS_RETURN_IF_ERROR(width("second input", in(0).width, in(1).width));
        return width("output", in(0).width, out(0).width);
      case OpKind::bias:
        KVASS_RETURN_IF_ERROR(arity(1, 1, 1));
        KVASS_RETURN_IF_ERROR(weight_kind(0, false));
        KVASS_RETURN_IF_ERROR(width("input", weight(0).inputs, in(0).width));
        return width("output", in(0).width, out(0).width);
      case OpKind::select_rows:
      case OpKind::softcap:
      case OpKind::copy:
      case OpKind::gelu:
        KVASS_RETURN_IF_ERROR(arity(1, 1, 0));
        return width("output", in(0).width, out(0).width);
      case OpKind::layer_norm:
        KVASS_RETURN_IF_ERROR(arity(1, 1, 2));
        for (size_t i = 0; i < 2; ++i) {
          KVASS_RETURN_IF_ERROR(weight_kind(i, false));
          KVASS_RETURN_IF_ERROR(width("input", weight(i).inputs, in(0).width));
        }
        return width("output", in(0).width, out(0).width);
      case OpKind::positions:
        KVASS_RETURN_IF_ERROR(arity(1, 1, 1));
        KVASS_RETURN_IF_ERROR(weight_kind(0, true));
        KVASS_RETURN_IF_ERROR(width("input", weight(0).inputs, in(0).width));
        if (in(0).extent == Extent::source && weight(0).outputs < program_.source.rows) {
          return fail("weight", fmt::format("a row for each of {} source rows", program_.source.rows),
                      fmt::format("{}", weight(0).outputs));
        }
        if (in(0).extent != Extent::source && in(0).extent != Extent::chunk) {
          return fail("rows", "of the chunk or the source", extent_name(in(0).extent));
        }
        return width("output", in(0).width, out(0).width);
      case OpKind::input:
        KVASS_RETURN_IF_ERROR(arity(0, 1, 0));
        if (program_.input() != &op_) return fail("input", "one in a program", "a second one");
        return {};
      case OpKind::conv1d:
        KVASS_RETURN_IF_ERROR(arity(1, 1, 1));
        KVASS_RETURN_IF_ERROR(weight_kind(0, true));
        if (op_.stride != 1 && op_.stride != 2) return fail("stride", "1 or 2", fmt::format("{}", op_.stride));
        KVASS_RETURN_IF_ERROR(width("input", weight(0).inputs, 3 * in(0).width));
        return width("output", weight(0).outputs, out(0).width);
      case OpKind::attend_rows: {
        KVASS_RETURN_IF_ERROR(arity(3, 1, 0));
        KVASS_RETURN_IF_ERROR(heads(in(0).width));
        const int64_t head_dim = in(0).width / op_.heads;
        if (in(1).width % head_dim != 0 || op_.heads % (in(1).width / head_dim) != 0) {
          return fail("k", fmt::format("heads of {} that divide {}", head_dim, op_.heads),
                      fmt::format("width {}", in(1).width));
        }
        KVASS_RETURN_IF_ERROR(width("v", in(1).width, in(2).width));
        return width("output", in(0).width, out(0).width);
      }
      case OpKind::store_source:
        KVASS_RETURN_IF_ERROR(arity(1, 0, 0));
        return width("input", program_.source.width, in(0).width);
      case OpKind::source:
        KVASS_RETURN_IF_ERROR(arity(0, 1, 0));
        return width("output", program_.source.width, out(0).width);
      case OpKind::is_initialised:
      case OpKind::any_nonzero:
        KVASS_RETURN_IF_ERROR(arity(0, 1, 0));
        return width("output", 1, out(0).width);
      case OpKind::cond:
        if (op_.inputs.size() != 1 || !op_.weights.empty() || op_.branches.size() != 2) {
          return fail("arity", "a predicate and two branches",
                      fmt::format("{} inputs, {} branches", op_.inputs.size(), op_.branches.size()));
        }
        return width("predicate", 1, in(0).width);
      case OpKind::alias:
      case OpKind::update_cross_attn_cache: {
        KVASS_RETURN_IF_ERROR(arity(op_.kind == OpKind::alias ? 0 : 2, 2, 0));
        for (ValueId id : op_.inputs) KVASS_RETURN_IF_ERROR(width("input", cross_width(), value(id).width));
        KVASS_RETURN_IF_ERROR(width("k", cross_width(), out(0).width));
        return width("v", cross_width(), out(1).width);
      }
      case OpKind::cross_attention: {
        KVASS_RETURN_IF_ERROR(arity(3, 1, 0));
        const CrossState& cross = program_.crosses[static_cast<size_t>(op_.cross)];
        if (op_.heads < 1 || op_.heads > kMaxHeads || op_.heads % cross.kv_heads != 0) {
          return fail("heads", fmt::format("a multiple of {} KV heads", cross.kv_heads), fmt::format("{}", op_.heads));
        }
        KVASS_RETURN_IF_ERROR(width("q", op_.heads * cross.head_dim, in(0).width));
        return width("output", in(0).width, out(0).width);
      }
    }
    return fail("kind", "an operator of this version", fmt::format("{}", static_cast<int>(op_.kind)));
  }

  int64_t cross_width() const {
    const CrossState& cross = program_.crosses[static_cast<size_t>(op_.cross)];
    return cross.kv_heads * cross.head_dim;
  }
  // Query heads of a width that attention takes.
  Status heads(int64_t q_width) const {
    if (op_.heads >= 1 && op_.heads <= kMaxHeads && q_width % op_.heads == 0 && q_width / op_.heads % 16 == 0 &&
        q_width / op_.heads <= kMaxHeadDim) {
      return {};
    }
    return fail("heads", fmt::format("heads whose size is a multiple of 16 up to {}", kMaxHeadDim),
                fmt::format("{} of {}", op_.heads, q_width));
  }

  const Program& program_;
  const Op& op_;
  Place place_;
  std::vector<bool>& visible_;
  std::vector<bool>& written_;
};

}  // namespace

Status verify_op(const Program& program, const Op& op, Place place, std::vector<bool>& visible,
                 std::vector<bool>& written) {
  return OpVerifier(program, op, place, visible, written).run();
}

}  // namespace kvass
