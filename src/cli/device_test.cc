// --device: the same text from a device, and what is said where there is none.
#include "cli/test_files.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

// Whether the program under test has a device of this name here; otherwise why not.
std::string why_not(const std::string& device) {
  for (const json& row : parsed(kvass({"inspect", "--ops", "--json"}))) {
    if (row["op"] == "attention" && row["device"] == device) return row["reason"].get<std::string>();
  }
  return "no row";
}

TEST(DeviceFlag, SaysWhatIsWrong) {
  for (const Arguments& command : {Arguments{"run"}, {"score", "-f", "-"}, {"verify"}, {"bench"}, {"chat"}, {"plan"}}) {
    expect_refused(kvass(with(command, {tiny(), "--device", "gpu"})), 1,
                   {"--device: expected cpu, cuda or rocm, got gpu"});
  }
  for (const std::string device : {"cuda", "rocm"}) {
    const std::string why = why_not(device);
    if (why.empty()) continue;
    expect_refused(kvass({"run", tiny(), "-p", "the", "--device", device}), 1, {"--device " + device, why});
  }
}

TEST(DeviceFlag, APlanCountsADevicesTables) {
  const json here = parsed(kvass({"plan", tiny(), "--context", "64", "--json"}));
  const json there = parsed(kvass({"plan", tiny(), "--context", "64", "--device", "cuda", "--json"}));
  EXPECT_EQ(here["weight_bytes"], there["weight_bytes"]);
  EXPECT_EQ(here["allocated_bytes"], there["allocated_bytes"]);
  EXPECT_EQ(here["arena_peak_bytes"], there["arena_peak_bytes"]);
  EXPECT_NE(here["arena_bytes"], there["arena_bytes"]);
}

TEST(DeviceFlag, ADeviceWritesTheTextOfTheCpu) {
  for (const std::string device : {"cuda", "rocm"}) {
    if (!why_not(device).empty()) continue;
    const Arguments run = {"run", tiny(), "-p", "the and", "-n", "12", "--ignore-eos", "--json"};
    for (const Arguments& sampling :
         {Arguments{}, Arguments{"--temp", "1", "--seed", "3", "--repeat-penalty", "1.2"}}) {
      const json here = parsed(kvass(with(run, sampling)));
      const json there = parsed(kvass(with(with(run, sampling), {"--device", device})));
      EXPECT_EQ(here["ids"], there["ids"]);
      EXPECT_EQ(here["text"], there["text"]);
    }
    const json plan = parsed(kvass({"plan", tiny(), "--device", device, "--json"}));
    const json done = parsed(kvass(with(run, {"--device", device})));
    EXPECT_EQ(plan["arena_bytes"], done["stats"]["arena_bytes"]);
    EXPECT_EQ(plan["total_bytes"], done["stats"]["allocated_bytes"]);

    const std::string file = path_of("device.txt");
    write_file(file, "the and the and then the end of the rest");
    const Arguments score = {"score", tiny(), "-f", file, "--json"};
    EXPECT_EQ(parsed(kvass(score))["nll"], parsed(kvass(with(score, {"--device", device})))["nll"]);
    const json verified = parsed(kvass({"verify", tiny(), "--tokens", "40", "--device", device, "--json"}));
    EXPECT_TRUE(verified["identical"].get<bool>()) << verified;
    int rows = 0;
    for (const json& row : verified["rows"]) rows += has(row["case"].get<std::string>(), "on " + device) ? 1 : 0;
    EXPECT_GE(rows, 12);
  }
}

}  // namespace
}  // namespace kvass
