// `kvass verify` on the real model: about 300 tokens (32 under a sanitizer). With KVASS_LONG also 1,500 tokens, with
// which its windows of 512 wrap, and the scalar kernels.
#include "app/verify.h"
#include "golden_model.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

TEST(VerifyGemma, EveryCaseIsIdentical) {
  KVASS_NEEDS_MODEL();
  const OpenModel& model = golden_model(Math::a16);
  VerifyInput input;
  input.engine = model.engine;
  input.ids = verify_text(*model.tokenizer, long_tests() ? 1500 : effort(300, 32)).value();
  input.threads = 2;
  std::vector<VerifyCase> cases = verify_cases(input);
  if (!long_tests()) {
    std::erase_if(cases, [](const VerifyCase& one) { return one.name.find("scalar") != std::string::npos; });
  }
  const std::atomic<bool> cancel{false};
  const Result<std::vector<VerifyRow>> rows = verify(
      input, cases,
      [](const VerifyRow& row) {
        std::printf("measured: %016llx %s\n", static_cast<unsigned long long>(row.checksum), row.name.c_str());
        std::fflush(stdout);
      },
      cancel);
  ASSERT_TRUE(rows.ok()) << rows.status().message();
  EXPECT_GE(rows->size(), 18u);
  for (const VerifyRow& row : rows.value()) EXPECT_TRUE(row.identical) << row.name << ": " << row.first_difference;
}

}  // namespace
}  // namespace kvass
