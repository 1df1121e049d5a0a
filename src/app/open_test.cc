// Opening a model file.
#include "app/open.h"

#include <gtest/gtest.h>

#include "app/job_tests.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

class Opens : public Jobs {};

TEST_F(Opens, OpeningTellsWhatTheFileIs) {
  EXPECT_EQ(model_->family, "gemma3");
  EXPECT_EQ(model_->trained_context, 32768);
  EXPECT_EQ(model_->tokenizer->size(), 300);
  EXPECT_EQ(model_->tokenizer->decode(model_->tokenizer->encode("the and é\n")), "the and é\n");
  expect_words(refusal(open_model("/nowhere/model.gguf", Math::f32, 1)), {"/nowhere/model.gguf"});
  EXPECT_GT(peak_rss_bytes(), size_t{1} << 20);
}

}  // namespace
}  // namespace kvass
