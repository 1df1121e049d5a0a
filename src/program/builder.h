// How a family writes its program down: one call an op, shapes checked as it goes. Errors of the file's metadata are
// the family's to report; a wrong call here is a broken invariant and asserts.
#pragma once

#include <span>
#include <string>

#include "program/program.h"

namespace kvass {

class ProgramBuilder {
 public:
  WeightId matrix(std::string name, int64_t outputs, int64_t inputs);
  WeightId vector(std::string name, int64_t width);
  RotaryId rotary(const RotaryParams& params);  // equal parameters are one table
  StateId cache(std::string name, int64_t kv_heads, int64_t head_dim, int64_t window, RotaryId rotary);

  void begin_method(std::string name);
  void set_scope(std::string scope) { scope_ = std::move(scope); }  // prefix of the names that follow: "layer 3"

  ValueId embed(WeightId table, float scale);  // [rows, inputs of the table]
  ValueId rms_norm(std::string name, ValueId x, WeightId weight, float epsilon, int64_t heads = 1);
  std::vector<ValueId> linear(std::string name, ValueId x, std::span<const WeightId> weights,
                              std::span<const std::string> outputs);
  ValueId linear(std::string name, ValueId x, WeightId weight);
  void cache_write(ValueId k, ValueId v, StateId state);
  ValueId attention(ValueId q, StateId state, int64_t heads, float scale, float cap);
  ValueId gelu_gate(ValueId gate, ValueId up);
  ValueId silu_gate(ValueId gate, ValueId up);
  ValueId bias(std::string name, ValueId x, WeightId weight);
  ValueId add(std::string name, ValueId a, ValueId b);
  ValueId select_rows(ValueId x);
  ValueId softcap(ValueId x, float cap);

  void set_hidden(ValueId value) { program_.hidden = value; }
  void set_logits(ValueId value) { program_.logits = value; }
  Program finish() &&;

 private:
  ValueId value(const std::string& name, int64_t width, Extent extent);
  Op& op(OpKind kind, const std::string& name, std::vector<ValueId> inputs);
  const Value& at(ValueId id) const;

  Program program_;
  std::string scope_;
};

}  // namespace kvass
