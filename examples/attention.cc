// Attention on tensors of your own: attention. Two texts are packed into one row, and the second is run by itself: the
// same bits. Then the second goes on for a token over the keys that it has, as a cache would.
#include <kvass/ops.h>

#include <cstdio>
#include <cstring>
#include <vector>

using kvass::Tensor;

constexpr int64_t kHeads = 2, kKvHeads = 1, kFirst = 3, kSecond = 5, kAll = kFirst + kSecond, kHeadDim = 16;

static Tensor tensor(std::vector<float>& data, int64_t heads, int64_t rows) {
  data.resize(static_cast<size_t>(heads * rows * kHeadDim));
  return Tensor(data.data(), kvass::DType::f32, {1, heads, rows, kHeadDim});
}

static Tensor filled(std::vector<float>& data, int64_t heads, int seed) {
  const Tensor view = tensor(data, heads, kAll);
  for (int i = 0; i < static_cast<int>(data.size()); ++i) {
    data[static_cast<size_t>(i)] = static_cast<float>((i * 37 + seed * 11) % 101) / 101.0f - 0.5f;
  }
  return view;
}

static kvass::Result<bool> run() {
  KVASS_ASSIGN_OR_RETURN(kvass::OpContext context, kvass::OpContext::create());
  std::vector<float> q_data, k_data, v_data, packed, alone, next;
  const Tensor q = filled(q_data, kHeads, 1), k = filled(k_data, kKvHeads, 2), v = filled(v_data, kKvHeads, 3);

  const int64_t cu_seqlens[] = {0, kFirst, kAll};
  kvass::AttentionOptions documents;
  documents.cu_seqlens_q = cu_seqlens;  // of the keys too: there are as many
  KVASS_RETURN_IF_ERROR(kvass::attention(context, q, k, v, documents, tensor(packed, kHeads, kAll)));

  const Tensor q2 = q.slice(2, kFirst, kAll), k2 = k.slice(2, kFirst, kAll), v2 = v.slice(2, kFirst, kAll);
  KVASS_RETURN_IF_ERROR(kvass::attention(context, q2, k2, v2, {}, tensor(alone, kHeads, kSecond)));

  const auto cached = [](const Tensor& t) { return t.slice(2, 0, kSecond - 1); };
  const auto last = [](const Tensor& t) { return t.slice(2, kSecond - 1, kSecond); };
  KVASS_RETURN_IF_ERROR(kvass::kv_cache_attention(context, last(q2), {cached(k2), cached(v2), last(k2), last(v2)}, {},
                                                  tensor(next, kHeads, 1)));

  bool same = true;
  for (int64_t h = 0; h < kHeads; ++h) {
    const float* second = alone.data() + h * kSecond * kHeadDim;
    const float* in_row = packed.data() + (h * kAll + kFirst) * kHeadDim;
    same &= std::memcmp(in_row, second, kSecond * kHeadDim * sizeof(float)) == 0;
    same &= std::memcmp(next.data() + h * kHeadDim, second + (kSecond - 1) * kHeadDim, kHeadDim * sizeof(float)) == 0;
  }
  std::printf("%.6f %.6f %s\n", static_cast<double>(alone[0]), static_cast<double>(next[0]),
              same ? "same bits" : "other bits");
  return same;
}

int main() {
  const kvass::Result<bool> same = run();
  if (!same.ok()) std::fprintf(stderr, "%s\n", same.status().message().c_str());
  return same.ok() && same.value() ? 0 : 1;
}
