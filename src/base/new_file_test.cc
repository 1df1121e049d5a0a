// New files beside other writers of the same name, links, owners, and what dead writers leave.
#include "base/new_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <thread>

#include "scratch.h"
#include "seed.h"

namespace kvass {
namespace {

namespace fs = std::filesystem;
using testing::Random;
using testing::Scratch;

std::string text_of(const Scratch& scratch, const char* name) {
  const std::vector<uint8_t> bytes = scratch.read(name);
  return std::string(bytes.begin(), bytes.end());
}

std::span<const uint8_t> bytes_of(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

TEST(NewFile, TwoOfOneWriterNeverShareATemporary) {
  const Scratch scratch;
  const std::string path = scratch.file("f");
  const FileLock lock = FileLock::acquire(path).value();
  NewFile first = NewFile::create(path, &lock).value(), second = NewFile::create(path, &lock).value();
  EXPECT_EQ(scratch.files(), 3u) << "the lock, and a temporary each";
  ASSERT_TRUE(first.write(0, bytes_of("first")).ok());
  ASSERT_TRUE(second.write(0, bytes_of("second")).ok());
  ASSERT_TRUE(second.commit().ok());
  EXPECT_EQ(text_of(scratch, "f"), "second");
  ASSERT_TRUE(first.commit().ok());
  EXPECT_EQ(text_of(scratch, "f"), "first");
}

TEST(NewFile, ASecondWriterIsRefusedByNameAndNothingIsLeft) {
  const Scratch scratch;
  const std::string path = scratch.file("f");
  ASSERT_TRUE(write_new_file(path, "old").ok());
  {
    const FileLock lock = FileLock::acquire(path).value();
    EXPECT_EQ(lock.warning(), "");
    for (const Status& refused : {FileLock::acquire(path).status(), write_new_file(path, "new")}) {
      EXPECT_EQ(refused.code(), StatusCode::busy);
      EXPECT_EQ(refused.message().find(path + ": expected one writer at a time, got a second one while process " +
                                       std::to_string(::getpid()) + " on "),
                0u)
          << refused.message();
    }
    EXPECT_EQ(text_of(scratch, "f"), "old");
    ASSERT_TRUE(write_new_file(path, "new", &lock).ok());
  }
  EXPECT_EQ(text_of(scratch, "f"), "new");
  EXPECT_EQ(scratch.files(), 1u);
  ASSERT_TRUE(write_new_file(path, "newer").ok());
}

TEST(NewFile, WhatDeadWritersLeftGoesAndWhatIsAliveOrSomebodyElsesStays) {
  const Scratch scratch;
  const std::string path = scratch.file("f"), digits(32, 'a');
  const std::string dead = path + ".tmp-" + digits, alive = path + ".tmp-" + std::string(32, 'b');
  std::vector<std::string> others;
  for (const std::string& name : {path + ".tmp-12-0", path + ".tmp-" + digits + "0", path + ".tmp-" + digits + ".txt",
                                  scratch.file("g") + ".tmp-" + digits, path + ".tmp-" + std::string(32, 'g')}) {
    others.push_back(name);
  }
  others.push_back(alive);
  for (const std::string& name : others) std::ofstream(name) << "not yours";
  std::ofstream(dead) << "half";
  std::ofstream(path + ".lock") << "process 1 on a machine that is gone\n";
  const int held = ::open(alive.c_str(), O_WRONLY | O_CLOEXEC);
  ASSERT_EQ(::flock(held, LOCK_EX), 0);
  ASSERT_TRUE(write_new_file(path, "new").ok());
  EXPECT_FALSE(fs::exists(dead));
  EXPECT_FALSE(fs::exists(path + ".lock"));
  for (const std::string& name : others) EXPECT_TRUE(fs::exists(name)) << name;
  ::close(held);
  EXPECT_EQ(remove_temporaries(path)->removed, std::vector<std::string>{alive});
}

TEST(NewFile, AnotherFileThatHasTheNameOfALockStays) {
  const Scratch scratch;
  const std::string path = scratch.file("poem"), other = path + ".lock";
  std::ofstream(other) << "a text of somebody";
  for (int i = 0; i < 2; ++i) {
    const Status status = write_new_file(path, "new");
    EXPECT_TRUE(status.message().starts_with(other + ": expected no file, or a lock")) << status.message();
    EXPECT_EQ(status.code(), StatusCode::bad_input);
  }
  EXPECT_EQ(text_of(scratch, "poem.lock"), "a text of somebody");
  EXPECT_FALSE(fs::exists(path));
  std::ofstream(other) << "process 1 on elsewhere\n";  // left by one that was killed
  EXPECT_TRUE(write_new_file(path, "new").ok());
  EXPECT_FALSE(fs::exists(other));
}

TEST(NewFile, ALinkIsFollowedAndOneThatLeadsNowhereIsRefused) {
  const Scratch scratch, other;
  ASSERT_TRUE(write_new_file(other.file("real"), "old").ok());
  fs::create_symlink(other.file("real"), scratch.file("link"));
  ASSERT_TRUE(write_new_file(scratch.file("link"), "new").ok());
  EXPECT_TRUE(fs::is_symlink(scratch.file("link")));
  EXPECT_EQ(text_of(other, "real"), "new");
  EXPECT_EQ(other.files(), 1u);
  // Both names are one file, so that one lock keeps both.
  const FileLock lock = FileLock::acquire(scratch.file("link")).value();
  EXPECT_EQ(write_new_file(other.file("real"), "newer").code(), StatusCode::busy);

  fs::create_symlink(scratch.file("nothing"), scratch.file("broken"));
  const Status refused = write_new_file(scratch.file("broken"), "new");
  EXPECT_EQ(refused.message(),
            scratch.file("broken") + ": expected a file, or a link to one, got No such file or directory");
  EXPECT_TRUE(fs::is_symlink(scratch.file("broken")));
  EXPECT_FALSE(fs::exists(scratch.file("nothing")));
}

TEST(NewFile, OwnerGroupAndModeStay) {
  const Scratch scratch;
  const std::string path = scratch.file("f");
  ASSERT_TRUE(write_new_file(path, "old").ok());
  const bool root = ::geteuid() == 0;
  if (root) {
    ASSERT_EQ(::chown(path.c_str(), 1234, 4321), 0);
  }
  ASSERT_EQ(::chmod(path.c_str(), 0640), 0);
  ASSERT_TRUE(write_new_file(path, "new").ok());
  struct stat about {};
  ASSERT_EQ(::stat(path.c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777, 0640u);
  EXPECT_EQ(about.st_uid, root ? 1234u : ::getuid());
  if (root) {
    EXPECT_EQ(about.st_gid, 4321u);
  }
}

TEST(NewFile, OnlyFilesOfTheKindAreReplaced) {
  const Scratch scratch;
  const std::string path = scratch.file("f");
  EXPECT_TRUE(check_replaceable(path, "KIND", "a kind").ok()) << "there is none";
  std::ofstream(path).flush();
  EXPECT_TRUE(check_replaceable(path, "KIND", "a kind").ok()) << "it is empty";
  std::ofstream(path) << "KINDred";
  EXPECT_TRUE(check_replaceable(path, "KIND", "a kind").ok());
  for (const char* text : {"KIN", "kind", "something else"}) {
    std::ofstream(path) << text;
    EXPECT_EQ(check_replaceable(path, "KIND", "a kind").message(),
              path + ": expected no file, or a kind to replace, got another file, which stays as it is");
  }
}

TEST(NewFile, ASignalHandlerRemovesWhatIsNotFinished) {
  const Scratch scratch;
  const std::string path = scratch.file("f");
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const FileLock lock = FileLock::acquire(path).value();
    NewFile done = NewFile::create(path, &lock).value();
    const bool written = done.write(0, bytes_of("done")).ok() && done.commit().ok();
    NewFile half = NewFile::create(path, &lock).value();
    if (!written || !half.write(0, bytes_of("half")).ok() || scratch.files() != 3) ::_exit(1);
    remove_unfinished_files();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(text_of(scratch, "f"), "done");
  EXPECT_EQ(scratch.files(), 1u);
}

// Writes `text` in pieces with delays between them, in a process whose number is 1 where the system lets it: as two
// containers write to one folder. Ends with 0, or 3 where it was told that somebody else writes.
int write_slowly(const std::string& path, const std::string& text, useconds_t delay) {
  Result<NewFile> file = NewFile::create(path);
  if (!file.ok()) return file.status().code() == StatusCode::busy ? 3 : 4;
  for (size_t at = 0; at < text.size(); at += text.size() / 4) {
    if (!file->write(at, bytes_of(text).subspan(at, text.size() / 4)).ok()) return 5;
    ::usleep(delay);
  }
  return file->commit().ok() ? 0 : 6;
}
// Processes that are started from here on have numbers of their own, from 1. False where the machine does not allow it.
bool number_anew() { return ::unshare(CLONE_NEWPID) == 0 || ::unshare(CLONE_NEWUSER | CLONE_NEWPID) == 0; }

pid_t start_writer(const std::string& path, const std::string& text, useconds_t delay) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  if (!number_anew()) ::_exit(7);
  const pid_t first = ::fork();
  if (first != 0) {
    int status = 0;
    ::waitpid(first, &status, 0);
    ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 9);
  }
  if (::getpid() != 1) ::_exit(7);
  ::_exit(write_slowly(path, text, delay));
}
// Whether this machine lets processes have equal numbers.
bool numbers_can_be_equal() {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(number_anew() ? 0 : 1);
  int status = 0;
  return ::waitpid(child, &status, 0) == child && status == 0;
}

TEST(NewFile, OfTwoWritersWithEqualNumbersOneWritesAndTheOtherIsTold) {
  if (!numbers_can_be_equal()) GTEST_SKIP() << "this machine gives each process a number of its own";
  const Scratch scratch;
  const std::string path = scratch.file("f");
  std::string before(4000, 'o');
  ASSERT_TRUE(write_new_file(path, before).ok());
  Random random;
  int told = 0;
  for (int pair = 0; pair < 100; ++pair) {
    const std::array<std::string, 2> texts = {std::string(8000, static_cast<char>('a' + pair % 20)),
                                              std::string(4000, static_cast<char>('A' + pair % 20))};
    std::array<pid_t, 2> writers{};
    for (size_t i = 0; i < 2; ++i) {
      writers[i] = start_writer(path, texts[i], static_cast<useconds_t>(random.integer(0, 3000)));
      ASSERT_GT(writers[i], 0);
    }
    std::array<int, 2> codes{};
    for (bool running = true; running;) {  // whatever the moment, the file is whole
      running = false;
      for (size_t i = 0; i < 2; ++i) {
        int status = 0;
        if (writers[i] > 0 && ::waitpid(writers[i], &status, WNOHANG) == writers[i]) {
          codes[i] = WIFEXITED(status) ? WEXITSTATUS(status) : 9;
          writers[i] = -1;
        }
        running = running || writers[i] > 0;
      }
      const std::string now = text_of(scratch, "f");
      ASSERT_TRUE(now == before || now == texts[0] || now == texts[1]) << "pair " << pair << ": " << now.size();
    }
    const std::string after = text_of(scratch, "f");
    for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(codes[i] == 0 || codes[i] == 3) << "pair " << pair << ": " << codes[i];
    EXPECT_TRUE(codes[0] == 0 || codes[1] == 0) << "pair " << pair << ": both were refused";
    EXPECT_TRUE((codes[0] == 0 && after == texts[0]) || (codes[1] == 0 && after == texts[1])) << "pair " << pair;
    told += codes[0] == 3 || codes[1] == 3;
    EXPECT_EQ(scratch.files(), 1u) << "pair " << pair;
    before = after;
  }
  EXPECT_GT(told, 0) << "no pair has met";
}

}  // namespace
}  // namespace kvass
