#include "kvp/program_tables.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <tuple>
#include <type_traits>
#include <vector>

#include "program/fields.h"

namespace kvass {
namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;

// The numbers of the file are those of the program.
static_assert(static_cast<int>(Extent::sequence) == fb::Extent_sequence && fb::Extent_sequence == fb::Extent_MAX);
static_assert(static_cast<int>(View::values) == fb::View_values && fb::View_values == fb::View_MAX);

template <class T>
concept Number = std::is_arithmetic_v<T>;

class ProgramWriter {
  // A field as its table has it.
  template <Number T>
  T put(T value) {
    return value;
  }
  uint32_t put(OpKind kind) {  // its place in Program.op_kinds
    const auto at = std::find(kinds_.begin(), kinds_.end(), kind);
    if (at != kinds_.end()) return static_cast<uint32_t>(at - kinds_.begin());
    kinds_.push_back(kind);
    return static_cast<uint32_t>(kinds_.size() - 1);
  }
  fb::Extent put(Extent extent) { return static_cast<fb::Extent>(extent); }
  fb::View put(View view) { return static_cast<fb::View>(view); }
  Offset<flatbuffers::String> put(const std::string& value) { return fbb_.CreateString(value); }
  template <class T>
  Offset<flatbuffers::Vector<T>> put(const std::vector<T>& list) {
    return fbb_.CreateVector(list);
  }

  // What the generated Create functions take: the fields of one part of the program, in the order of the schema, which
  // is that of the rows. Braces, because what is made on the way is made in that order, too.
#define KVASS_PUT_(member, name, hashed) , put(from.member)
  auto arguments(const Value& from) {
    return std::tuple{std::ref(fbb_)
#define KVASS_VALUE_FIELD KVASS_PUT_
#include "program/fields.inc"
    };
  }
  auto arguments(const Weight& from) {
    return std::tuple{std::ref(fbb_)
#define KVASS_WEIGHT_FIELD KVASS_PUT_
#include "program/fields.inc"
    };
  }
  auto arguments(const CacheState& from) {
    return std::tuple{std::ref(fbb_)
#define KVASS_STATE_FIELD KVASS_PUT_
#include "program/fields.inc"
    };
  }
  auto arguments(const CrossState& from) {
    return std::tuple{std::ref(fbb_)
#define KVASS_CROSS_FIELD KVASS_PUT_
#include "program/fields.inc"
    };
  }
  auto arguments(const RotaryParams& from) {
    return std::tuple{std::ref(fbb_)
#define KVASS_ROTARY_FIELD KVASS_PUT_
#include "program/fields.inc"
    };
  }
  auto arguments(const Op& from) {
    return std::tuple{std::ref(fbb_)
#define KVASS_OP_FIELD KVASS_PUT_
#include "program/fields.inc"
    };
  }
  auto arguments(const Branch& from) {
    return std::tuple{std::ref(fbb_)
#define KVASS_BRANCH_FIELD KVASS_PUT_
#include "program/fields.inc"
    };
  }
  auto arguments(const Part& from) {
    return std::tuple{std::ref(fbb_)
#define KVASS_PART_FIELD KVASS_PUT_
#include "program/fields.inc"
    };
  }
#undef KVASS_PUT_

  template <class Create, class T>
  auto create_all(Create create, const std::vector<T>& list) {
    std::vector<decltype(std::apply(create, arguments(list[0])))> made;
    for (const T& item : list) made.push_back(std::apply(create, arguments(item)));
    return made;
  }

 public:
  explicit ProgramWriter(FlatBufferBuilder& fbb) : fbb_(fbb) {}

  Offset<fb::Program> write(const Program& program, std::span<const WeightPlace> places) {
    const auto ops = create_all(fb::CreateOp, program.ops);
    std::vector<Offset<flatbuffers::String>> names;
    for (OpKind kind : kinds_) names.push_back(fbb_.CreateString(op_kind_name(kind)));
    const auto values = create_all(fb::CreateValue, program.values);
    std::vector<Offset<fb::Weight>> weights;
    for (size_t i = 0; i < program.weights.size(); ++i) {
      const auto fields = arguments(program.weights[i]);
      const auto type = fbb_.CreateSharedString(std::string(weight_type_name(places[i].type)));
      const std::tuple place{type, places[i].section, places[i].offset};
      weights.push_back(std::apply(fb::CreateWeight, std::tuple_cat(fields, place)));
    }
    const auto states = create_all(fb::CreateState, program.states);
    const auto rotaries = create_all(fb::CreateRotary, program.rotaries);
    const auto parts = create_all(fb::CreatePart, program.parts);
    const auto crosses = create_all(fb::CreateCross, program.crosses);
    const auto branches = create_all(fb::CreateBranch, program.branches);
    const auto cross_list = fbb_.CreateVector(crosses);
    const auto branch_list = fbb_.CreateVector(branches);
    const auto name_list = fbb_.CreateVector(names);
    const auto value_list = fbb_.CreateVector(values);
    const auto weight_list = fbb_.CreateVector(weights);
    const auto state_list = fbb_.CreateVector(states);
    const auto rotary_list = fbb_.CreateVector(rotaries);
    const auto op_list = fbb_.CreateVector(ops);
    const auto part_list = fbb_.CreateVector(parts);
    static_assert(kProgramFields == 11, "each is added here");
    fb::ProgramBuilder root(fbb_);
    root.add_op_kinds(name_list);
    root.add_values(value_list);
    root.add_weights(weight_list);
    root.add_states(state_list);
    root.add_rotaries(rotary_list);
    root.add_ops(op_list);
    root.add_parts(part_list);
    root.add_hidden(program.hidden);
    root.add_logits(program.logits);
    root.add_crosses(cross_list);
    root.add_branches(branch_list);
    root.add_source_rows(program.source.rows);
    root.add_source_width(program.source.width);
    root.add_source_frames(program.source.frames);
    return root.Finish();
  }

 private:
  FlatBufferBuilder& fbb_;
  std::vector<OpKind> kinds_;
};

std::optional<OpKind> find_op_kind(std::string_view name) {
  for (int i = 0; op_kind_name(static_cast<OpKind>(i)) != "unknown"; ++i) {
    if (op_kind_name(static_cast<OpKind>(i)) == name) return static_cast<OpKind>(i);
  }
  return std::nullopt;
}

class ProgramReader : private TableChecks {
 public:
  explicit ProgramReader(const TableChecks& checks) : TableChecks(checks) {}

  Status read(const fb::Program* from, Program& to) {
    if (from == nullptr) return wrong("program", "one", "none");
    for (const size_t count :
         {size_of(from->values()), size_of(from->weights()), size_of(from->states()), size_of(from->ops()),
          size_of(from->op_kinds()), size_of(from->crosses()), size_of(from->branches())}) {
      KVASS_RETURN_IF_ERROR(at_most("things of one kind in the program", count, kMostThings));
    }
    KVASS_RETURN_IF_ERROR(at_most("rotary embeddings", size_of(from->rotaries()), kMostRotaries));
    KVASS_RETURN_IF_ERROR(at_most("parts", size_of(from->parts()), kMostMethods));
    for (size_t i = 0; i < size_of(from->op_kinds()); ++i) {
      const std::string_view name = view(from->op_kinds()->Get(static_cast<uint32_t>(i)));
      const auto kind = find_op_kind(name);
      if (!kind) return cannot("operators", "operators of this version", shown(name));
      kinds_.push_back(*kind);
    }
    static_assert(kProgramFields == 11, "each is read here");
    KVASS_RETURN_IF_ERROR(read_all(from->values(), to.values));
    KVASS_RETURN_IF_ERROR(read_all(from->weights(), to.weights));
    KVASS_RETURN_IF_ERROR(read_all(from->states(), to.states));
    for (const CacheState& state : to.states) {
      if (state.head_dim <= kMostHeadDim) continue;
      return wrong("head size", "at most " + std::to_string(kMostHeadDim), std::to_string(state.head_dim));
    }
    KVASS_RETURN_IF_ERROR(read_all(from->rotaries(), to.rotaries));
    KVASS_RETURN_IF_ERROR(read_all(from->ops(), to.ops));
    KVASS_RETURN_IF_ERROR(read_all(from->crosses(), to.crosses));
    KVASS_RETURN_IF_ERROR(read_all(from->branches(), to.branches));
    to.source = {from->source_rows(), from->source_width(), from->source_frames()};
    KVASS_RETURN_IF_ERROR(read_all(from->parts(), to.parts));
    to.hidden = from->hidden();
    to.logits = from->logits();
    const Status verified = verify_program(to);
    return verified.ok() ? Status() : in_file(verified);
  }

 private:
  // One field of a part of the program, by its type. `field` and `of` name it in messages: "inputs", "an op".
  template <class From, Number To>
  Status read_field(std::string_view, std::string_view, From from, To& to) const {
    to = from;
    return {};
  }
  Status read_field(std::string_view field, std::string_view of, const flatbuffers::String* from,
                    std::string& to) const {
    return read_name(std::string(field) + " of " + std::string(of), from, to);
  }
  template <class T>
  Status read_field(std::string_view field, std::string_view of, const flatbuffers::Vector<T>* from,
                    std::vector<T>& to) const {
    constexpr size_t kMost = std::is_same_v<T, float> ? kMostHeadDim / 2 : kMostOperands;
    KVASS_RETURN_IF_ERROR(at_most(std::string(field) + " of " + std::string(of), size_of(from), kMost));
    if (from != nullptr) to.assign(from->begin(), from->end());
    return {};
  }
  Status read_field(std::string_view field, std::string_view of, uint32_t from, OpKind& to) const {
    if (from >= kinds_.size()) {
      return wrong(std::string(field) + " of " + std::string(of), "one of the file's", std::to_string(from));
    }
    to = kinds_[from];
    return {};
  }
  template <class From, class To>
  Status read_enum(std::string_view field, std::string_view of, From from, From most, To& to) const {
    if (from > most) {
      return wrong(std::string(field) + " of " + std::string(of), "one of this version", std::to_string(from));
    }
    to = static_cast<To>(from);
    return {};
  }
  Status read_field(std::string_view field, std::string_view of, fb::Extent from, Extent& to) const {
    return read_enum(field, of, from, fb::Extent_MAX, to);
  }
  Status read_field(std::string_view field, std::string_view of, fb::View from, View& to) const {
    return read_enum(field, of, from, fb::View_MAX, to);
  }

  // One part of the program, field by field, by the names that its table has for them.
#define KVASS_READ_(member, name, hashed) KVASS_RETURN_IF_ERROR(read_field(#name, kOf, from.name(), to.member));
  Status read(const fb::Value& from, Value& to) const {
    constexpr std::string_view kOf = "a value";
#define KVASS_VALUE_FIELD KVASS_READ_
#include "program/fields.inc"
    return {};
  }
  Status read(const fb::Weight& from, Weight& to) const {
    constexpr std::string_view kOf = "a weight";
#define KVASS_WEIGHT_FIELD KVASS_READ_
#include "program/fields.inc"
    return {};
  }
  Status read(const fb::State& from, CacheState& to) const {
    constexpr std::string_view kOf = "a state";
#define KVASS_STATE_FIELD KVASS_READ_
#include "program/fields.inc"
    return {};
  }
  Status read(const fb::Cross& from, CrossState& to) const {
    constexpr std::string_view kOf = "a cross cache";
#define KVASS_CROSS_FIELD KVASS_READ_
#include "program/fields.inc"
    return {};
  }
  Status read(const fb::Rotary& from, RotaryParams& to) const {
    constexpr std::string_view kOf = "a rotary embedding";
#define KVASS_ROTARY_FIELD KVASS_READ_
#include "program/fields.inc"
    return {};
  }
  Status read(const fb::Op& from, Op& to) const {
    constexpr std::string_view kOf = "an op";
#define KVASS_OP_FIELD KVASS_READ_
#include "program/fields.inc"
    return {};
  }
  Status read(const fb::Branch& from, Branch& to) const {
    constexpr std::string_view kOf = "a branch";
#define KVASS_BRANCH_FIELD KVASS_READ_
#include "program/fields.inc"
    return {};
  }
  Status read(const fb::Part& from, Part& to) const {
    constexpr std::string_view kOf = "a part";
#define KVASS_PART_FIELD KVASS_READ_
#include "program/fields.inc"
    return {};
  }
#undef KVASS_READ_
  template <class Table, class T>
  Status read_all(const flatbuffers::Vector<Offset<Table>>* from, std::vector<T>& to) const {
    to.resize(size_of(from));
    for (size_t i = 0; i < to.size(); ++i) KVASS_RETURN_IF_ERROR(read(*from->Get(static_cast<uint32_t>(i)), to[i]));
    return {};
  }

  std::vector<OpKind> kinds_;  // of the file's operators
};

}  // namespace

Offset<fb::Program> write_program(FlatBufferBuilder& fbb, const Program& program, std::span<const WeightPlace> places) {
  return ProgramWriter(fbb).write(program, places);
}

Status read_program(const fb::Program* from, const TableChecks& checks, Program& to) {
  return ProgramReader(checks).read(from, to);
}

}  // namespace kvass
