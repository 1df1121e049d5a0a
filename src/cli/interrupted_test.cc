// What signals, full devices, other writers and endless input do to a command: it says so, its exit code says so, and
// what was there before is there afterwards.
#include <poll.h>
#include <sndfile.h>
#include <sys/ioctl.h>

#include <chrono>
#include <thread>

#include "cli/test_files.h"
#include "effort.h"
#include "goldens.h"
#include "text/utf8.h"
#include "tiny_speech.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;
namespace fs = std::filesystem;

constexpr int kEnding[] = {SIGINT, SIGTERM, SIGHUP};

bool is_valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const Utf8Step step = utf8_step(text);
    if (step.state != Utf8Step::valid) return false;
    text.remove_prefix(step.length);
  }
  return true;
}

std::string folder(const char* name) {
  fs::create_directory(path_of(name));
  return path_of(name);
}
size_t files_in(const std::string& path) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(path), fs::directory_iterator()));
}

const std::string& speech() {
  static const std::string path = [] {
    TinySpeech().write_ct2(path_of("speech"));
    return path_of("speech");
  }();
  return path;
}

// Minutes of a sweep, which a tiny model takes a while for.
const std::string& recording() {
  static const std::string path = [] {
    SF_INFO info{};
    info.samplerate = 16000;
    info.channels = 1;
    info.format = SF_FORMAT_WAV | SF_FORMAT_PCM_16;
    SNDFILE* const file = sf_open(path_of("long.wav").c_str(), SFM_WRITE, &info);
    std::vector<int16_t> second(16000);
    for (int i = 0; i < 1800; ++i) {
      for (size_t at = 0; at < second.size(); ++at) second[at] = static_cast<int16_t>(at * at * 7919 % 20000);
      sf_writef_short(file, second.data(), 16000);
    }
    sf_close(file);
    return path_of("long.wav");
  }();
  return path;
}

TEST(Interrupted, ATranscriptAppearsWholeOrNotAtAll) {
  const std::string out = folder("transcripts");
  const std::vector<std::string> old = {out + "/long.txt", out + "/long.json"};
  for (const std::string& path : old) write_file(path, "complete");
  const Arguments arguments = {"transcribe",
                               recording(),
                               "--model",
                               speech(),
                               "-o",
                               out,
                               "-f",
                               "all",
                               "-t",
                               "1",
                               "--no-speech-threshold",
                               "none",
                               "--temperature-increment-on-fallback",
                               "0"};
  const auto expect_untouched = [&](const std::string& err) {
    EXPECT_EQ(files_in(out), old.size()) << err;
    for (const std::string& path : old) EXPECT_EQ(read_file(path), "complete") << err;
  };
  for (const int number : kEnding) {
    Running run(arguments);
    ASSERT_TRUE(run.read(10)) << run.err();  // its first line
    run.signal(number);
    EXPECT_EQ(run.end(), 128 + number) << run.err();
    EXPECT_TRUE(has(run.err(), "kvass: transcribe: interrupted after ") && has(run.err(), " of 1800.00 s of ") &&
                has(run.err(), "; nothing written"))
        << run.err();
    expect_untouched(run.err());
  }
  Running run(arguments);
  ASSERT_TRUE(run.read(10)) << run.err();
  run.close_output();
  EXPECT_EQ(run.end(), 1) << run.err();
  EXPECT_TRUE(has(run.err(), "kvass: stdout: expected a place to write to, got Broken pipe")) << run.err();
  expect_untouched(run.err());
}

TEST(Interrupted, ALoadOrAnExportThatASignalEndsLeavesNothing) {
  const char* const model = std::getenv("KVASS_MODEL");
  if (model == nullptr) GTEST_SKIP() << "set KVASS_MODEL";
  const std::string out = folder("exports");
  int ended = 0;
  for (int wait = 5; ended < 9 && wait < 2000; wait += 20) {
    Running run({"export", model, "-o", out + "/model.kvp", "--context", "64"});
    std::this_thread::sleep_for(std::chrono::milliseconds(wait));
    const int number = kEnding[ended % 3];
    run.signal(number);
    const int code = run.end();
    if (code == 0) break;
    if (code > 1000) continue;  // before its handlers were there
    EXPECT_EQ(code, 128 + number) << run.err();
    EXPECT_EQ(run.err(), "kvass: ended by a signal before its work was done\n");
    EXPECT_EQ(files_in(out), 0u) << "after " << wait << " ms";
    ++ended;
  }
  EXPECT_GT(ended, 3);
}

TEST(Interrupted, StdinThatIsReadIsAnInterruptAndNoBadFile) {
  for (const Arguments& arguments : std::vector<Arguments>{{"tokenize", tiny()},
                                                           {"run", tiny(), "-"},
                                                           {"score", tiny(), "-f", "-"},
                                                           {"run", tiny(), "--prompts", "-"},
                                                           {"transcribe", "-", "--model", speech()}}) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const int err = ::open(path_of("interrupted.err").c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    const pid_t child = start_kvass(arguments, {ends[0], err, err});
    ::close(ends[0]);
    ::close(err);
    // It has read what there is, and waits for more.
    const std::string some(60000, 'x');
    ASSERT_EQ(::write(ends[1], some.data(), some.size()), static_cast<ssize_t>(some.size()));
    for (int unread = 1; unread > 0; ::usleep(1000)) ASSERT_EQ(::ioctl(ends[1], FIONREAD, &unread), 0);
    ::usleep(20000);
    ::kill(child, SIGINT);
    EXPECT_EQ(wait_for(child), 128 + SIGINT) << arguments[0] << read_file(path_of("interrupted.err"));
    const std::string said = read_file(path_of("interrupted.err"));
    EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
    EXPECT_TRUE(has(said, "signal") || has(said, "interrupted")) << said;
    ::close(ends[1]);
  }
}

TEST(Interrupted, AHangUpSavesAsATerminationDoesUnlessItIsIgnored) {
  const std::string path = path_of("hangup");
  const Arguments stream = {"-p", "the", "--endless", "--context", "64", "--temp", "1"};
  Running run(with({"run", tiny(), "--save", path}, stream));
  ASSERT_TRUE(run.read(500));
  run.signal(SIGHUP);
  EXPECT_EQ(run.end(), 128 + SIGHUP);
  EXPECT_TRUE(has(run.err(), ", saved at position ")) << run.err();
  const Finished more = kvass({"run", tiny(), "--resume", path, "-n", "40", "--save", path, "-q"});
  const std::string text = run.out() + more.out;
  const Finished whole = kvass(with({"run", tiny(), "-n", "4000", "--save", path, "-q"}, stream));
  EXPECT_TRUE(whole.out.starts_with(text)) << text.size() << " of " << whole.out.size();
}

TEST(Interrupted, AConversationIsLeftInTheMiddleOfAPromptAndGoesOn) {
  const std::string model = tiny_talker("talker.gguf"), path = path_of("left.talk");
  std::string prompt;
  for (int i = 0; i < effort(20000, 2000); ++i) prompt += i % 7 == 0 ? "and " : "the ";
  prompt += "\n";
  const Arguments begin = {"chat", model, "--context", "64", "--chunk", "1", "-n", "30", "--save", path, "-t", "1"};
  const Finished whole = kvass(begin, prompt + "and\n");
  ASSERT_EQ(whole.code, 0) << whole.err;
  std::string said;
  // While the text becomes tokens a signal ends the process at once; how long that takes, the machine decides.
  for (int milliseconds = 30; milliseconds < 10'000; milliseconds *= 2) {
    fs::remove(path);
    const int in = ::open(path_of("turn.txt").c_str(), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
    ASSERT_EQ(::write(in, prompt.data(), prompt.size()), static_cast<ssize_t>(prompt.size()));
    ASSERT_EQ(::lseek(in, 0, SEEK_SET), 0);
    const int out = ::open(path_of("turn.out").c_str(), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
    const int err = ::open(path_of("interrupted.err").c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    const pid_t child = start_kvass(begin, {in, out, err});
    while (::lseek(in, 0, SEEK_CUR) < static_cast<off_t>(prompt.size())) ::usleep(1000);  // the turn is read
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    ::kill(child, SIGTERM);
    const int code = wait_for(child);
    for (const int stream : {in, out, err}) ::close(stream);
    said = read_file(path_of("interrupted.err"));
    ASSERT_EQ(code, 128 + SIGTERM) << said;
    if (!has(said, "ended by a signal before its work was done")) break;
  }
  EXPECT_TRUE(has(said, "interrupted after 1 turns, the last one not at its end")) << said;
  EXPECT_GT(parsed(kvass({"inspect", path, "--json"}))["metadata"]["pending_tokens"], 1);
  const Finished rest = kvass({"chat", model, "-n", "30", "--resume", path, "-t", "2"}, "and\n");
  EXPECT_EQ(rest.code, 0) << rest.err;
  EXPECT_TRUE(read_file(path_of("turn.out")) + rest.out == whole.out);
}

TEST(Writers, ASecondProcessThatWouldSaveOneStreamIsRefusedBeforeItBegins) {
  const std::string home = folder("saves"), path = home + "/stream";
  const Arguments stream = {"run", tiny(), "-p", "the", "--endless", "--context", "64", "--save", path};
  Running first(stream);
  ASSERT_TRUE(first.read(100));
  expect_refused(kvass(with(stream, {"-n", "5"})), 1, {path + ": expected one writer at a time", " while process "});
  expect_refused(kvass({"inspect", path, "--clean"}), 1, {"expected one writer at a time"});
  EXPECT_FALSE(fs::exists(path));
  first.signal(SIGTERM);
  EXPECT_EQ(first.end(), 128 + SIGTERM);
  EXPECT_EQ(files_in(home), 1u);
  Running killed(stream);
  ASSERT_TRUE(killed.read(100));
  killed.signal(SIGKILL);
  killed.end();
  write_file(path + ".tmp-" + std::string(32, '0'), "half");
  EXPECT_EQ(files_in(home), 3u) << "the stream, a lock and a temporary";
  const Finished cleaned = kvass({"inspect", path, "--clean"});
  EXPECT_EQ(cleaned.code, 0) << cleaned.err;
  EXPECT_EQ(cleaned.out, "removed " + path + ".tmp-" + std::string(32, '0') + "\n");
  EXPECT_EQ(files_in(home), 1u);
  EXPECT_EQ(kvass(with(stream, {"-n", "5"})).code, 0);
}

TEST(Writers, WhatIsNotOursIsNotReplaced) {
  const std::string model = path_of("precious.gguf"), text = path_of("notes.txt");
  fs::copy_file(tiny(), model, fs::copy_options::overwrite_existing);
  write_file(text, "notes");
  for (const std::string& path : {model, text}) {
    const std::string before = read_file(path);
    expect_refused(kvass({"run", tiny(), "-p", "the", "-n", "3", "--save", path}), 1,
                   {path + ": expected no file, or a snapshot to replace, got another file"});
    expect_refused(kvass({"export", tiny(), "-o", path, "--context", "64"}), 1, {"expected no file, or a .kvp file"});
    EXPECT_TRUE(read_file(path) == before);
  }
  const std::string real = path_of("real"), link = path_of("link");
  ASSERT_EQ(kvass({"run", tiny(), "-p", "the", "-n", "3", "--save", real}).code, 0);
  const std::string before = read_file(real);
  fs::create_symlink(real, link);
  ASSERT_EQ(kvass({"run", tiny(), "-p", "the", "-n", "9", "--save", link}).code, 0);
  EXPECT_TRUE(fs::is_symlink(link));
  EXPECT_FALSE(read_file(real) == before);
}

TEST(Output, AFullDeviceIsAFailureOfEveryCommand) {
  for (const Arguments& arguments : std::vector<Arguments>{{},
                                                           {"--help"},
                                                           {"--version"},
                                                           {"run", "--help"},
                                                           {"inspect", tiny()},
                                                           {"plan", tiny()},
                                                           {"inspect", "--ops"},
                                                           {"run", tiny(), "-p", "the", "-n", "5"}}) {
    const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC), null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    const int err = ::open(path_of("interrupted.err").c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    EXPECT_EQ(wait_for(start_kvass(arguments, {null, full, err})), 1);
    for (const int stream : {full, null, err}) ::close(stream);
    EXPECT_TRUE(
        has(read_file(path_of("interrupted.err")), "stdout: expected a place to write to, got No space left on device"))
        << read_file(path_of("interrupted.err"));
  }
}

TEST(Output, LinesOnStderrAreUtf8WhateverIsInThem) {
  write_file(path_of("\xff\xfe.gguf"), "\xff\xff\xff");
  write_file(path_of("bad.yaml"), "mod\xff\xc3: 1\n");
  write_file(path_of("ids.json"), "[\"\xff\"]");
  for (const Arguments& arguments : std::vector<Arguments>{{"inspect", path_of("\xff\xfe.gguf")},
                                                           {"run", "\xf0\x9f"},
                                                           {"run", tiny(), "--\xff"},
                                                           {"tr\xffot"},
                                                           {"run", "--config", path_of("bad.yaml")},
                                                           {"score", tiny(), "--ids", "-f", path_of("ids.json")},
                                                           {"run", tiny(), "--kv", "f\xc3"}}) {
    const Finished done = kvass(arguments);
    EXPECT_NE(done.code, 0);
    EXPECT_TRUE(is_valid_utf8(done.err)) << done.err;
    EXPECT_EQ(std::count(done.err.begin(), done.err.end(), '\n'), 1) << done.err;
  }
}

TEST(Input, ALineOfAConversationHasALimit) {
  const std::string model = tiny_talker("lines.gguf"), line(size_t{16} << 20, 'x');
  const std::string zeros((size_t{16} << 20) + 2, '\0');
  expect_refused(kvass({"chat", model, "-q", "--context", "64"}, zeros), 1,
                 {"stdin: expected lines of at most 16777216 bytes, got a longer one"});
  expect_refused(kvass({"chat", model, "-q", "--context", "64"}, "\"\"\"\n" + line + "\nx\n\"\"\"\n"), 1,
                 {"stdin: expected texts of at most 16777216 bytes, got a longer one"});
}

}  // namespace
}  // namespace kvass
