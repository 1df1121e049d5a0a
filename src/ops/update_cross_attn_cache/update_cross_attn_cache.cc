// update_cross_attn_cache (kvass/ops.h): a copy, so it has no kernels of its own.
#include <algorithm>
#include <cstring>

#include "ops/context.h"
#include "ops/views.h"

namespace kvass {
namespace {

constexpr std::string_view kOp = "update_cross_attn_cache";

Status check(const ConstTensor& value, const Tensor& cache) {
  const Argument from{kOp, "value", value};
  const Argument to{kOp, "cache", cache};
  KVASS_RETURN_IF_ERROR(from.check(4));
  KVASS_RETURN_IF_ERROR(to.check(4));
  KVASS_RETURN_IF_ERROR(from.check_device(cache.device));
  for (const size_t i : {size_t{0}, size_t{1}, size_t{3}}) {
    if (value.shape[i] != cache.shape[i]) {
      return from.bad("[B, H, S, D] with B, H and D of the cache, " + shape_text(cache));
    }
  }
  if (value.shape[2] > cache.shape[2]) {
    return from.bad("S of at most the cache's S_max = " + std::to_string(cache.shape[2]));
  }
  KVASS_RETURN_IF_ERROR(from.check_dtype(cache.dtype, "as the cache"));
  if (overlaps_itself(cache)) return to.bad("elements that do not overlap", "strides that make them");
  if (overlap(value, cache.slice(2, 0, value.shape[2]))) {
    return from.bad("memory apart from the cache", shape_text(value) + " that overlaps it");
  }
  return {};
}

template <class T>
void copy_row(const uint8_t* from, int64_t from_stride, int64_t count, uint8_t* to, int64_t to_stride) {
  if (from_stride == 1 && to_stride == 1) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(T));
    return;
  }
  for (int64_t i = 0; i < count; ++i)
    reinterpret_cast<T*>(to)[i * to_stride] = reinterpret_cast<const T*>(from)[i * from_stride];
}

Status copy_on_device(OpContext::State& state, const ConstTensor& value, const Tensor& cache) {
  KVASS_ASSIGN_OR_RETURN(OpContext::State::Remote* const remote, state.remote(cache.device));
  DeviceCopyParams params;
  params.from = value.data;
  params.to = cache.data;
  params.element_bytes = static_cast<int64_t>(dtype_bytes(value.dtype));
  std::copy(value.shape.begin(), value.shape.end(), params.shape);
  std::copy(value.strides.begin(), value.strides.end(), params.from_strides);
  std::copy(cache.strides.begin(), cache.strides.end(), params.to_strides);
  return remote->kernels->copy_tensor(params, state.stream);
}

}  // namespace

Result<Tensor> update_cross_attn_cache(OpContext& context, ConstTensor value, Tensor cache) {
  KVASS_RETURN_IF_ERROR(check(value, cache));
  KVASS_RETURN_IF_ERROR(check_context(context, kOp));
  OpContext::State& state = *context.state();
  const std::lock_guard lock(state.mutex);
  KVASS_RETURN_IF_ERROR(state.kernels(kOp, cache.device).status());
  if (cache.device != Device::cpu) {
    KVASS_RETURN_IF_ERROR(copy_on_device(state, value, cache));
    return cache;
  }
  const int64_t heads = value.shape[1];
  const auto copy = value.dtype == DType::f32 ? &copy_row<uint32_t> : &copy_row<uint16_t>;
  state.pool.run(value.shape[0] * heads, [&](int64_t i, int) {
    for (int64_t row = 0; row < value.shape[2]; ++row) {
      copy(element(value, i / heads, i % heads, row), value.strides[3], value.shape[3],
           const_cast<uint8_t*>(element(cache, i / heads, i % heads, row)), cache.strides[3]);
    }
  });
  return cache;
}

}  // namespace kvass
