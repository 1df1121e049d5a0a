// Tensors that own their memory, and contexts, for the tests of the operators.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/float16.h"
#include "kvass/ops.h"
#include "seed.h"

namespace kvass {

class TestTensor {
 public:
  TestTensor() = default;
  // Filled with NaN, or a copy of `from`.
  TestTensor(DType dtype, std::vector<int64_t> shape, const void* from = nullptr)
      : dtype_(dtype), shape_(std::move(shape)), bytes_(elements() * dtype_bytes(dtype) + 1, 0xff) {
    if (from) std::memcpy(bytes_.data(), from, bytes_.size() - 1);
  }
  // Values in [-1, 1) times `factor`.
  TestTensor(DType dtype, std::vector<int64_t> shape, testing::Random& random, float factor = 1.0f)
      : TestTensor(dtype, std::move(shape)) {
    for (size_t i = 0; i < elements(); ++i) set(i, factor * random.real());
  }

  Tensor view() { return fill(Tensor()); }
  ConstTensor view() const { return fill(ConstTensor()); }
  DType dtype() const { return dtype_; }
  const std::vector<int64_t>& shape() const { return shape_; }
  size_t elements() const {
    size_t count = 1;
    for (const int64_t size : shape_) count *= static_cast<size_t>(size);
    return count;
  }

  float get(size_t i) const {
    if (dtype_ == DType::f32) return reinterpret_cast<const float*>(bytes_.data())[i];
    const uint16_t bits = reinterpret_cast<const uint16_t*>(bytes_.data())[i];
    return dtype_ == DType::f16 ? f16_to_float(bits) : bf16_to_float(bits);
  }
  void set(size_t i, float x) {
    if (dtype_ == DType::f32) {
      reinterpret_cast<float*>(bytes_.data())[i] = x;
    } else {
      reinterpret_cast<uint16_t*>(bytes_.data())[i] = dtype_ == DType::f16 ? float_to_f16(x) : float_to_bf16(x);
    }
  }
  size_t index(int64_t a, int64_t b, int64_t c, int64_t d) const {
    return static_cast<size_t>(((a * shape_[1] + b) * shape_[2] + c) * shape_[3] + d);
  }
  float at(int64_t a, int64_t b, int64_t c, int64_t d) const { return get(index(a, b, c, d)); }

  bool same_bits(const TestTensor& other) const { return bytes_ == other.bytes_ && shape_ == other.shape_; }
  TestTensor rounded(DType dtype) const {
    TestTensor result(dtype, shape_);
    for (size_t i = 0; i < elements(); ++i) result.set(i, get(i));
    return result;
  }
  // Indices [begin, end) of dimension `dim`, copied.
  TestTensor slice(int dim, int64_t begin, int64_t end) const {
    std::vector<int64_t> shape = shape_;
    shape[static_cast<size_t>(dim)] = end - begin;
    TestTensor result(dtype_, shape);
    size_t to = 0;
    int64_t i[4];
    const auto first = [&](int d) { return d == dim ? begin : 0; };
    const auto last = [&](int d) { return d == dim ? end : shape_[static_cast<size_t>(d)]; };
    for (i[0] = first(0); i[0] < last(0); ++i[0])
      for (i[1] = first(1); i[1] < last(1); ++i[1])
        for (i[2] = first(2); i[2] < last(2); ++i[2])
          for (i[3] = first(3); i[3] < last(3); ++i[3]) result.set(to++, at(i[0], i[1], i[2], i[3]));
    return result;
  }
  // The largest error, relative to the largest magnitude of the truth; NaN if a value is NaN.
  double peak_relative_error(const double* truth) const {
    double error = 0.0, peak = 0.0;
    for (size_t i = 0; i < elements(); ++i) {
      const double difference = std::abs(get(i) - truth[i]);
      error = difference <= error ? error : difference;
      peak = std::max(peak, std::abs(truth[i]));
    }
    return peak == 0.0 ? error : error / peak;
  }

 private:
  template <class View>
  View fill(View view) const {
    view.data = const_cast<uint8_t*>(bytes_.data());
    view.dtype = dtype_;
    view.rank = static_cast<int>(shape_.size());
    int64_t stride = 1;
    for (size_t i = shape_.size(); i-- > 0; stride *= shape_[i]) {
      view.shape[i] = shape_[i];
      view.strides[i] = stride;
    }
    return view;
  }

  DType dtype_ = DType::f32;
  std::vector<int64_t> shape_;
  std::vector<uint8_t> bytes_;  // one byte more than the tensor, which is never written
};

// The CPU backends of attention that this machine runs.
inline std::vector<std::string> test_backends() {
  std::vector<std::string> names;
  for (const Backend& row : list_backends()) {
    if (row.op == "attention" && row.device == Device::cpu && row.available) names.emplace_back(row.name);
  }
  return names;
}

// A context whose attention operators run `backend`; empty: the best.
inline OpContext test_context(int threads, const std::string& backend) {
  std::string list;
  for (const char* op : {"attention", "kv_cache_attention", "attention_backward"}) {
    if (!backend.empty()) list.append(list.empty() ? "" : ",").append(op).append("=").append(backend);
  }
  return OpContext::create({threads, list}).value();
}

}  // namespace kvass
