// Opening a model file.
#include "app/open.h"

#include <gtest/gtest.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <filesystem>

#include "app/convert.h"
#include "app/export.h"
#include "app/plan.h"
#include "app/test_jobs.h"
#include "scratch.h"
#include "session/snapshot.h"
#include "tiny_speech.h"

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

TEST_F(Opens, JobsOfManyBytesSayHowFarTheyAre) {
  const Scratch scratch;
  const std::string gguf = scratch.file("model.gguf"), kvp = scratch.file("model.kvp");
  ASSERT_TRUE(TinyModel().writer().write(gguf).ok());
  std::vector<size_t> done;
  size_t all = 0;
  const OnProgress watch = [&](size_t now, size_t total) {
    done.push_back(now);
    all = total;
  };
  const auto whole = [&](const char* job) {
    EXPECT_GT(done.size(), 2u) << job;
    EXPECT_TRUE(std::is_sorted(done.begin(), done.end())) << job;
    EXPECT_EQ(std::adjacent_find(done.begin(), done.end()), done.end()) << job << ": the end comes once";
    EXPECT_TRUE(!done.empty() && done.back() == all) << job;
    done.clear();
  };
  ExportOptions exported;
  exported.out = kvp;
  exported.stream.context = 100;
  std::vector<size_t> written;
  ASSERT_TRUE(export_program(ModelFile::open(gguf).value(), exported, watch, [&](size_t now, size_t) {
                written.push_back(now);
              }).ok());
  whole("load");
  EXPECT_EQ(written.back(), std::filesystem::file_size(kvp));
  WeightOptions huge;
  huge.pages = Pages::huge;
  huge.on_loaded = watch;
  ASSERT_TRUE(open_model(kvp, Math::f32, 1, huge).ok());
  whole("huge pages");
  ConvertOptions converted;
  converted.model = gguf;
  converted.out = scratch.file("copy.gguf");
  converted.on_written = watch;
  ASSERT_TRUE(convert_model(converted).ok());
  whole("convert");
}

// How often a file was opened while the object lives.
class Openings {
 public:
  explicit Openings(const std::string& path) : watch_(inotify_init1(IN_NONBLOCK)) {
    EXPECT_GE(inotify_add_watch(watch_, path.c_str(), IN_OPEN), 0);
  }
  ~Openings() { close(watch_); }
  int64_t count() const {
    inotify_event events[64];
    const ssize_t bytes = read(watch_, events, sizeof events);  // those of a file have no name
    return bytes < 0 ? 0 : bytes / static_cast<ssize_t>(sizeof events[0]);
  }

 private:
  int watch_;
};

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
    const Openings openings(path);
    ModelFile file = ModelFile::open(path).value();
    EXPECT_EQ(openings.count(), 1) << path;
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

void expect_changed(const Status& status, const std::string& path, const std::string& words) {
  EXPECT_EQ(status.code(), StatusCode::io) << status.message();
  expect_words(status.message(), {path.c_str(), words.c_str()});
}

void cut(const std::string& path, size_t bytes) { std::filesystem::resize_file(path, bytes); }

TEST_F(Opens, AModelThatIsCutOffWhileItIsLoadedIsAnError) {
  const Scratch scratch;
  const std::string gguf = scratch.file("model.gguf");
  ASSERT_TRUE(TinyModel().writer().write(gguf).ok());
  for (const size_t bytes : {std::filesystem::file_size(gguf) - 1, std::filesystem::file_size(gguf) / 2, size_t{0}}) {
    ASSERT_TRUE(TinyModel().writer().write(gguf).ok());
    ModelFile file = ModelFile::open(gguf).value();
    cut(gguf, bytes);
    expect_changed(open_model(std::move(file), Math::f32, 2).status(), gguf,
                   "cut off at offset " + std::to_string(bytes));
  }
  const TinySpeech speech;
  const std::string ct2 = scratch.file("ct2"), hugging_face = scratch.file("hf"), ggml = scratch.file("ggml.bin");
  speech.write_ct2(ct2);
  speech.write_hugging_face(hugging_face);
  speech.write_ggml(ggml);
  for (const auto& [model, file_name] :
       {std::pair(ct2, ct2 + "/model.bin"), std::pair(hugging_face, hugging_face + "/model.safetensors"),
        std::pair(ggml, ggml)}) {
    ModelFile file = ModelFile::open(model).value();
    cut(file_name, 5000);
    expect_changed(open_speech_model(std::move(file), Math::f32, 2).status(), file_name, "cut off at offset 5000");
  }
}

class CutOff : public Jobs {
 protected:
  void SetUp() override {
    ExportOptions exported;
    exported.model = path_;
    exported.out = kvp_;
    exported.stream.context = 100;
    ASSERT_TRUE(export_program(exported).ok());
    bytes_ = std::filesystem::file_size(kvp_);
  }
  Result<DecodeResult> some_tokens(const OpenModel& model, OpenStream& stream) {
    return generate(
        model, stream, prompt(5, 8), [](std::string_view) { return true; }, never_);
  }

  Scratch scratch_;
  std::string kvp_ = scratch_.file("model.kvp");
  size_t bytes_ = 0;
};

// The weights of a .kvp are its pages. One byte less moves no page away: only the size says it.
TEST_F(CutOff, ARunEndsInAnErrorAndItsStreamIsAsBefore) {
  const std::string whole(scratch_.file("whole"));
  std::filesystem::copy_file(kvp_, whole);
  for (const size_t bytes : {bytes_ - 1, bytes_ / 2, size_t{4096}}) {
    std::filesystem::copy_file(whole, kvp_, std::filesystem::copy_options::overwrite_existing);
    const OpenModel model = open_model(kvp_, Math::a16, 2).value();
    OpenStream stream = open_stream(model, model.defaults, 1).value();
    ASSERT_TRUE(some_tokens(model, stream).ok());
    const int64_t length = stream.sequence->length();
    cut(kvp_, bytes);
    const std::string where = "cut off at offset " + std::to_string(bytes);
    expect_changed(some_tokens(model, stream).status(), kvp_, where);
    EXPECT_EQ(stream.sequence->length(), length);
    expect_changed(some_tokens(model, stream).status(), kvp_, where);
    expect_changed(save_snapshot(*stream.sequence, {}, scratch_.file("s")), kvp_, where);
    EXPECT_FALSE(std::filesystem::exists(scratch_.file("s")));
    OpenStream another = open_stream(*model_, {}, 1).value();
    EXPECT_TRUE(some_tokens(*model_, another).ok()) << "a model of another file";
  }
}

TEST_F(CutOff, CopiedWeightsDoNotMind) {
  WeightOptions huge;
  huge.pages = Pages::huge;
  const OpenModel model = open_model(kvp_, Math::a16, 2, huge).value();
  OpenStream stream = open_stream(model, model.defaults, 1).value();
  cut(kvp_, 4096);
  EXPECT_TRUE(some_tokens(model, stream).ok());
}

TEST_F(CutOff, CheckedAndExportedWeightsAreNot) {
  for (const bool check : {true, false}) {
    std::filesystem::remove(kvp_);
    SetUp();
    ModelFile file = ModelFile::open(kvp_).value();
    cut(kvp_, 8192);
    WeightOptions options;
    options.check = check;
    options.pages = check ? Pages::mapped : Pages::huge;
    expect_changed(open_model(std::move(file), Math::a16, 2, options).status(), kvp_, "cut off at offset 8192");
  }
}

// Between its two readings, by the checksum and into the caches, it becomes another: the stream holds nothing of it.
TEST_F(CutOff, ASnapshotThatChangesAfterItWasOpenedIsRefused) {
  OpenStream first = open_stream(*model_, {}, 1).value(), second = open_stream(*model_, {}, 1).value();
  ASSERT_TRUE(some_tokens(*model_, first).ok());
  const std::string path = scratch_.file("s");
  ASSERT_TRUE(save_snapshot(*first.sequence, {}, path).ok());
  const Snapshot snapshot = Snapshot::open(path).value();
  ASSERT_TRUE(snapshot.restore(*second.sequence).ok());
  const int64_t length = second.sequence->length();
  cut(path, std::filesystem::file_size(path) - 1);
  expect_changed(snapshot.restore(*second.sequence), path, "cut off at offset");
  EXPECT_EQ(second.sequence->length(), length);
}

}  // namespace
}  // namespace kvass
