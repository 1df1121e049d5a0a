// What the tests of the C operators share: tensors as C and as C++ see them, and a call. Public headers alone.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "kvass/operators.h"
#include "kvass/ops.h"
#include "seed.h"

namespace kvass::testing {

// A tensor as both see it. Of bfloat16 the elements are the upper halves of floats.
struct Values {
  Values(std::vector<int64_t> sizes, int32_t type = KVASS_DTYPE_F32) : shape(std::move(sizes)), dtype(type) {
    size_t count = 1;
    for (const int64_t size : shape) count *= static_cast<size_t>(size);
    bytes.assign(count * (dtype == KVASS_DTYPE_F32 ? 4 : 2), 0xff);
  }
  Values(std::vector<int64_t> sizes, Random& random, int32_t type = KVASS_DTYPE_F32) : Values(std::move(sizes), type) {
    const size_t size = dtype == KVASS_DTYPE_F32 ? 4 : 2;
    for (size_t at = 0; at < bytes.size(); at += size) {
      const float x = random.real();
      std::memcpy(bytes.data() + at, reinterpret_cast<const char*>(&x) + 4 - size, size);
    }
  }
  kvass_tensor c() const {
    return kvass_row_major(bytes.data(), dtype, static_cast<int32_t>(shape.size()), shape.data());
  }
  Tensor cc() {
    Tensor view;
    view.data = bytes.data();
    view.dtype = dtype == KVASS_DTYPE_F32 ? DType::f32 : DType::bf16;
    view.rank = static_cast<int>(shape.size());
    int64_t stride = 1;
    for (size_t i = shape.size(); i-- > 0; stride *= shape[i]) {
      view.shape[i] = shape[i];
      view.strides[i] = stride;
    }
    return view;
  }
  bool operator==(const Values& other) const { return bytes == other.bytes && shape == other.shape; }

  std::vector<int64_t> shape;
  int32_t dtype;
  std::vector<uint8_t> bytes;
};

template <class Struct>
Struct sized() {
  Struct options{};
  options.struct_size = sizeof options;
  return options;
}

class COperators : public ::testing::Test {
 protected:
  COperators() {
    kvass_op_context_options options = sized<kvass_op_context_options>();
    options.threads = 2;
    EXPECT_EQ(kvass_op_context_new(&options, &context_), KVASS_OK) << kvass_message();
  }
  ~COperators() override { kvass_op_context_free(context_); }

  kvass_code attend(const kvass_attention_options* options) {
    const kvass_tensor q = q_.c(), k = k_.c(), v = v_.c(), out = out_.c(), lse = lse_.c();
    return kvass_attention(context_, &q, &k, &v, options, &out, &lse);
  }
  // The message of a call that is refused and writes nothing.
  void refused(const std::function<void(kvass_attention_options&)>& change, const char* words) {
    kvass_attention_options options = sized<kvass_attention_options>();
    change(options);
    const Values out = out_, lse = lse_;
    EXPECT_EQ(attend(&options), KVASS_BAD_INPUT) << words;
    EXPECT_NE(std::strstr(kvass_message(), words), nullptr) << kvass_message();
    EXPECT_TRUE(out_ == out && lse_ == lse) << words;
  }

  Random random_;
  kvass_op_context* context_ = nullptr;
  OpContext cc_ = OpContext::create({.threads = 1, .backends = "attention=reference"}).value();
  Values q_{{2, 4, 6, 16}, random_}, k_{{2, 2, 9, 16}, random_}, v_{{2, 2, 9, 16}, random_};
  Values out_{{2, 4, 6, 16}}, lse_{{2, 4, 6}};
  const float scale_ = 0.3f;
  const int64_t right_ = 1;
  const std::vector<int64_t> first_{3, 0}, cu_q_{0, 2, 6, 12}, cu_k_{0, 4, 9, 18};
  const std::vector<float> logits_{0.5f, -1.0f, 0.0f, 2.0f};
  const Values rotated_{{2, 4, 6, 16}, random_};
  std::vector<uint8_t> mask_ = std::vector<uint8_t>(18, 1);
};

}  // namespace kvass::testing
