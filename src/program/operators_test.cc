// What the verifier refuses, for every operator of the list: made from what each says of itself, so a new one is
// covered by being there.
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <set>

#include "one_op.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

class EveryOperator : public ::testing::TestWithParam<OpKind> {
 protected:
  // Its example on each kind of rows that it takes.
  void for_each_example(const std::function<void(OneOp&, Extent)>& body) {
    for (const Extent rows : example_rows(GetParam())) {
      SCOPED_TRACE(extent_name(rows));
      OneOp one(GetParam(), rows);
      body(one, rows);
    }
  }
  // The example is refused once `change` has been made, with this word.
  void expect_refused(const char* word, const std::function<void(OneOp&)>& change) {
    for_each_example([&](OneOp& one, Extent) {
      change(one);
      const std::string message = one.refused();
      EXPECT_NE(message.find(word), std::string::npos) << "'" << message << "', '" << word << "'";
      EXPECT_NE(message, "");
    });
  }
  const OpSpec& spec() const { return op_spec(GetParam()); }
  size_t inputs() const { return spec().inputs.least; }
  size_t outputs() const { return OneOp(GetParam(), example_rows(GetParam())[0]).op().outputs.size(); }
  size_t weights() const { return OneOp(GetParam(), example_rows(GetParam())[0]).op().weights.size(); }
};

TEST_P(EveryOperator, ItsExampleIsSound) {
  ASSERT_FALSE(example_rows(GetParam()).empty());
  for_each_example([](OneOp& one, Extent) { EXPECT_EQ(one.refused(), ""); });
}

TEST_P(EveryOperator, HasANameAndSaysWhatItDoes) {
  EXPECT_NE(op_kind_name(GetParam()), "unknown");
  EXPECT_NE(op_text(GetParam()), "");
  std::set<std::string_view> names;
  for (OpKind kind : all_op_kinds()) names.insert(op_kind_name(kind));
  EXPECT_EQ(names.size(), all_op_kinds().size());
}

TEST_P(EveryOperator, AnotherNumberOfInputsOutputsOrWeightsIsRefused) {
  if (inputs() > 0) expect_refused("arity", [](OneOp& one) { one.op().inputs.pop_back(); });
  expect_refused("arity", [](OneOp& one) { one.op().inputs.push_back(one.program.hidden); });
  if (weights() > 0) expect_refused("", [](OneOp& one) { one.op().weights.pop_back(); });
  if (weights() > 0 || spec().weights.most == 0) {
    expect_refused("", [](OneOp& one) {
      one.program.weights.push_back({"one more", 0, 32});
      one.op().weights.push_back(static_cast<WeightId>(one.program.weights.size() - 1));
    });
  }
  if (spec().branches > 0) {
    expect_refused("arity", [](OneOp& one) { one.op().branches.pop_back(); });
  } else {
    if (outputs() > 0) expect_refused("arity", [](OneOp& one) { one.op().outputs.pop_back(); });
    expect_refused("arity", [](OneOp& one) { one.op().outputs.push_back(one.program.logits); });
    expect_refused("branches", [](OneOp& one) { one.op().branches.push_back(0); });
  }
}

TEST_P(EveryOperator, IndicesOutsideOfTheProgramAreRefused) {
  for (const int32_t wrong : {-1, 1000, std::numeric_limits<int32_t>::max()}) {
    for (size_t i = 0; i < inputs(); ++i) expect_refused("inputs", [&](OneOp& one) { one.op().inputs[i] = wrong; });
    for (size_t i = 0; i < outputs(); ++i) expect_refused("outputs", [&](OneOp& one) { one.op().outputs[i] = wrong; });
    for (size_t i = 0; i < weights(); ++i) expect_refused("weights", [&](OneOp& one) { one.op().weights[i] = wrong; });
    if (spec().state != Access::none) expect_refused("state", [&](OneOp& one) { one.op().state = wrong; });
    if (spec().cross != Access::none) expect_refused("cross cache", [&](OneOp& one) { one.op().cross = wrong; });
  }
  for (size_t i = 0; i < inputs(); ++i) {  // not written yet
    if (outputs() > 0) {
      expect_refused("written before", [&](OneOp& one) { one.op().inputs[i] = one.op().outputs[0]; });
    }
  }
}

TEST_P(EveryOperator, AnotherWidthIsRefused) {
  const bool free = spec().example.any_width;  // of its first value
  for (size_t i = free && inputs() > 0 ? 1 : 0; i < inputs(); ++i) {
    expect_refused("", [&](OneOp& one) { one.input(i).width += 16; });
  }
  for (size_t i = free && inputs() == 0 ? 1 : 0; i < outputs(); ++i) {
    expect_refused("", [&](OneOp& one) { one.output(i).width += 16; });
  }
  for (size_t i = 0; i < weights(); ++i) {
    const auto weight = [i](OneOp& one) -> Weight& {
      return one.program.weights[static_cast<size_t>(one.op().weights[i])];
    };
    expect_refused("", [&](OneOp& one) { weight(one).inputs += 16; });
    expect_refused("weight", [&](OneOp& one) { weight(one).outputs = weight(one).outputs == 0 ? 32 : 0; });
  }
}

TEST_P(EveryOperator, OtherRowsAreRefused) {
  for_each_example([&](OneOp& example, Extent rows) {
    const auto refuses = [&](bool output, size_t i, EnumSet<Extent> taken) {
      for (const Extent other : extents_in(kAnyRows)) {
        if (taken.has(other)) continue;
        OneOp one(GetParam(), rows);
        (output ? one.output(i) : one.input(i)).extent = other;
        EXPECT_NE(one.refused(), "") << (output ? "output " : "input ") << i << ": " << extent_name(other);
      }
    };
    for (size_t i = 0; i < inputs(); ++i) {
      if (example.input(i).view == View::none) refuses(false, i, i == 0 ? spec().input_rows : set_of(rows));
    }
    for (size_t i = 0; i < outputs(); ++i) {
      refuses(true, i, spec().output_rows.empty() ? set_of(rows) : spec().output_rows);
    }
  });
}

TEST_P(EveryOperator, AnotherPlaceIsRefused) {
  for (const Place place : {Place::body, Place::one_sequence, Place::encode, Place::head}) {
    if (!spec().places.has(place)) expect_refused("place", [&](OneOp& one) { one.place = place; });
  }
  for_each_example([&](OneOp& one, Extent) {  // the encoder's rows are in `encode` only, others nowhere there
    if (one.place == Place::encode) {
      one.place = Place::body;
    } else if (one.place == Place::one_sequence) {
      one.place = Place::head;
    } else {
      one.place = Place::encode;
    }
    EXPECT_NE(one.refused(), "");
  });
}

TEST_P(EveryOperator, AnotherViewIsRefused) {
  for (size_t i = 0; i < inputs(); ++i) {
    expect_refused("view", [&](OneOp& one) {
      one.input(i).view = one.input(i).view == View::keys ? View::values : View::keys;
      one.input(i).cross = 0;
    });
  }
  for (size_t i = 0; i < outputs() && spec().branches == 0; ++i) {
    expect_refused("view", [&](OneOp& one) {
      one.output(i).view = one.output(i).view == View::none ? View::keys : View::none;
      one.output(i).cross = one.output(i).view == View::none ? kNone : 0;
    });
  }
}

TEST_P(EveryOperator, WritesWhatNoOtherOpWrites) {
  if (outputs() == 0) return;
  for_each_example([](OneOp& one, Extent) {
    std::vector<bool> visible(one.program.values.size(), true), written(one.program.values.size(), true);
    EXPECT_NE(verify_op(one.program, one.op(), one.place, visible, written).message().find("no other op writes"),
              std::string::npos);
  });
}

std::string name_of_kind(const ::testing::TestParamInfo<OpKind>& info) { return std::string(op_kind_name(info.param)); }
INSTANTIATE_TEST_SUITE_P(Ops, EveryOperator, ::testing::ValuesIn(all_op_kinds()), name_of_kind);

}  // namespace
}  // namespace kvass
