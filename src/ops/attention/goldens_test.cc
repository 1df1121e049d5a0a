// The attention goldens: float64 results of an independent implementation. The goldens' README.md has their rules and
// tolerances.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <tuple>

#include "ops/attention/test_device.h"
#include "ops/attention/test_stream.h"

namespace kvass {
namespace {

struct Golden {
  nlohmann::json header;
  std::string bytes;  // the data part of the file

  template <class T>
  const T* at(const std::string& name) const {
    return reinterpret_cast<const T*>(bytes.data() + header.at(name).at("data_offsets").at(0).get<size_t>());
  }
  std::vector<float> floats(const std::string& name, DType dtype) const {
    const size_t begin = header.at(name).at("data_offsets").at(0);
    const size_t end = header.at(name).at("data_offsets").at(1);
    std::vector<float> result((end - begin) / dtype_bytes(dtype));
    for (size_t i = 0; i < result.size(); ++i) {
      if (dtype == DType::f32) std::memcpy(&result[i], bytes.data() + begin + 4 * i, 4);
      uint16_t half;
      std::memcpy(&half, bytes.data() + begin + 2 * i, 2);
      if (dtype == DType::f16) result[i] = f16_to_float(half);
      if (dtype == DType::bf16) result[i] = bf16_to_float(half);
    }
    return result;
  }
};

// The largest error of a case over all elements, relative to the largest magnitude of the golden.
double peak_relative_error(const nlohmann::json& info, const Golden& golden, Isa isa) {
  const std::string name = info.at("name");
  const auto number = [&](const char* key) { return info.at(key).get<int64_t>(); };
  const auto real = [&](const char* key) { return info.at(key).is_null() ? 0.0f : info.at(key).get<float>(); };
  const int64_t batch = number("B"), heads = number("Hq"), kv_heads = number("Hkv"), rows = number("Sq");
  const int64_t keys = number("Skv"), head_dim = number("d"), sinks = number("sink");
  const int64_t window = info.at("window").is_null() ? 0 : number("window");
  const DType dtype = info.at("dtype") == "f32" ? DType::f32 : info.at("dtype") == "f16" ? DType::f16 : DType::bf16;
  const std::vector<float> q = golden.floats(name + "/q", dtype);
  const std::vector<float> k = golden.floats(name + "/k", dtype);
  const std::vector<float> v = golden.floats(name + "/v", dtype);
  const TileShape shape{dtype, kv_heads, head_dim};

  std::vector<TestCache> caches;
  std::vector<AttentionRun> runs;
  std::vector<RowVisibility> visible(static_cast<size_t>(batch * rows));
  std::vector<std::vector<uint64_t>> valid;
  caches.reserve(static_cast<size_t>(batch));
  valid.reserve(static_cast<size_t>(2 * batch));
  for (int64_t b = 0; b < batch; ++b) {
    TestCache& cache = caches.emplace_back(shape, sinks, (keys + kTileKeys) / kTileKeys);
    AttentionRun run{b * rows, rows, cache.sink(), cache.ring(), visible.data() + b * rows};
    std::vector<uint64_t>& sink_valid = valid.emplace_back(static_cast<size_t>(run.sink.tiles + 1));
    std::vector<uint64_t>& body_valid = valid.emplace_back(static_cast<size_t>(run.body.tiles));
    for (int64_t j = 0; j < keys; ++j) {
      std::vector<float> key, value;
      for (int64_t head = 0; head < kv_heads; ++head) {
        const int64_t at = ((b * kv_heads + head) * keys + j) * head_dim;
        key.insert(key.end(), k.begin() + at, k.begin() + at + head_dim);
        value.insert(value.end(), v.begin() + at, v.begin() + at + head_dim);
      }
      cache.write(j, key.data(), value.data());
      if (!info.at("key_padding_mask") || golden.at<uint8_t>(name + "/key_padding_mask")[b * keys + j] != 0) {
        const int64_t offset = j < sinks ? j : j - sinks;
        (j < sinks ? sink_valid : body_valid)[static_cast<size_t>(offset / 64)] |= uint64_t{1} << (offset % 64);
      }
    }
    if (info.at("key_padding_mask")) {
      run.sink_valid = sink_valid.data();
      run.body_valid = body_valid.data();
    }
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t p = keys - rows + i;
      const int64_t end = info.at("causal") ? p + 1 : keys;
      RowVisibility& row = visible[static_cast<size_t>(b * rows + i)];
      row.sink_end = std::min(sinks, std::max<int64_t>(end, 0));
      row.begin = window == 0 ? sinks : std::max(sinks, p - window + 1);
      row.end = std::max(row.begin, end);
    }
    runs.push_back(run);
  }

  std::vector<float> logits;
  if (!info.at("sink_logits").is_null()) logits = info.at("sink_logits").get<std::vector<float>>();
  std::vector<float> rows_q(q.size()), out(q.size());
  const auto row_major = [&](int64_t b, int64_t h, int64_t i, int64_t d) {
    return static_cast<size_t>(((b * rows + i) * heads + h) * head_dim + d);
  };
  const auto for_all = [&](auto&& body) {
    size_t index = 0;
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t d = 0; d < head_dim; ++d) body(index++, row_major(b, h, i, d));
  };
  for_all([&](size_t head_major, size_t at) { rows_q[at] = q[head_major]; });

  AttentionArgs args;
  args.q = rows_q.data();
  args.out = out.data();
  args.q_stride = args.out_stride = heads * head_dim;
  args.heads = heads;
  args.shape = shape;
  args.scale = real("scale");
  args.softcap = real("softcap");
  args.sink_logits = logits.empty() ? nullptr : logits.data();
  args.runs = runs;
  ThreadPool pool(2);
  std::vector<uint8_t> scratch(attention_scratch_bytes(batch * rows, heads, kv_heads, head_dim, 2) + 64);
  attention(args, scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64), pool, isa);

  for (const auto& row : info.at("rows_without_keys")) {
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t d = 0; d < head_dim; ++d) {
        EXPECT_EQ(std::bit_cast<uint32_t>(out[row_major(row[0], h, row[1], d)]), 0u) << name;
      }
    }
  }
  const double* truth = golden.at<double>(name + "/out");
  double error = 0.0;
  double peak = 0.0;
  for_all([&](size_t head_major, size_t at) {
    const double difference = std::abs(out[at] - truth[head_major]);
    error = difference <= error ? error : difference;  // keeps NaN
    peak = std::max(peak, std::abs(truth[head_major]));
  });
  return peak == 0.0 ? error : error / peak;
}

class AttentionGoldens : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string folder = KVASS_GOLDENS_DIR;
    std::ifstream list(folder + "/attention.json");
    std::ifstream data(folder + "/attention.safetensors", std::ios::binary);
    if (!list || !data) GTEST_SKIP() << "no goldens at " << folder;
    uint64_t header_bytes = 0;
    data.read(reinterpret_cast<char*>(&header_bytes), 8);
    std::string header(header_bytes, ' ');
    data.read(header.data(), static_cast<std::streamsize>(header_bytes));
    golden_ = {nlohmann::json::parse(header), {std::istreambuf_iterator<char>(data), {}}};
    list_ = nlohmann::json::parse(list);
    EXPECT_GE(list_.at("cases").size(), 30u);
  }

  Golden golden_;
  nlohmann::json list_;
};

double tolerance_of(const std::string& name) {
  return name.find("large") != std::string::npos || name.find("softcap") != std::string::npos ? 2e-5 : 2e-6;
}

TEST_F(AttentionGoldens, EveryCaseIsWithinItsToleranceThroughACache) {
  for (Isa isa : available_isas()) {
    for (const auto& info : list_.at("cases")) {
      const std::string name = info.at("name");
      EXPECT_LE(peak_relative_error(info, golden_, isa), tolerance_of(name)) << name << " with " << isa_name(isa);
    }
  }
}

// A case as arguments of the operators.
struct OperatorCase {
  TestTensor q, k, v;
  AttentionOptions options;
  std::vector<float> sink_logits;
  int64_t cached = -1;  // number of keys passed as the cache; -1: plain attention

  OperatorCase(const nlohmann::json& info, const Golden& golden) {
    const std::string name = info.at("name");
    const auto number = [&](const char* key) { return info.at(key).is_null() ? 0 : info.at(key).get<int64_t>(); };
    const DType dtype = info.at("dtype") == "f32" ? DType::f32 : info.at("dtype") == "f16" ? DType::f16 : DType::bf16;
    const auto tensor = [&](const char* which, int64_t heads, int64_t rows) {
      return TestTensor(dtype, {number("B"), heads, rows, number("d")}, golden.at<uint8_t>(name + "/" + which));
    };
    q = tensor("q", number("Hq"), number("Sq"));
    k = tensor("k", number("Hkv"), number("Skv"));
    v = tensor("v", number("Hkv"), number("Skv"));
    options.causal = info.at("causal");
    options.window = number("window");
    options.sinks = number("sink");
    if (!info.at("scale_is_default")) options.scale = info.at("scale").get<float>();
    if (!info.at("softcap").is_null()) options.softcap = info.at("softcap").get<float>();
    if (!info.at("sink_logits").is_null()) sink_logits = info.at("sink_logits").get<std::vector<float>>();
    options.sink_logits = sink_logits;
    if (info.at("key_padding_mask")) {
      options.key_padding_mask = {golden.at<uint8_t>(name + "/key_padding_mask"), number("B"), number("Skv"),
                                  number("Skv"), 1};
    }
    if (!info.at("cache_len").is_null()) cached = number("cache_len");
  }

  Status run(OpContext& context, bool fp32, Tensor out) const {
    if (cached < 0) {
      return fp32 ? attention_fp32(context, q.view(), k.view(), v.view(), options, out)
                  : attention(context, q.view(), k.view(), v.view(), options, out);
    }
    const int64_t all = k.view().shape[2];
    const CachedKeys keys{k.view().slice(2, 0, cached), v.view().slice(2, 0, cached), k.view().slice(2, cached, all),
                          v.view().slice(2, cached, all)};
    return fp32 ? kv_cache_attention_fp32(context, q.view(), keys, options, out)
                : kv_cache_attention(context, q.view(), keys, options, out);
  }

  TestTensor run_on(const DeviceKernels& kernels, OpContext& context, bool fp32) const {
    DeviceTensor query(kernels, q), key(kernels, k), value(kernels, v);
    DeviceTensor out(kernels, TestTensor(fp32 ? DType::f32 : q.dtype(), q.shape()));
    testing::OnDevice<uint8_t> mask(kernels, mask_bytes());
    AttentionOptions there = options;
    if (there.key_padding_mask.data) there.key_padding_mask.data = mask.data();
    const int64_t all = k.shape()[2];
    const CachedKeys keys{key.view().slice(2, 0, std::max<int64_t>(cached, 0)),
                          value.view().slice(2, 0, std::max<int64_t>(cached, 0)),
                          key.view().slice(2, std::max<int64_t>(cached, 0), all),
                          value.view().slice(2, std::max<int64_t>(cached, 0), all)};
    Status status;
    if (cached < 0) {
      status = fp32 ? attention_fp32(context, query.view(), key.view(), value.view(), there, out.view())
                    : attention(context, query.view(), key.view(), value.view(), there, out.view());
    } else {
      status = fp32 ? kv_cache_attention_fp32(context, query.view(), keys, there, out.view())
                    : kv_cache_attention(context, query.view(), keys, there, out.view());
    }
    EXPECT_TRUE(status.ok()) << status.message();
    return out.read();
  }

  using Gradients = std::tuple<TestTensor, TestTensor, TestTensor>;
  Gradients backward(OpContext& context, const TestTensor& dout) const {
    TestTensor dq(DType::f32, q.shape()), dk(DType::f32, k.shape()), dv(DType::f32, k.shape());
    const Status status = attention_backward(context, q.view(), k.view(), v.view(), dout.view(), options,
                                             {dq.view(), dk.view(), dv.view()});
    EXPECT_TRUE(status.ok()) << status.message();
    return {dq, dk, dv};
  }
  Gradients backward_on(const DeviceKernels& kernels, OpContext& context, const TestTensor& dout) const {
    DeviceTensor query(kernels, q), key(kernels, k), value(kernels, v), cotangent(kernels, dout);
    DeviceTensor dq(kernels, TestTensor(DType::f32, q.shape())), dk(kernels, TestTensor(DType::f32, k.shape())),
        dv(kernels, TestTensor(DType::f32, k.shape()));
    testing::OnDevice<uint8_t> mask(kernels, mask_bytes());
    AttentionOptions there = options;
    if (there.key_padding_mask.data) there.key_padding_mask.data = mask.data();
    const Status status = attention_backward(context, query.view(), key.view(), value.view(), cotangent.view(), there,
                                             {dq.view(), dk.view(), dv.view()});
    EXPECT_TRUE(status.ok()) << status.message();
    return {dq.read(), dk.read(), dv.read()};
  }

 private:
  std::vector<uint8_t> mask_bytes() const {
    const KeyPaddingMask& mask = options.key_padding_mask;
    if (!mask.data) return {};
    return {mask.data, mask.data + mask.batch * mask.keys};
  }
};

TEST_F(AttentionGoldens, EveryCaseIsWithinItsToleranceThroughTheOperators) {
  for (const std::string& backend : test_backends()) {
    OpContext context = test_context(2, backend);
    for (const auto& info : list_.at("cases")) {
      const std::string name = info.at("name");
      SCOPED_TRACE(name + " with " + backend);
      OperatorCase one(info, golden_);
      const double* truth = golden_.at<double>(name + "/out");
      TestTensor wide(DType::f32, one.q.shape()), rounded(one.q.dtype(), one.q.shape());
      ASSERT_TRUE(one.run(context, true, wide.view()).ok());
      ASSERT_TRUE(one.run(context, false, rounded.view()).ok());
      EXPECT_LE(wide.peak_relative_error(truth), tolerance_of(name));
      const double loose = one.q.dtype() == DType::f32   ? tolerance_of(name)
                           : one.q.dtype() == DType::f16 ? 2e-3
                                                         : 1.6e-2;
      EXPECT_LE(rounded.peak_relative_error(truth), loose);
      EXPECT_TRUE(rounded.same_bits(wide.rounded(one.q.dtype()))) << "the result is not the float32 one, rounded once";
      for (const auto& row : info.at("rows_without_keys")) {
        for (int64_t h = 0; h < one.q.shape()[1]; ++h) {
          for (int64_t d = 0; d < one.q.shape()[3]; ++d) {
            EXPECT_EQ(std::bit_cast<uint32_t>(wide.at(row[0], h, row[1], d)), 0u);
          }
        }
      }
    }
  }
}

TEST_F(AttentionGoldens, EveryGradientIsWithinItsTolerance) {
  for (const std::string& backend : test_backends()) {
    OpContext context = test_context(2, backend);
    int64_t cases = 0;
    for (const auto& info : list_.at("cases")) {
      if (!info.at("grad")) continue;
      const std::string name = info.at("name");
      SCOPED_TRACE(name + " with " + backend);
      OperatorCase one(info, golden_);
      const TestTensor dout(DType::f32, one.q.shape(), golden_.at<uint8_t>(name + "/dout"));
      TestTensor dq(DType::f32, one.q.shape()), dk(DType::f32, one.k.shape()), dv(DType::f32, one.k.shape());
      const Status status = attention_backward(context, one.q.view(), one.k.view(), one.v.view(), dout.view(),
                                               one.options, {dq.view(), dk.view(), dv.view()});
      ASSERT_TRUE(status.ok()) << status.message();
      EXPECT_LE(dq.peak_relative_error(golden_.at<double>(name + "/dq")), 1e-5);
      EXPECT_LE(dk.peak_relative_error(golden_.at<double>(name + "/dk")), 1e-5);
      EXPECT_LE(dv.peak_relative_error(golden_.at<double>(name + "/dv")), 1e-5);
      ++cases;
    }
    EXPECT_GE(cases, 7);
  }
}

// Every case on every device, forward and backward, has the bits of the reference and so is within its tolerance.
TEST_F(AttentionGoldens, EveryCaseOnADeviceIsTheReferenceBitwise) {
  OpContext reference = test_context(1, "reference");
  for (const DeviceKernels* kernels : testing::test_devices()) {
    OpContext context = device_context(*kernels, "exact");
    for (const auto& info : list_.at("cases")) {
      SCOPED_TRACE(info.at("name").get<std::string>() + " on " + testing::name_of(kernels));
      const OperatorCase one(info, golden_);
      TestTensor wide(DType::f32, one.q.shape()), rounded(one.q.dtype(), one.q.shape());
      ASSERT_TRUE(one.run(reference, true, wide.view()).ok());
      ASSERT_TRUE(one.run(reference, false, rounded.view()).ok());
      EXPECT_TRUE(one.run_on(*kernels, context, true).same_bits(wide));
      EXPECT_TRUE(one.run_on(*kernels, context, false).same_bits(rounded));
      if (!info.at("grad")) continue;
      const TestTensor dout(DType::f32, one.q.shape(),
                            golden_.at<uint8_t>(info.at("name").get<std::string>() + "/dout"));
      const auto [dq, dk, dv] = one.backward(reference, dout);
      const auto [device_dq, device_dk, device_dv] = one.backward_on(*kernels, context, dout);
      EXPECT_TRUE(device_dq.same_bits(dq) && device_dk.same_bits(dk) && device_dv.same_bits(dv));
    }
  }
}

TEST_F(AttentionGoldens, EveryNegativeCaseIsAnErrorThatNamesTheArgument) {
  OpContext context = test_context(1, "");
  for (const auto& info : list_.at("negative")) {
    const std::string what = info.at("what");
    SCOPED_TRACE(what);
    const std::vector<float> memory(1 << 16, 1.0f);
    const auto tensor = [&](const char* name) {
      ConstTensor view(memory.data(), DType::f32, {1, 4, 2, 64});
      if (info.contains(name)) {
        const auto sizes = info.at(name).get<std::vector<int64_t>>();
        view.rank = static_cast<int>(sizes.size());
        int64_t stride = 1;
        for (size_t i = sizes.size(); i-- > 0; stride *= sizes[i]) {
          view.shape[i] = sizes[i];
          view.strides[i] = stride;
        }
      }
      if (info.contains(std::string(name) + "_dtype") && info.at(std::string(name) + "_dtype") == "f16") {
        view.dtype = DType::f16;
      }
      return view;
    };
    TestTensor out(DType::f32, {1, 4, 2, 64});
    const TestTensor before = out;
    Status status;
    if (info.at("op") == "attention") {
      AttentionOptions options;
      std::vector<uint8_t> mask(64, 1);
      if (info.contains("key_padding_mask")) {
        options.key_padding_mask = {mask.data(), info.at("key_padding_mask")[0], info.at("key_padding_mask")[1], 8, 1};
      }
      status = attention(context, tensor("q"), tensor("k"), tensor("v"), options, out.view());
    } else {
      const CachedKeys keys{tensor("k_cache"), tensor("v_cache"), tensor("k_new"), tensor("v_new")};
      status = kv_cache_attention(context, tensor("q"), keys, {}, out.view());
    }
    ASSERT_FALSE(status.ok());
    EXPECT_NE(status.message().find("expected"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("got"), std::string::npos) << status.message();
    if (what.find("both numbers") != std::string::npos) {
      EXPECT_NE(status.message().find("3 rows of q"), std::string::npos) << status.message();
      EXPECT_NE(status.message().find("2 of k_new"), std::string::npos) << status.message();
    }
    EXPECT_TRUE(out.same_bits(before)) << "something was written";
  }
}

}  // namespace
}  // namespace kvass
