#include "kvass/dlpack.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "kvass/ops.h"

#if __has_include(<dlpack/dlpack.h>)
#include <dlpack/dlpack.h>
#else
// The structures of the DLPack specification.
struct DLDevice {
  int device_type;
  int device_id;
};
struct DLDataType {
  uint8_t code, bits;
  uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  int ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;
  uint64_t byte_offset;
};
#endif

namespace kvass {
namespace {

struct Foreign {
  std::vector<float> memory = std::vector<float>(64, 0.5f);
  int64_t shape[5] = {1, 2, 3, 4, 1};
  int64_t strides[5] = {24, 4, 8, 1, 1};
  DLTensor tensor{};

  Foreign() {
    tensor.data = memory.data();
    tensor.device.device_type = static_cast<decltype(tensor.device.device_type)>(1);
    tensor.ndim = 4;
    tensor.dtype = {2, 32, 1};
    tensor.shape = shape;
  }
};

TEST(DLPack, ATensorComesInWithoutACopy) {
  Foreign from;
  from.tensor.byte_offset = 8;
  const Tensor compact = from_dlpack(from.tensor).value();
  EXPECT_EQ(compact.data, from.memory.data() + 2);
  EXPECT_EQ(compact.dtype, DType::f32);
  EXPECT_EQ(compact.shape, (std::array<int64_t, 4>{1, 2, 3, 4}));
  EXPECT_EQ(compact.strides, (std::array<int64_t, 4>{24, 12, 4, 1})) << "no strides: row-major";
  from.tensor.strides = from.strides;
  EXPECT_EQ(from_dlpack(from.tensor).value().strides, (std::array<int64_t, 4>{24, 4, 8, 1}));
  from.tensor.dtype = {4, 16, 1};
  EXPECT_EQ(from_dlpack(from.tensor).value().dtype, DType::bf16);
  from.tensor.device.device_type = static_cast<decltype(from.tensor.device.device_type)>(2);
  EXPECT_EQ(from_dlpack(from.tensor).value().device, Device::cuda);
}

TEST(DLPack, ThereAndBackIsTheSame) {
  Foreign from;
  Tensor view = from_dlpack(from.tensor).value();
  const DLTensor to = to_dlpack<DLTensor>(view).value();
  const Tensor again = from_dlpack(to).value();
  EXPECT_EQ(again.data, view.data);
  EXPECT_EQ(again.shape, view.shape);
  EXPECT_EQ(again.strides, view.strides);
  EXPECT_EQ(again.dtype, view.dtype);
}

TEST(DLPack, WhatHasNoViewIsAnErrorThatNamesIt) {
  Foreign from;
  from.tensor.dtype = {2, 64, 1};
  EXPECT_EQ(from_dlpack(from.tensor, "q").status().message(),
            "q: expected float32, float16 or bfloat16, got DLPack type code 2 of 64 bits");
  from.tensor.dtype = {2, 32, 1};
  from.tensor.ndim = 5;
  EXPECT_EQ(from_dlpack(from.tensor, "q").status().message(), "q: expected at most 4 dimensions, got 5");
  from.tensor.ndim = 4;
  from.tensor.device.device_type = static_cast<decltype(from.tensor.device.device_type)>(8);
  EXPECT_FALSE(from_dlpack(from.tensor).ok());
}

TEST(DLPack, EveryTypeGoesOutAsItIsOrIsRefusedByItsName) {
  Foreign from;
  Tensor view = from_dlpack(from.tensor).value();
  const auto type = [&](DType dtype) {
    view.dtype = dtype;
    const DLDataType out = to_dlpack<DLTensor>(view).value().dtype;
    return std::array<int, 3>{out.code, out.bits, out.lanes};
  };
  EXPECT_EQ(type(DType::f32), (std::array<int, 3>{2, 32, 1}));
  EXPECT_EQ(type(DType::f16), (std::array<int, 3>{2, 16, 1}));
  EXPECT_EQ(type(DType::bf16), (std::array<int, 3>{4, 16, 1}));
  view.dtype = DType::q8;
  EXPECT_EQ(to_dlpack<DLTensor>(view, "keys").status().message(), "keys: expected float32, float16 or bfloat16, got q8");
}

TEST(DLPack, TheOperatorsTakeWhatComesIn) {
  Foreign q, k, v, out;
  OpContext context = OpContext::create({1, ""}).value();
  const auto view = [](Foreign& from) { return from_dlpack(from.tensor).value(); };
  ASSERT_TRUE(attention(context, view(q), view(k), view(v), {}, view(out)).ok());
  for (size_t i = 0; i < 24; ++i) EXPECT_EQ(out.memory[i], 0.5f);
}

}  // namespace
}  // namespace kvass
