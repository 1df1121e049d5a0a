// Values of flags: none that is empty, no number that is none or out of range, and no flag that nothing honours.
#include "cli/values.h"

#include "cli/test_files.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

TEST(Values, AnEmptyOneIsRefusedWhereItMeansNothing) {
  for (const char* flag : {"--save", "--resume", "--stop", "--weights", "--pages", "-n", "-t", "--seed", "--temp",
                           "--top-k", "--kv", "-c", "-f", "--config"})
    expect_refused(kvass({"run", tiny(), flag, ""}), 2, {"expected a", "got ''"});
  for (const char* flag : {"--template-file", "--tools", "--save", "--stop"})
    expect_refused(kvass({"chat", tiny(), flag, ""}), 2, {flag, "expected a value"});
  for (const char* flag : {"--output-dir", "--temperature", "--language"})
    expect_refused(kvass({"transcribe", "a.wav", flag, ""}), 2, {flag, "expected a value"});
  for (const char* flag : {"--trace", "-p", "-n", "-d"})
    expect_refused(kvass({"bench", tiny(), flag, ""}), 2, {flag, "expected a"});
  expect_refused(kvass({"run", ""}), 2, {"expected a value"});
  EXPECT_EQ(kvass({"run", tiny(), "-p", "", "-n", "1"}).code, kvass({"run", tiny(), "-n", "1"}).code);
}

TEST(Values, ANumberIsOneAndInRange) {
  expect_refused(kvass({"run", tiny(), "--seed", "-1"}), 2, {"--seed", "from 0 to 2^64 - 1", "'-1'"});
  expect_refused(kvass({"run", tiny(), "--seed", "18446744073709551616"}), 2, {"--seed"});
  EXPECT_EQ(kvass({"run", tiny(), "-p", "a", "-n", "1", "--seed", "18446744073709551615"}).code, 0);
  for (const char* number : {"99999999999999999999", "1x", "0x10", "1.5", " 1", "1e3"}) {
    expect_refused(kvass({"run", tiny(), "-n", number}), 2, {"--tokens", "a whole number"});
    expect_refused(kvass({"run", tiny(), "--save", "x", "--save-every", number}), 2,
                   {"--save-every", "a whole number"});
  }
  for (const char* number : {"nan", "x", "0,5"})
    expect_refused(kvass({"run", tiny(), "--temp", number}), 2, {"a number"});
  expect_refused(kvass({"run", tiny(), "--repeat-last-n", "99999999999"}), 2, {"in its range", "'99999999999'"});
  expect_refused(kvass({"run", tiny(), "--pin=7"}), 2, {"true or false"});
  expect_refused(kvass({"inspect", tiny(), "--mask", "-1"}), 2, {"a position from 0 on"});
  write_file(path_of("seed.yaml"), "tokens: \"\"\n");
  expect_refused(kvass({"run", tiny(), "--config", path_of("seed.yaml")}), 1, {"seed.yaml:1", "a whole number"});
}

TEST(Values, AFlagThatNothingHonoursIsRefused) {
  expect_refused(kvass({"run", tiny(), "--sequences", "2"}), 1, {"--prompts"});
  expect_refused(kvass({"plan", "--layers", "2", "--kv-heads", "1", "--head-dim", "64", "--weights", "q8_0"}), 1,
                 {"--weights", "bare layers"});
  expect_refused(kvass({"tokenize", tiny(), "--decode", "--bos"}), 2);
  expect_refused(kvass({"bench", tiny(), "-c", "4", "-p", "64", "-n", "0", "-r", "1"}), 1, {"-c", "64", "got 4"});
  expect_refused(kvass({"run", tiny(), "--save", "-", "-n", "1"}), 1, {"--save", "stdout itself"});
  expect_refused(kvass({"run", tiny(), "--save", std::string(219, 'x'), "-n", "1"}), 1, {"218 bytes", "219"});
}

TEST(Values, APictureOrATraceReplacesNoOtherFile) {
  const std::string model = read_file(tiny());
  expect_refused(kvass({"bench", tiny(), "-p", "4", "-n", "0", "-r", "1", "--trace", tiny()}), 1, {"traces"});
  EXPECT_EQ(read_file(tiny()), model);
  const std::string file = path_of("trace.json");
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(kvass({"bench", tiny(), "-p", "4", "-n", "0", "-r", "1", "--trace", file}).code, 0)
        << "a trace may be replaced";
  EXPECT_TRUE(read_file(file).starts_with("{\"displayTimeUnit\""));
}

}  // namespace
}  // namespace kvass
