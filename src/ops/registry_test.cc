#include "ops/registry.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "device/runtime.h"

namespace kvass {
namespace {

#if defined(__x86_64__)
constexpr CpuFeatures kOld, kMiddle{.avx2 = true}, kNew{.avx2 = true, .avx512vnni = true};

TEST(Registry, TheBestAvailableBackendIsTaken) {
  EXPECT_EQ(get_backend("attention", Device::cpu, {}, kOld).value().name, "reference");
  EXPECT_EQ(get_backend("attention", Device::cpu, {}, kMiddle).value().name, "avx2");
  EXPECT_EQ(get_backend("attention", Device::cpu, {}, kNew).value().name, "avx512");
  EXPECT_EQ(get_backend("update_cross_attn_cache", Device::cpu, {}, kNew).value().name, "reference");
}

TEST(Registry, ArgumentBeatsListBeatsEnvironmentBeatsInstructionSet) {
  const auto name = [](const BackendChoice& choice) {
    return get_backend("attention", Device::cpu, choice, kNew).value().name;
  };
  EXPECT_EQ(name({"", "", "", "scalar"}), "reference");
  EXPECT_EQ(name({"", "", "", "avx2"}), "avx2");
  EXPECT_EQ(name({"", "", "kv_cache_attention=avx2,attention=avx512", "avx2"}), "avx512");
  EXPECT_EQ(name({"", "attention=avx2", "attention=avx512", "scalar"}), "avx2");
  EXPECT_EQ(name({"reference", "attention=avx2", "attention=avx512", "avx512"}), "reference");
  EXPECT_EQ(name({"", "", "alias=reference", ""}), "avx512");
  EXPECT_EQ(get_backend("alias", Device::cpu, {"", "", "", "avx2"}, kNew).value().name, "reference");
}

TEST(Registry, WhatIsNotThereIsAnErrorThatSaysWhy) {
  const auto message = [](std::string_view op, Device device, const BackendChoice& choice) {
    return get_backend(op, device, choice, kMiddle).status().message();
  };
  EXPECT_EQ(message("attention", Device::cuda, {}),
            "attention: expected a backend for cuda, got cuda_exact: not built, cuda_fast: not built");
  EXPECT_EQ(message("attention", Device::rocm, {}),
            "attention: expected a backend for rocm, got rocm_exact: not built, rocm_fast: not built");
  EXPECT_NE(message("attention", Device::cpu, {"avx512", "", "", ""}).find("this machine has no avx512"),
            std::string::npos);
  EXPECT_NE(message("attention", Device::cpu, {"fast", "", "", ""}).find("there are avx512, avx2"), std::string::npos);
  EXPECT_NE(message("atention", Device::cpu, {}).find("one of attention, "), std::string::npos);
  EXPECT_NE(message("attention", Device::cpu, {"", "", "", "mmx"}).find("KVASS_ISA"), std::string::npos);
  EXPECT_FALSE(check_backend_list("KVASS_BACKEND", "attention=fast").ok());
  EXPECT_FALSE(check_backend_list("KVASS_BACKEND", "attention").ok());
  EXPECT_TRUE(check_backend_list("KVASS_BACKEND", "attention=avx2,alias=reference").ok());
  EXPECT_FALSE(OpContext::create({1, "attention=fast"}).ok());
  EXPECT_FALSE(OpContext::create({-1, ""}).ok());
}

TEST(Registry, ADeviceThatIsThereIsExactUnlessItsFastBackendIsNamed) {
  MachineFeatures with_cuda = kMiddle;
  with_cuda.cuda = "";
  const auto name = [&](std::string_view op, Device device, const BackendChoice& choice) {
    return std::string(get_backend(op, device, choice, with_cuda).value().name);
  };
  EXPECT_EQ(name("attention", Device::cuda, {}), "cuda_exact");
  EXPECT_EQ(name("attention", Device::cuda, {"cuda_fast", "", "", ""}), "cuda_fast");
  EXPECT_EQ(name("attention_backward", Device::cuda, {}), "cuda_exact");
  const BackendChoice both{"", "attention=cuda_fast,attention=reference", "", ""};
  EXPECT_EQ(name("attention", Device::cuda, both), "cuda_fast") << "an entry is for the device that has such a backend";
  EXPECT_EQ(name("attention", Device::cpu, both), "reference");
  EXPECT_FALSE(get_backend("attention_backward", Device::cuda, {"cuda_fast", "", "", ""}, with_cuda).ok());
  with_cuda.cuda = "no device: the driver's words";
  const Status status = get_backend("attention", Device::cuda, {}, with_cuda).status();
  EXPECT_NE(status.message().find("cuda_exact: no device: the driver's words"), std::string::npos) << status.message();
}
#elif defined(__aarch64__)
TEST(Registry, TheBestAvailableBackendIsTaken) {
  constexpr CpuFeatures kOld{.neon = true}, kMiddle{.neon = true, .dotprod = true},
      kNew{.neon = true, .dotprod = true, .i8mm = true};
  EXPECT_EQ(get_backend("attention", Device::cpu, {}, kOld).value().name, "neon");
  EXPECT_EQ(get_backend("attention", Device::cpu, {}, kMiddle).value().name, "dotprod");
  EXPECT_EQ(get_backend("attention", Device::cpu, {}, kNew).value().name, "i8mm");
  EXPECT_EQ(get_backend("attention", Device::cpu, {"", "", "", "dotprod"}, kNew).value().name, "dotprod");
  EXPECT_FALSE(get_backend("attention", Device::cpu, {"i8mm", "", "", ""}, kMiddle).ok());
}
#endif

TEST(Registry, EveryOperatorHasAReferenceAndARowForEachDevice) {
  const std::vector<Backend> rows = list_backends();
  std::set<std::string_view> names;
  for (const Backend& row : rows) names.insert(row.op);
  EXPECT_GE(names.size(), 6u);
  for (const std::string_view op : names) {
    const auto has = [&](Device device, std::string_view name, bool available) {
      return std::any_of(rows.begin(), rows.end(), [&](const Backend& row) {
        return row.op == op && row.device == device && row.name == name && row.available == available;
      });
    };
    EXPECT_TRUE(has(Device::cpu, "reference", true)) << op;
    for (const auto& [device, row] : {std::pair{Device::cuda, "cuda_exact"}, std::pair{Device::rocm, "rocm_exact"}}) {
      EXPECT_TRUE(has(device, row, why_no_device(device).empty())) << op;
    }
  }
  for (const Backend& row : rows) EXPECT_EQ(row.available, row.reason.empty()) << row.op << " " << row.name;
}

}  // namespace
}  // namespace kvass
