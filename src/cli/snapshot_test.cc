// Streams that go through files: two processes write the text of one, whatever has ended the first.

#include <cctype>
#include <chrono>
#include <csignal>
#include <thread>

#include "cli/test_files.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

const Arguments kDrawn = {"--temp", "1", "--seed", "3", "--repeat-penalty", "1.3", "--repeat-last-n", "9"};
const Arguments kSinks = {"--attention-sink", "4,40", "--chunk", "16", "--ignore-eos"};

Arguments run(const Arguments& more) { return with({"run", tiny(), "--json"}, more); }
json inspected(const std::string& path) { return parsed(kvass({"inspect", path, "--json"}))["metadata"]; }

// The bytes of a text, which JSON would not keep: a tiny model writes anything. A run that is not saved ends its line.
std::string text_of(const Arguments& more) {
  const Finished done = kvass(with({"run", tiny(), "-q"}, more));
  EXPECT_EQ(done.code, 0) << done.err;
  return done.out;
}
bool is_whole(const std::string& text, const std::string& whole) { return whole == text || whole == text + "\n"; }

void expect_continued(const json& whole, const json& first, const json& second) {
  json ids = first["ids"];
  for (const json& id : second["ids"]) ids.push_back(id);
  EXPECT_EQ(ids, whole["ids"]);
  EXPECT_EQ(second["stats"]["length"], whole["stats"]["length"]);
}

TEST(Snapshots, ARunThatWasSavedGoesOnInAnotherProcess) {
  const std::string path = path_of("stream");
  for (const Arguments& plan : std::vector<Arguments>{kSinks, {"--ignore-eos"}, {"--endless", "--kv", "bf16"}}) {
    const Arguments begin = with(run(with(plan, kDrawn)), {"-p", "the and é"});
    for (const int first : {0, 1, 3, 50, 170}) {
      SCOPED_TRACE(plan.back() + " after " + std::to_string(first));
      const json whole = parsed(kvass(with(begin, {"-n", std::to_string(first + 60)})));
      const json saved = parsed(kvass(with(begin, {"-n", std::to_string(first), "--save", path, "-t", "2"})));
      const json resumed = parsed(kvass(run({"--resume", path, "-n", "60", "-t", "1"})));
      expect_continued(whole, saved, resumed);
      EXPECT_EQ(resumed["prompt_ids"], json::array());
    }
  }
}

TEST(Snapshots, TheInstructionSetAndTheThreadsMayChangeAndTheFileIsTheSame) {
  const std::string path = path_of("chain");
  const Arguments begin = with(with(kSinks, kDrawn), {"-p", "the"});
  std::string text = text_of(with(begin, {"-n", "40", "--save", path}));
  const Arguments threads = {"1", "3", "2"};
  for (const std::string& count : threads) {
    ::setenv("KVASS_ISA", "scalar", 1);
    text += text_of({"--resume", path, "--save", path, "-n", "20", "-t", count});
    ::unsetenv("KVASS_ISA");
  }
  text += text_of({"--resume", path, "-n", "20"});
  EXPECT_TRUE(is_whole(text, text_of(with(begin, {"-n", "120", "-t", "1"}))));
}

TEST(Snapshots, TextThatMayBeAStopTextIsHeldForTheNextProcess) {
  const std::string path = path_of("held");
  const Arguments begin = with(kSinks, with({"-p", "the"}, kDrawn));
  const json plain = parsed(kvass(with(run(begin), {"-n", "90"})));
  // A stop text of plain letters, which an argument and JSON keep, from the ends of two tokens: letter, "w2..".
  const std::string text = plain["text"];
  size_t at = text.size() / 3;
  while (at < text.size() && !(text.compare(at, 2, "w2") == 0 && std::isalpha(text[at - 1]))) ++at;
  ASSERT_LT(at, text.size());
  const Arguments stopping = with(begin, {"--stop", text.substr(at - 1, 3)});
  const json stopped = parsed(kvass(with(run(stopping), {"-n", "90"})));
  ASSERT_EQ(stopped["stats"]["stop_reason"], "stop_text");
  const std::string whole = text_of(with(stopping, {"-n", "90"}));
  int incomplete = 0;
  for (size_t first = 1; first < stopped["ids"].size(); ++first) {
    const std::string saved = text_of(with(stopping, {"-n", std::to_string(first), "--save", path}));
    incomplete += inspected(path)["held_text_bytes"].get<int>() > 0;
    EXPECT_TRUE(is_whole(saved + text_of({"--resume", path, "-n", "90"}), whole)) << first;
  }
  EXPECT_GT(incomplete, 0);
}

TEST(Snapshots, APromptIsAppendedWithoutAnotherBegin) {
  const std::string path = path_of("prompt");
  parsed(kvass(with(run(kSinks), {"-p", "the", "-n", "5", "--save", path})));
  const int64_t length = inspected(path)["length"];
  const json more = parsed(kvass(run({"--resume", path, "-p", "and", "-n", "7"})));
  ASSERT_GT(more["prompt_ids"].size(), 0u);
  EXPECT_NE(more["prompt_ids"][0], 2) << "<bos>";
  // The pending token, the prompt, and what was generated but for the last.
  EXPECT_EQ(more["stats"]["length"], length + 1 + static_cast<int64_t>(more["prompt_ids"].size()) + 6);
}

TEST(Snapshots, FlagsAreTheSnapshotsUnlessTheyAreGivenAndAgree) {
  const std::string path = path_of("flags");
  const Arguments stream = with(kSinks, {"--kv", "bf16", "--math", "f32", "--sink-positions", "original"});
  parsed(kvass(with(run(stream), {"-p", "the", "-n", "5", "--save", path})));
  const Arguments resume = run({"--resume", path, "-n", "5"});
  parsed(kvass(with(resume, stream)));
  parsed(kvass(with(resume, {"--endless", "--context", "44"})));
  const std::vector<std::pair<Arguments, const char*>> cases = {
      {{"--context", "50"}, "--context: expected 44 as in the snapshot, got 50"},
      {{"--attention-sink", "4,41"}, "--attention-sink: expected 4,40 as in the snapshot, got 4,41"},
      {{"--chunk", "8"}, "--chunk: expected 16 as in the snapshot, got 8"},
      {{"--kv", "f16"}, "--kv: expected bf16 as in the snapshot, got f16"},
      {{"--math", "a16"}, "--math: expected f32 as in the snapshot, got a16"},
      {{"--sink-positions", "wrapped"}, "--sink-positions: expected original as in the snapshot, got wrapped"},
      {{"--temp", "-1"}, "--temp: expected "},
      {{"--save-every", "5"}, "--save-every: expected --save FILE beside it"},
      {{"--save", path_of("s"), "--save-every", "0"}, "--save-every: expected at least 1 token, got 0"},
      {{"--save", path_of("none/s")}, "none/s: expected a folder that takes a new file"},
      {{"--save", "/"}, "/: expected the name of a file, got a folder"}};
  for (const auto& [flags, message] : cases) expect_refused(kvass(with(resume, flags)), 1, {message});
  parsed(kvass(with(run({"--ignore-eos", "--context", "60"}), {"-p", "the", "-n", "5", "--save", path})));
  expect_refused(kvass(with(resume, {"--endless"})), 1, {"--endless: expected a stream that ends as in the snapshot"});
  const Finished full = kvass(run({"--resume", path, "-p", std::string(200, 'x')}));
  expect_refused(full, 1, {"cache full: expected room for ", "left of --context 60"});
}

TEST(Snapshots, OtherFilesAndDamagedOnesAreRefusedInOneLine) {
  const std::string path = path_of("good"), bad = path_of("bad");
  parsed(kvass(with(run(kSinks), {"-p", "the", "-n", "5", "--save", path})));
  const std::string good = read_file(path);
  const auto refused = [&](const std::string& bytes, const char* words) {
    write_file(bad, bytes);
    for (const Arguments& how : {run({"--resume", bad}), Arguments{"inspect", bad}}) {
      expect_refused(kvass(how), 1, {"bad", words});
    }
  };
  std::string damaged = good;
  damaged[good.size() - 1] ^= 1;
  refused(damaged, "keys and values with the checksum");
  damaged = good;
  damaged[100] ^= 1;
  refused(damaged, "a header with the checksum");
  refused(good.substr(0, good.size() / 2), "cut off");
  refused(good.substr(0, 50), "expected ");
  expect_refused(kvass(run({"--resume", tiny()})), 1, {"expected a kvass snapshot, got another kind of file"});
  expect_refused(kvass(run({"--resume", path_of("none")})), 1, {"none"});
  TinyConfig config;
  config.seed = 2;
  ASSERT_TRUE(TinyModel(config).writer().write(path_of("other.gguf")).ok());
  expect_refused(kvass({"run", path_of("other.gguf"), "--json", "--resume", path}), 1, {"a snapshot of this model"});
  EXPECT_TRUE(has(kvass({"inspect", path}).out, "kvass snapshot version 4"));
}

// Waits until the running kvass has said something on stderr: the plan, which comes before the first token.
void wait_for_plan(const Running& stream) {
  while (stream.err().empty()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

TEST(Snapshots, SignalsInPrefillAndInDecodeLeaveAStreamThatGoesOnExactly) {
  const std::string path = path_of("signal"), prompt = path_of("long.txt");
  std::string words;
  for (int i = 0; i < 6000; ++i) words += i % 7 == 0 ? "and " : "the ";
  write_file(prompt, words);
  const Arguments stream = {"--attention-sink", "4,40", "--chunk", "1", "--ignore-eos", "--temp", "1"};
  const Arguments begin = with({"run", tiny(), "-f", prompt}, stream);
  const std::string whole = text_of(with(with({"-f", prompt}, stream), {"-n", "40"}));
  for (const int number : {SIGINT, SIGTERM}) {
    Running first(with(begin, {"-n", "10", "--save", path}));
    wait_for_plan(first);
    first.signal(number);
    EXPECT_EQ(first.end(), 128 + number);
    EXPECT_TRUE(has(first.err(), " 0 generated)") && has(first.err(), ", interrupted, saved at position "))
        << first.err();
    const json saved = inspected(path);
    EXPECT_GT(saved["pending_tokens"], 1) << "a prompt that was not at its end";
    EXPECT_EQ(text_of({"--resume", path, "-n", "40"}), whole);
  }
  for (const int number : {SIGINT, SIGTERM}) {
    const Arguments endless = with({"-p", "the", "--endless", "--context", "64"}, kDrawn);
    Running first(with(with({"run", tiny()}, endless), {"--save", path}));
    ASSERT_TRUE(first.read(2000));
    first.signal(number);
    EXPECT_EQ(first.end(), 128 + number);
    EXPECT_TRUE(has(first.err(), ", interrupted, saved at position ")) << first.err();
    const int64_t length = inspected(path)["length"].get<int64_t>() + 1;
    const std::string resumed = text_of({"--resume", path, "-n", "50"});
    const json prompt_ids = parsed(kvass({"run", tiny(), "-p", "the", "-n", "0", "--json"}))["prompt_ids"];
    const int64_t tokens = length - static_cast<int64_t>(prompt_ids.size()) + 50;
    EXPECT_TRUE(first.out() + resumed == text_of(with(endless, {"-n", std::to_string(tokens)})));
  }
}

TEST(Snapshots, AFullDiskIsSaidAtEachTryAndDoesNotEndTheStream) {
  const std::string path = path_of("full");
  const Arguments begin = with({"run", tiny(), "-p", "the", "-n", "50", "--save", path, "--save-every", "20"}, kSinks);
  ASSERT_EQ(kvass(begin).code, 0);
  const std::string before = read_file(path);
  Finished done;
  {
    const ResourceLimit limit(RLIMIT_FSIZE, 8192);  // a full disk that needs no disk
    done = kvass(begin);
  }
  EXPECT_EQ(done.code, 1);
  EXPECT_EQ(done.out, kvass(begin).out) << "all of the text";
  size_t said = 0;
  for (size_t at = 0; (at = done.err.find("kvass: not saved: " + path, at)) != std::string::npos; ++at) ++said;
  EXPECT_EQ(said, 2u) << done.err;
  EXPECT_TRUE(has(done.err, "next try after 20 tokens") && has(done.err, ", not saved\n")) << done.err;
  EXPECT_TRUE(has(done.err, "\nkvass: " + path + ": expected room for a new file, got ")) << done.err;
  EXPECT_EQ(read_file(path), before);
}

TEST(Snapshots, AStreamThatIsKilledGoesOnFromItsLastSave) {
  const std::string path = path_of("killed");
  const Arguments endless = with({"run", tiny(), "-p", "the", "--endless", "--context", "64"}, kDrawn);
  Running first(with(endless, {"--save", path, "--save-every", "7"}));
  ASSERT_TRUE(first.read(3000));
  first.signal(SIGKILL);
  EXPECT_EQ(first.end(), 1000 + SIGKILL);
  const int64_t tokens =
      inspected(path)["length"].get<int64_t>() + 1 -
      static_cast<int64_t>(parsed(kvass({"run", tiny(), "-p", "the", "-n", "0", "--json"}))["prompt_ids"].size());
  EXPECT_GT(tokens, 0);
  EXPECT_EQ(tokens % 7, 0);
  const json all = parsed(kvass(with(endless, {"--json", "-n", std::to_string(tokens + 30)})));
  json ids = all["ids"];
  ids.erase(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(tokens));
  EXPECT_EQ(parsed(kvass(run({"--resume", path, "-n", "30"})))["ids"], ids);
}

}  // namespace
}  // namespace kvass
