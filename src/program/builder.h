// How a family writes its program down: one call an op, shapes checked as it goes. Errors of the file's metadata are
// the family's to report; a wrong call here is a broken invariant and asserts.
#pragma once

#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "program/program.h"

namespace kvass {

class ProgramBuilder {
 public:
  WeightId matrix(std::string name, int64_t outputs, int64_t inputs);
  WeightId vector(std::string name, int64_t width);
  RotaryId rotary(const RotaryParams& params);  // equal parameters are one table
  StateId cache(std::string name, int64_t kv_heads, int64_t head_dim, int64_t window, RotaryId rotary);

  // The encoder: at most `rows` rows of `width` come out of at most `frames` that go in.
  void encoder(int64_t rows, int64_t width, int64_t frames) { program_.source = {rows, width, frames}; }
  CrossId cross_cache(std::string name, int64_t kv_heads, int64_t head_dim);

  void begin_part(std::string name);
  void set_scope(std::string scope) { scope_ = std::move(scope); }  // prefix of the names that follow: "layer 3"

  // Any operator: `op` with its kind, name, inputs, weights and attributes. A value for each of `widths`, on the rows
  // that the kind's spec gives.
  std::vector<ValueId> emit(Op op, std::span<const int64_t> widths);

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
  ValueId copy(std::string name, ValueId x);
  ValueId gelu(ValueId x);
  ValueId layer_norm(std::string name, ValueId x, WeightId weight, WeightId bias, float epsilon);
  ValueId positions(ValueId x, WeightId table);  // table: [positions][width]

  // In `encode`. The input's rows are frames, or source rows where nothing halves them.
  ValueId input(int64_t width, Extent extent = Extent::frames);
  ValueId conv1d(std::string name, ValueId x, WeightId weight, int64_t stride);  // weight: [outputs][3][width of x]
  ValueId attend_rows(ValueId q, ValueId k, ValueId v, int64_t heads, float scale);
  void store_source(ValueId x);

  // In `body`, of each sequence.
  ValueId source();  // in a branch
  struct Keys {
    ValueId k = kNone;
    ValueId v = kNone;
  };
  ValueId is_initialised(CrossId cross);
  ValueId any_nonzero(CrossId cross);
  Keys alias(CrossId cross);
  Keys update_cross_attn_cache(ValueId k, ValueId v, CrossId cross);
  ValueId cross_attention(ValueId q, const Keys& keys, int64_t heads, float scale);

  // For each sequence of the step, where `predicate` (a row a sequence) is not 0 what `then` emits, elsewhere what
  // `otherwise` does. Both return the same number of values, of the same widths and extents; so does cond. A value that
  // was there before is returned as a copy of it.
  //     Keys keys = builder.cond("keys", builder.is_initialised(cross),
  //                              [&] { return builder.alias(cross); },
  //                              [&] { return builder.update_cross_attn_cache(k(), v(), cross); });
  template <class Then, class Otherwise>
  auto cond(const std::string& name, ValueId predicate, Then&& then, Otherwise&& otherwise) {
    using Values = decltype(then());
    const size_t at = begin_cond(name, predicate);
    begin_branch(at);
    end_branch(at, list(then()));
    begin_branch(at);
    end_branch(at, list(otherwise()));
    return as<Values>(end_cond(at));
  }

  void set_hidden(ValueId value) { program_.hidden = value; }
  void set_logits(ValueId value) { program_.logits = value; }
  Program finish() &&;  // with the part `greedy` (greedy.h)

 private:
  ValueId value(const std::string& name, int64_t width, Extent extent);
  Op& op(OpKind kind, const std::string& name, std::vector<ValueId> inputs);
  ValueId view(const std::string& name, int64_t width, View of, CrossId cross);
  Keys views(const std::string& name, CrossId cross);
  const Value& at(ValueId id) const;
  size_t begin_cond(const std::string& name, ValueId predicate);  // index of the op
  void begin_branch(size_t cond);
  void end_branch(size_t cond, std::vector<ValueId> results);
  std::vector<ValueId> end_cond(size_t cond);

  static std::vector<ValueId> list(ValueId value) { return {value}; }
  static std::vector<ValueId> list(const Keys& keys) { return {keys.k, keys.v}; }
  static std::vector<ValueId> list(std::vector<ValueId> values) { return values; }
  template <class Values>
  static Values as(std::vector<ValueId> values) {
    if constexpr (std::is_same_v<Values, ValueId>)
      return values[0];
    else if constexpr (std::is_same_v<Values, Keys>)
      return {values[0], values[1]};
    else
      return values;
  }

  Program program_;
  std::string scope_;
};

}  // namespace kvass
