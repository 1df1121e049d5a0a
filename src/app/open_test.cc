// Opening a model file.
#include "app/open.h"

#include <gtest/gtest.h>

#include "app/export.h"
#include "app/plan.h"
#include "app/test_jobs.h"
#include "scratch.h"

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

// A file that is gone after it was opened is planned and loaded all the same: nothing opens it a second time.
TEST_F(Opens, AFileIsOpenedOnceAndPlannedBeforeItIsLoaded) {
  const Scratch scratch;
  const std::string gguf = scratch.file("model.gguf"), kvp = scratch.file("model.kvp");
  ASSERT_TRUE(TinyModel().writer().write(gguf).ok());
  ExportOptions exported;
  exported.model = gguf;
  exported.out = kvp;
  exported.stream.context = 100;
  ASSERT_TRUE(export_program(exported).ok());
  for (const std::string& path : {gguf, kvp}) {
    ModelFile file = ModelFile::open(path).value();
    std::filesystem::remove(path);
    StreamOptions options = file.stream_options();
    EXPECT_EQ(options.context, path == kvp ? std::optional<int64_t>(100) : std::nullopt);
    options.threads = 1;
    options.memory_limit = 1000;
    expect_words(check_memory_limit(file, options, 1).message(),
                 {"StreamOptions.memory_limit", "1000", "no context fits"});
    options.memory_limit = size_t{1} << 30;
    ASSERT_TRUE(check_memory_limit(file, options, 1).ok());
    const MemoryPlan plan = PlannedModel::of(file)->plan(options, 1).value();
    const OpenModel model = open_model(std::move(file), options.arithmetic(), 1).value();
    OpenStream stream = open_stream(model, options, 1).value();
    EXPECT_EQ(plan_of(model, stream).total_bytes(), plan.total_bytes()) << path;
    DecodeOptions generation = prompt(5, 3);
    EXPECT_EQ(generate(
                  model, stream, generation, [](std::string_view) { return true; }, never_)
                  ->tokens,
              3);
  }
}

}  // namespace
}  // namespace kvass
