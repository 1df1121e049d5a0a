// Messages of the library as the command line shows them, and the exit codes that follow from what went wrong.
#include "cli/fields.h"

#include "app/stream_options.h"
#include "cli/test_files.h"
#include "effort.h"
#include "kvass/layout.h"
#include "ops/sample/sample.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

TEST(Fields, EachHasOneRowWithAFlagOrAWord) {
  for (const FieldFlag& row : kFieldFlags) {
    EXPECT_EQ(&kFieldFlags[find_field(row.field)], &row) << row.field;
    EXPECT_NE(row.names.empty(), row.word.empty()) << row.field;
    EXPECT_NE(flag_word(row.field), "") << row.field;
    EXPECT_EQ(flag_word(row.field).find('.'), std::string_view::npos) << row.field;
  }
  EXPECT_EQ(flag_word("StreamOptions.context"), "--context");
  EXPECT_EQ(flag_word("CacheOptions.context"), "--context");
  EXPECT_EQ(flag_word("StreamOptions.contexts"), "");
  EXPECT_EQ(flags_of("StreamOptions.context"), "--context,--max-context-len,-c");
  EXPECT_EQ(flag_of("GenerateOptions.max_tokens"), "-n");
}

TEST(Fields, AFlagIsShownByTheNameThatWasGiven) {
  const auto shown = [](const std::vector<std::string>& given) {
    return with_flags("CacheOptions.context minus StreamOptions.chunk", given);
  };
  EXPECT_EQ(shown({}), "--context minus --chunk");
  EXPECT_EQ(shown({"plan", "--max-context-len", "8", "--input-len=8"}), "--max-context-len minus --input-len");
  EXPECT_EQ(shown({"plan", "--max-context-length", "8", "--chunk", "--input-lens"}), "--context minus --chunk");
  EXPECT_EQ(with_flags("BenchOptions.batches", {{"--batch=3"}}), "--batch");
}

TEST(Fields, AMessageOfTheLibraryIsShownWithFlags) {
  SampleOptions sampling;
  sampling.top_p = 2.0f;
  EXPECT_EQ(with_flags(validate(sampling).message()),
            "--top-p: expected a probability above 0 and at most 1, got 2.000000");
  StreamOptions stream;
  stream.endless = true;
  stream.context = 4;
  EXPECT_EQ(with_flags(resolve_caches(stream, 100).status().message()),
            "--context: expected more than 4 tokens with --endless, got 4");
  EXPECT_EQ(with_flags(Layout::full(20).value().check_extend(20, 20, 1).message()),
            "cache full: expected at most 20 tokens, got 21; raise --context, or stream without end with "
            "--attention-sink S,W (or --endless)");
}

TEST(ExitCodes, FailuresAreOneAndASignalIsShownAsShellsDo) {
  EXPECT_EQ(kvass({"run", "/nowhere", "-p", "the"}).code, 1);                           // io
  EXPECT_EQ(kvass({"run", tiny(), "-p", "the", "--context", "2", "-n", "9"}).code, 1);  // cache_full
  EXPECT_EQ(kvass({"run", tiny(), "-p", "the", "--device", "rocm"}).code, 1);           // unsupported
  EXPECT_EQ(kvass({"run", tiny(), "--nonsense"}).code, 2);
  for (const int number : {SIGINT, SIGTERM}) {
    Running verify({"verify", tiny(), "--tokens", "4000", "-t", "1"});
    ASSERT_TRUE(verify.read(10)) << verify.err();  // its first line; from then on it steps
    verify.signal(number);
    EXPECT_EQ(verify.end(), 128 + number) << verify.err();
    EXPECT_TRUE(verify.err().starts_with("kvass: verify: interrupted after ")) << verify.err();
  }
}

TEST(ExitCodes, OutOfMemorySaysWhatForAndHowManyBytes) {
  if (kSanitized) GTEST_SKIP() << "the sanitizers map more than any limit";
  const Finished done = kvass({"run", tiny(), "-p", "the", "-n", "1", "--context", "8388608"}, "", rlim_t{1} << 30);
  EXPECT_EQ(done.code, 1);
  EXPECT_TRUE(has(done.err, "kvass: caches: expected ") &&
              has(done.err, " bytes of memory, got Cannot allocate memory"))
      << done.err;
}

}  // namespace
}  // namespace kvass
