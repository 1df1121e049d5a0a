#include "program/verify_op.h"

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "program/op_check.h"

namespace kvass {
namespace {

template <class List>
bool is_index(int32_t id, const List& list) {
  return id >= 0 && static_cast<size_t>(id) < list.size();
}

bool is_view_of_keys(const Value& value) { return value.view == View::keys || value.view == View::values; }

std::string names_of(EnumSet<Extent> rows) {
  std::string names;
  for (int i = 0; i <= static_cast<int>(Extent::sequence); ++i) {
    const Extent extent = static_cast<Extent>(i);
    if (rows.has(extent)) names += (names.empty() ? "" : " or ") + std::string(extent_name(extent));
  }
  return names;
}

// One op against the spec of its kind.
class OpVerifier {
 public:
  OpVerifier(const Program& program, const Op& op, Place place, std::vector<bool>& visible, std::vector<bool>& written)
      : check_(program, op),
        program_(program),
        op_(op),
        spec_(op_spec(op.kind)),
        place_(place),
        visible_(visible),
        written_(written) {}

  Status run() {
    KVASS_RETURN_IF_ERROR(check_indices());
    KVASS_RETURN_IF_ERROR(check_states());
    KVASS_RETURN_IF_ERROR(check_counts());
    KVASS_RETURN_IF_ERROR(check_weights());
    if (spec_.check) KVASS_RETURN_IF_ERROR(spec_.check(check_));
    if (spec_.same_width) KVASS_RETURN_IF_ERROR(check_.width("output", check_.in(0).width, check_.out(0).width));
    KVASS_RETURN_IF_ERROR(check_views());
    KVASS_RETURN_IF_ERROR(check_rows());
    KVASS_RETURN_IF_ERROR(check_placement());
    for (ValueId id : op_.outputs) {
      const size_t v = static_cast<size_t>(id);
      if (written_[v]) return check_.fail("outputs", "a value that no other op writes", program_.values[v].name);
      written_[v] = visible_[v] = true;
    }
    return {};
  }

 private:
  Status check_indices() const {
    for (ValueId id : op_.inputs) {
      if (!is_index(id, program_.values)) return check_.fail("inputs", "a value of the program", fmt::format("{}", id));
      if (!visible_[static_cast<size_t>(id)]) {
        return check_.fail("inputs", "a value that was written before", check_.value(id).name);
      }
    }
    for (ValueId id : op_.outputs) {
      if (!is_index(id, program_.values))
        return check_.fail("outputs", "a value of the program", fmt::format("{}", id));
    }
    for (WeightId id : op_.weights) {
      if (!is_index(id, program_.weights))
        return check_.fail("weights", "a weight of the program", fmt::format("{}", id));
    }
    return {};
  }

  Status check_states() const {
    if (spec_.state != Access::none && !is_index(op_.state, program_.states)) {
      return check_.fail("state", "a state of the program", fmt::format("{}", op_.state));
    }
    if (spec_.cross != Access::none && !is_index(op_.cross, program_.crosses)) {
      return check_.fail("state", "a cross cache of the program", fmt::format("{}", op_.cross));
    }
    return {};
  }

  Status check_counts() const {
    if (spec_.branches == 0 && !op_.branches.empty()) {
      return check_.fail("branches", "none", fmt::format("{}", op_.branches.size()));
    }
    if (op_.branches.size() != spec_.branches) {
      return check_.fail("arity", fmt::format("{} branches", spec_.branches), fmt::format("{}", op_.branches.size()));
    }
    const auto counted = [&](std::string_view what, const Count& count, size_t got) -> Status {
      if (got >= count.least && got <= count.most) return {};
      if (count.least == count.most) {
        return check_.fail("arity", fmt::format("{} {}", count.least, what), fmt::format("{}", got));
      }
      return check_.fail(what, fmt::format("{} to {}", count.least, count.most), fmt::format("{}", got));
    };
    KVASS_RETURN_IF_ERROR(counted("inputs", spec_.inputs, op_.inputs.size()));
    KVASS_RETURN_IF_ERROR(counted("weights", spec_.weights, op_.weights.size()));
    return counted("outputs", spec_.output_per_weight ? Count(op_.weights.size()) : spec_.outputs, op_.outputs.size());
  }

  Status check_weights() const {
    for (size_t i = 0; i < op_.weights.size(); ++i) {
      const bool matrix = check_.weight(i).outputs > 0;
      if (matrix == (spec_.weight_form == WeightForm::matrix)) continue;
      return check_.fail("weight", matrix ? "a vector" : "a matrix",
                         fmt::format("{} outputs", check_.weight(i).outputs));
    }
    return {};
  }

  // Views are of what the spec says; everywhere else a value has bytes of its own, or is the source.
  Status check_views() const {
    const auto check = [&](const Value& value, View view) -> Status {
      const CrossId cross = view == View::keys || view == View::values ? op_.cross : kNone;
      if (value.view == view && value.cross == cross) return {};
      return check_.fail(fmt::format("value '{}'", value.name),
                         view == View::none ? "a value of its own" : "a view of the op's state",
                         value.view == View::none ? "a value of its own" : "another view");
    };
    for (size_t i = 0; i < op_.outputs.size() && spec_.branches == 0; ++i) {
      KVASS_RETURN_IF_ERROR(check(check_.out(i), i < spec_.output_views.size() ? spec_.output_views[i] : View::none));
    }
    for (size_t i = 0; i < op_.inputs.size(); ++i) {
      const View view = i < spec_.input_views.size() ? spec_.input_views[i] : View::none;
      if (view == View::none && check_.in(i).view == View::source) continue;
      KVASS_RETURN_IF_ERROR(check(check_.in(i), view));
    }
    return {};
  }

  Status check_rows(const Value& value, EnumSet<Extent> rows) const {
    if (rows.has(value.extent)) return {};
    return check_.fail(fmt::format("value '{}'", value.name), names_of(rows), extent_name(value.extent));
  }

  Status check_rows() const {
    EnumSet<Extent> same = spec_.input_rows;
    for (size_t i = 0; i < op_.inputs.size(); ++i) {
      if (i > 0 && is_view_of_keys(check_.in(i))) continue;
      KVASS_RETURN_IF_ERROR(check_rows(check_.in(i), same));
      same = set_of(check_.in(0).extent);
    }
    if (spec_.branches > 0) return {};  // outputs have the rows of what the branches give
    const EnumSet<Extent> rows = spec_.output_rows.empty() ? same : spec_.output_rows;
    for (ValueId id : op_.outputs) KVASS_RETURN_IF_ERROR(check_rows(check_.value(id), rows));
    return {};
  }

  // The op may stand here, and its values have rows here.
  Status check_placement() const {
    if (!spec_.places.has(place_)) {
      const bool encodes = spec_.places.has(Place::encode), heads = spec_.places.has(Place::head);
      return check_.fail("place",
                         encodes ? "in `encode`"
                         : heads ? "in `head`"
                                 : "in a part that steps run",
                         "another part");
    }
    const auto check = [&](const Value& value) -> Status {
      const bool of_source = value.extent == Extent::frames || value.extent == Extent::source;
      if (place_ == Place::encode) {
        return of_source ? Status() : check_.fail("rows in `encode`", "of the encoder", extent_name(value.extent));
      }
      if (value.extent == Extent::frames) return check_.fail("rows", "of a step", extent_name(value.extent));
      if (of_source && !is_view_of_keys(value) && place_ != Place::one_sequence) {
        return check_.fail("source rows", "in a branch", "outside");
      }
      return {};
    };
    for (ValueId id : op_.inputs) KVASS_RETURN_IF_ERROR(check(check_.value(id)));
    for (ValueId id : op_.outputs) KVASS_RETURN_IF_ERROR(check(check_.value(id)));
    return {};
  }

  const OpCheck check_;
  const Program& program_;
  const Op& op_;
  const OpSpec& spec_;
  const Place place_;
  std::vector<bool>& visible_;
  std::vector<bool>& written_;
};

}  // namespace

Status verify_op(const Program& program, const Op& op, Place place, std::vector<bool>& visible,
                 std::vector<bool>& written) {
  if (!is_op_kind(op.kind)) {
    return OpCheck(program, op)
        .fail("kind", "an operator of this version", fmt::format("{}", static_cast<int>(op.kind)));
  }
  return OpVerifier(program, op, place, visible, written).run();
}

}  // namespace kvass
