// Nothing lost between two processes that write one stream: wherever stdout takes no more, what was saved goes on with
// the first byte that did not come out. The cut is exact to the byte: stdout is a file that may grow so far and no
// further, as on a full disk. KVASS_LONG=1 cuts 200 times, otherwise it is some 20, under a sanitizer 8.
#include <poll.h>
#include <sys/ioctl.h>

#include <cctype>

#include "cli/test_files.h"
#include "effort.h"
#include "goldens.h"
#include "seed.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

int cuts() { return long_tests() ? 200 : effort(20, 8); }

// Runs kvass with a stdout that takes `bytes` and refuses the next one.
Finished kvass_until(const Arguments& arguments, size_t bytes, const std::string& input = "") {
  constexpr size_t kLimit = size_t{8} << 20;  // larger than any snapshot here
  write_file(path_of("cut_in"), input);
  write_file(path_of("cut_out"), "");
  std::filesystem::resize_file(path_of("cut_out"), kLimit - bytes);
  const Streams streams{::open(path_of("cut_in").c_str(), O_RDONLY | O_CLOEXEC),
                        ::open(path_of("cut_out").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC),
                        ::open(path_of("cut_err").c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600)};
  Finished done;
  {
    const ResourceLimit limit(RLIMIT_FSIZE, kLimit);
    done.code = wait_for(start_kvass(arguments, streams));
  }
  for (const int stream : {streams.in, streams.out, streams.err}) ::close(stream);
  done.out = read_file(path_of("cut_out")).substr(kLimit - bytes);
  done.err = read_file(path_of("cut_err"));
  return done;
}

// Runs kvass with a pipe as its stdout, whose reader goes away after `bytes` and whatever else the pipe holds then.
Finished kvass_until_its_reader_leaves(const Arguments& arguments, size_t bytes) {
  int ends[2];
  EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const Streams streams{::open("/dev/null", O_RDONLY | O_CLOEXEC), ends[1],
                        ::open(path_of("left_err").c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600)};
  const pid_t child = start_kvass(arguments, streams);
  for (const int stream : {streams.in, streams.out, streams.err}) ::close(stream);
  Finished done;
  const auto take = [&](size_t most) {
    std::string some(most, '\0');
    const ssize_t count = ::read(ends[0], some.data(), some.size());
    done.out.append(some, 0, static_cast<size_t>(std::max<ssize_t>(count, 0)));
    return count > 0;
  };
  while (done.out.size() < bytes && take(bytes - done.out.size())) {
  }
  int status = 0;
  ::kill(child, SIGSTOP);
  ::waitpid(child, &status, WUNTRACED);
  for (int held = 0; ::ioctl(ends[0], FIONREAD, &held) == 0 && held > 0;) take(static_cast<size_t>(held));
  ::close(ends[0]);
  ::kill(child, SIGCONT);
  done.code = WIFSTOPPED(status) ? wait_for(child) : WEXITSTATUS(status);
  done.err = read_file(path_of("left_err"));
  return done;
}

constexpr size_t kEverything = size_t{1} << 20;

// The text of a stream whose stdout is refused again and again, until it ends by itself; `refused` counts.
std::string text_in_pieces(const Arguments& begin, const std::string& path, size_t most, Random& random, int& refused) {
  const Arguments resume = {"run", tiny(), "-q", "--resume", path, "--save", path};
  std::string text;
  for (const Arguments* now = &begin;; now = &resume) {
    const auto bytes = static_cast<size_t>(random.integer(0, static_cast<int64_t>(most)));
    const Finished done = kvass_until(*now, refused < cuts() ? bytes : kEverything);
    text += done.out;
    if (done.code == 0) return text;
    EXPECT_EQ(done.code, 1) << done.err;
    EXPECT_EQ(done.out.size(), bytes) << "as much as there was room for";
    EXPECT_TRUE(has(done.err, "kvass: stdout: expected a place to write to, got File too large")) << done.err;
    if (done.code != 1) return text;
    ++refused;
  }
}

Arguments saved(const std::string& path, const Arguments& more) {
  return with({"run", tiny(), "-q", "--save", path, "--attention-sink", "4,40"}, more);
}

// Texts that end by themselves: with a stop text, or with the token that ends a text.
TEST(Delivered, ATextInPiecesIsTheTextWhereverStdoutIsFull) {
  const std::string path = path_of("pieces");
  Random random;
  int refused = 0, ended = 0, stopped = 0;
  for (int seed = 1; seed < 200 && (refused < cuts() || ended == 0 || stopped == 0); ++seed) {
    const Arguments drawn = {"-p", "the", "--temp", "1.5", "--seed", std::to_string(seed), "--repeat-penalty", "1.2"};
    const json plain = parsed(kvass(with({"run", tiny(), "--json", "--attention-sink", "4,40", "-n", "300"}, drawn)));
    Arguments begin = saved(path, drawn);
    if (plain["stats"]["stop_reason"] != "end_of_generation") {
      // Two letters that the text has, which are then its stop text; beside them one that only seems to begin.
      const std::string text = plain["text"];
      size_t at = text.size() / 2;
      while (at + 1 < text.size() && !(std::isalnum(static_cast<unsigned char>(text[at])) != 0 &&
                                       std::isalnum(static_cast<unsigned char>(text[at + 1])) != 0)) {
        ++at;
      }
      if (at + 1 >= text.size()) continue;
      begin = with(begin, {"--stop", text.substr(at, 2), "--stop", text.substr(at, 1) + "never this"});
      ++stopped;
    } else {
      ++ended;
    }
    const Finished whole = kvass(begin);
    ASSERT_EQ(whole.code, 0) << whole.err;
    const size_t most = 2 + whole.out.size() / 3;
    EXPECT_TRUE(text_in_pieces(begin, path, most, random, refused) == whole.out) << "seed " << seed;
  }
  EXPECT_GT(ended, 0);
  EXPECT_GT(stopped, 0);
  EXPECT_GE(refused, cuts());
}

TEST(Delivered, ATextInPiecesIsTheTextWheneverItsReaderLeaves) {
  const std::string path = path_of("left");
  const Arguments begin = saved(path, {"-p", "the", "--temp", "1.2", "--seed", "5", "-n", "4000", "--ignore-eos"});
  const std::string whole = kvass(begin).out;
  Random random;
  int left = 0;
  for (int i = 0; i < cuts() / 4; ++i) {
    std::filesystem::remove(path);
    const auto bytes = static_cast<size_t>(random.integer(0, static_cast<int64_t>(whole.size() / 2)));
    const Finished first = kvass_until_its_reader_leaves(begin, bytes);
    if (first.code == 0) continue;  // it had written everything
    EXPECT_EQ(first.code, 1) << first.err;
    ++left;
    ASSERT_TRUE(std::filesystem::exists(path)) << first.err;
    const Finished rest = kvass({"run", tiny(), "-q", "--resume", path, "--ignore-eos", "-n", "4000"});
    const std::string text = first.out + rest.out;
    EXPECT_TRUE(text.starts_with(whole)) << "after " << first.out.size() << " bytes";
  }
  EXPECT_GT(left, 0);
}

TEST(Delivered, TheVeryEndOfATextIsNotLostEither) {
  const std::string path = path_of("end");
  int ended = 0;
  for (const Arguments& how : std::vector<Arguments>{{"--stop", "w2"}, {}}) {
    for (int seed = 1; seed < 40; ++seed) {
      const Arguments begin = saved(path, with({"-p", "the", "--temp", "2", "--seed", std::to_string(seed)}, how));
      const json told = parsed(kvass(with(with(begin, {"--json"}), {"-n", "400"})));
      if (told["stats"]["stop_reason"] == "max_tokens") continue;
      const Finished whole = kvass(begin);
      for (size_t left = 1; left <= std::min<size_t>(4, whole.out.size()); ++left) {
        const Finished first = kvass_until(begin, whole.out.size() - left);
        EXPECT_EQ(first.code, 1);
        const Finished second = kvass({"run", tiny(), "-q", "--resume", path, "--save", path});
        EXPECT_EQ(second.code, 0) << second.err;
        EXPECT_TRUE(first.out + second.out == whole.out) << "seed " << seed << ", " << left << " bytes before the end";
        ++ended;
      }
      break;
    }
  }
  EXPECT_GE(ended, 2);
}

TEST(Delivered, JsonThatIsNotDeliveredIsNotSaved) {
  const std::string path = path_of("json");
  const Arguments begin = saved(path, {"-p", "the", "-n", "30", "--json"});
  EXPECT_EQ(kvass_until(begin, 10).code, 1);
  EXPECT_FALSE(std::filesystem::exists(path));
  ASSERT_EQ(kvass(begin).code, 0);
  const std::string before = read_file(path);
  EXPECT_EQ(kvass_until({"run", tiny(), "--json", "--resume", path, "--save", path, "-n", "20"}, 0).code, 1);
  EXPECT_TRUE(read_file(path) == before);
  expect_refused(kvass(with(begin, {"--save-every", "5"})), 1, {"--save-every: expected text", "--json"});
}

const std::string& chat_model() {
  static const std::string path = tiny_talker("chat.gguf");
  return path;
}

TEST(Delivered, AConversationInPiecesIsTheConversation) {
  const std::string path = path_of("talk");
  const std::vector<std::string> lines = {"the end", "and the", "then", "and and", "the"};
  const auto from = [&](size_t first) {
    std::string text;
    for (size_t i = first; i < lines.size(); ++i) text += lines[i] + "\n";
    return text;
  };
  Random random;
  int refused = 0;
  for (int seed = 1; refused < cuts(); ++seed) {
    const Arguments how = {"chat", chat_model(), "-q", "-n", "25", "--save", path};
    const Arguments begin = with(how, {"--context", "64", "--temp", "1.3", "--seed", std::to_string(seed)});
    const Finished whole = kvass(begin, from(0));
    ASSERT_EQ(whole.code, 0) << whole.err;
    std::string text;
    size_t turns = 0;
    std::filesystem::remove(path);
    for (;;) {
      const bool first = !std::filesystem::exists(path);
      const auto bytes = static_cast<size_t>(random.integer(0, 2 + static_cast<int64_t>(whole.out.size()) / 4));
      const Finished done = kvass_until(first ? begin : with(how, {"--resume", path}), bytes, from(turns));
      text += done.out;
      if (done.code == 0) break;
      ASSERT_EQ(done.code, 1) << done.err;
      turns = parsed(kvass({"inspect", path, "--json"}))["metadata"]["turns"].get<size_t>();
      ++refused;
    }
    EXPECT_TRUE(text == whole.out) << "seed " << seed;
  }
}

TEST(Delivered, AReaderThatIsSlowIsWaitedForThoughThePipeDoesNotWait) {
  const Arguments arguments = {"run",  tiny(),         "-p", "the", "-n", "12000", "--attention-sink",
                               "4,40", "--ignore-eos", "-q"};
  const std::string whole = kvass(arguments).out;
  ASSERT_GT(whole.size(), 8192u);
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
  ASSERT_GT(::fcntl(ends[1], F_SETPIPE_SZ, 4096), 0);
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  const pid_t child = start_kvass(arguments, {null, ends[1], null});
  ::close(null);
  ::close(ends[1]);
  std::string text(1 << 16, '\0');
  size_t got = 0;
  for (int reads = 0;; ++reads) {
    if (reads < 20) ::usleep(5000);  // meanwhile the pipe is full
    pollfd waited{ends[0], POLLIN, 0};
    ASSERT_EQ(::poll(&waited, 1, -1), 1);
    const ssize_t count = ::read(ends[0], text.data() + got, std::min<size_t>(700, text.size() - got));
    if (count <= 0) break;
    got += static_cast<size_t>(count);
  }
  ::close(ends[0]);
  EXPECT_EQ(wait_for(child), 0);
  EXPECT_TRUE(text.substr(0, got) == whole);
}

}  // namespace
}  // namespace kvass
