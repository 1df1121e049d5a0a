#include "session/fingerprint.h"

#include <bit>
#include <string_view>
#include <type_traits>

#include "program/fields.h"

namespace kvass {
namespace {

// Every field in an order of its own, numbers as 64 bits, lists and texts after their lengths.
class FieldHasher {
 public:
  template <class T>
  requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  void add(T value) {
    uint64_t bits = 0;
    if constexpr (std::is_floating_point_v<T>) {
      bits = std::bit_cast<uint64_t>(static_cast<double>(value));
    } else {
      bits = static_cast<uint64_t>(value);
    }
    uint8_t bytes[8];
    for (int i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(bits >> (8 * i));
    hasher_.add(bytes);
  }
  void add(std::string_view text) {
    add(text.size());
    hasher_.add({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }
  template <class T>
  void add(const std::vector<T>& list) {
    add(list.size());
    for (const T& item : list) add(item);
  }

  // The part of a program's fields that the round is about; with `always` also those that differ from a new object's.
  template <class T>
  requires requires(const T& part) {
    for_each_field(part, part, [](auto&&...) {});
  }
  void add(const T& part, Hashed round = Hashed::always) {
    for_each_field(part, T(), [&](const Field& field, const auto& value, const auto& value_of_new) {
      if (field.hashed == round) add(value);
      if (field.hashed == Hashed::not_default && round == Hashed::always && value != value_of_new) {
        add(field.name);
        add(value);
      }
    });
  }
  void add(OpKind kind) { add(op_kind_name(kind)); }  // its number moves when the list of operators grows

  static_assert(kProgramFields == 11, "add and add_more have every field");
  void add(const Program& program) {
    add(program.values);
    add(program.weights);
    add(program.states);
    add(program.rotaries);
    add(program.ops);
    add(program.parts);
    add(program.hidden);
    add(program.logits);
    if (program.has_encoder() || !program.branches.empty()) add_more(program);
  }
  // What only programs with an encoder or with branches have: the fingerprints of the others are as they were without
  // it.
  void add_more(const Program& program) {
    for (const Value& value : program.values) add(value, Hashed::encoder);
    for (const Op& op : program.ops) {
      add(op, Hashed::encoder);
      add(op, Hashed::branches);
    }
    for (const CrossState& cross : program.crosses) {
      add(cross, Hashed::encoder);
      add(cross);
    }
    add(program.source.rows);
    add(program.source.width);
    add(program.source.frames);
    for (const Branch& branch : program.branches) {
      add(branch, Hashed::encoder);
      add(branch);
    }
  }
  void bytes(const void* data, size_t size) { hasher_.add({static_cast<const uint8_t*>(data), size}); }

  Hash128 result() const { return hasher_.result(); }

 private:
  Hasher hasher_;
};

}  // namespace

Hash128 fingerprint_of(const Program& program, const WeightStore& weights) {
  FieldHasher hasher;
  hasher.add(program);
  for (size_t i = 0; i < program.weights.size(); ++i) {
    const Weight& weight = program.weights[i];
    if (weight.outputs == 0) {
      hasher.bytes(weights.vectors[i], static_cast<size_t>(weight.inputs) * sizeof(float));
      continue;
    }
    const PackedWeight& packed = weights.matrices[i];
    const WeightType type = whole_type(packed.type);
    hasher.add(weight_type_name(type));
    if (type == packed.type) {
      hasher.bytes(packed.data, packed_bytes(type, packed.n, packed.k).value());
      continue;
    }
    std::vector<uint8_t> panel(static_cast<size_t>(panel_bytes(type, packed.k)));
    for (int64_t index = 0; index < panel_count(packed.n); ++index) {
      whole_panel(packed, index, panel.data());
      hasher.bytes(panel.data(), panel.size());
    }
  }
  return hasher.result();
}

}  // namespace kvass
