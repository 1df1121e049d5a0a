#include "base/file_map.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <csetjmp>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"

namespace kvass {
namespace {

class FileMapTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("kvass_file_map_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string path(const char* name) const { return (folder_ / name).string(); }
  std::string write(const char* name, const std::string& bytes) const {
    std::ofstream(path(name), std::ios::binary) << bytes;
    return path(name);
  }
  static std::string refusal(const std::string& path) {
    const Result<FileMap> map = FileMap::open(path);
    return map.ok() ? "" : map.status().message();
  }
  std::filesystem::path folder_;
};

TEST_F(FileMapTest, MapsTheBytesAndKeepsThemWhenMoved) {
  std::string bytes;
  for (int i = 0; i < 100000; ++i) bytes += static_cast<char>(i * 7);
  Result<FileMap> opened = FileMap::open(write("data", bytes));
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  FileMap map = std::move(opened).value();
  const std::span<const uint8_t> view = map.bytes();
  FileMap moved = std::move(map);
  ASSERT_EQ(moved.bytes().size(), bytes.size());
  EXPECT_EQ(moved.bytes().data(), view.data());
  EXPECT_EQ(std::memcmp(view.data(), bytes.data(), bytes.size()), 0);
  moved.release(0, bytes.size());  // the next access reads them again
  moved.release(5, 10);
  moved.release(bytes.size(), 0);
  EXPECT_EQ(std::memcmp(view.data(), bytes.data(), bytes.size()), 0);
}

TEST_F(FileMapTest, EveryErrorNamesTheFileAndWhatItIs) {
  EXPECT_NE(refusal(path("none")).find(path("none")), std::string::npos);
  EXPECT_NE(refusal(path("none")).find("No such file"), std::string::npos);
  EXPECT_NE(refusal(folder_.string()).find("a folder"), std::string::npos);
  EXPECT_NE(refusal(write("empty", "")).find("an empty file"), std::string::npos);
  EXPECT_NE(refusal("/dev/null").find("a special file"), std::string::npos);
  EXPECT_NE(refusal(""), "");
}

constexpr size_t kPages = 64;

std::string pages() {
  std::string bytes(kPages * 4096, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 13 + 1);
  return bytes;
}

uint64_t sum(std::span<const uint8_t> bytes) {
  uint64_t total = 0;
  for (const uint8_t byte : bytes) total += byte;
  return total;
}

void (*handler_now())(int) {
  struct sigaction action {};
  ::sigaction(SIGBUS, nullptr, &action);
  return action.sa_handler;
}

void expect_changed(const FileMap& map, const std::string& path, const std::string& word) {
  const Status status = map.check();
  EXPECT_EQ(status.code(), StatusCode::io);
  EXPECT_TRUE(status.message().starts_with(path)) << status.message();
  EXPECT_NE(status.message().find(word), std::string::npos) << status.message();
}

TEST_F(FileMapTest, AFileThatIsCutOffIsReadAsZerosAndFound) {
  const std::string bytes = pages(), path = write("data", bytes);
  const FileMap map = FileMap::open(path).value();
  EXPECT_TRUE(map.check().ok());
  ASSERT_EQ(::truncate(path.c_str(), 5 * 4096 + 100), 0);
  EXPECT_EQ(std::memcmp(map.bytes().data(), bytes.data(), 5 * 4096 + 100), 0);
  EXPECT_EQ(sum(map.bytes().subspan(6 * 4096)), 0u);
  expect_changed(map, path, "cut off at offset " + std::to_string(5 * 4096 + 100));
  write("data", bytes);  // as it was; but what was read in between was not
  expect_changed(map, path, "offset " + std::to_string(6 * 4096));
  const FileMap again = FileMap::open(path).value();
  EXPECT_TRUE(again.check().ok());
  EXPECT_EQ(std::memcmp(again.bytes().data(), bytes.data(), bytes.size()), 0);
}

TEST_F(FileMapTest, ManyThreadsMayMeetTheMissingPages) {
  for (int round = 0; round < 20; ++round) {
    const std::string path = write("data", pages());
    const FileMap map = FileMap::open(path).value();
    const FileMap other = FileMap::open(write("other", pages())).value();
    ASSERT_EQ(::truncate(path.c_str(), 4096), 0);
    ThreadPool pool(4);
    std::vector<uint64_t> sums(kPages - 1);
    pool.run(static_cast<int64_t>(sums.size()), [&](int64_t i, int) {
      sums[static_cast<size_t>(i)] = sum(map.bytes().subspan((static_cast<size_t>(i) + 1) * 4096, 4096));
    });
    EXPECT_EQ(sums, std::vector<uint64_t>(kPages - 1));
    EXPECT_FALSE(map.check().ok());
    EXPECT_TRUE(other.check().ok()) << "the other file";
    EXPECT_EQ(std::memcmp(other.bytes().data(), pages().data(), kPages * 4096), 0);
  }
}

// No page is missing: only the file's size or time says that bytes are others.
TEST_F(FileMapTest, AChangeThatNoReadMeetsIsFound) {
  const std::string path = write("data", pages());
  {
    const FileMap map = FileMap::open(path).value();
    ASSERT_EQ(::truncate(path.c_str(), kPages * 4096 - 1), 0);
    EXPECT_NE(sum(map.bytes()), 0u);
    expect_changed(map, path, "cut off at offset " + std::to_string(kPages * 4096 - 1));
  }
  write("data", pages());
  FileMap map = FileMap::open(path).value();
  const auto later = std::filesystem::last_write_time(path) + std::chrono::seconds(2);
  std::filesystem::last_write_time(path, later);
  expect_changed(map, path, "written to");
  FileMap moved = std::move(map);
  std::filesystem::last_write_time(path, later - std::chrono::seconds(2));
  expect_changed(moved, path, "written to");
}

// A new file of the name is another file: the map is of the old one.
TEST_F(FileMapTest, AReplacedFileIsNoChange) {
  const std::string path = write("data", pages());
  const FileMap map = FileMap::open(path).value();
  std::filesystem::rename(write("new", "x"), path);
  EXPECT_TRUE(map.check().ok());
  EXPECT_EQ(std::memcmp(map.bytes().data(), pages().data(), kPages * 4096), 0);
  std::filesystem::remove(path);
  EXPECT_TRUE(map.check().ok());
}

TEST_F(FileMapTest, TheHandlerIsThereAsLongAsMapsAre) {
  const std::string path = write("data", pages());
  const auto before = handler_now();
  {
    FileMap first = FileMap::open(path).value();
    const auto during = handler_now();
    EXPECT_NE(during, before);
    {
      const FileMap second = FileMap::open(path).value();
      EXPECT_EQ(handler_now(), during);
      FileMap third = std::move(first);
    }
    EXPECT_EQ(handler_now(), before) << "the last one has moved away and ended";
  }
  EXPECT_EQ(handler_now(), before);
}

sigjmp_buf g_out;
volatile sig_atomic_t g_signals = 0;
void jump_out(int) {
  g_signals = g_signals + 1;
  siglongjmp(g_out, 1);
}

// Reads a page that is missing from a mapping that no FileMap has made; true: a handler of the process took the signal.
bool meets_a_missing_page(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  auto* data = static_cast<volatile char*>(::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, file, 4096 * 8));
  ::close(file);
  const bool jumped = sigsetjmp(g_out, 1) != 0;
  if (!jumped) (void)data[0];
  ::munmap(const_cast<char*>(data), 4096);
  return jumped;
}

TEST_F(FileMapTest, FaultsOfOthersGoToTheHandlerThatWasThereBefore) {
  const std::string path = write("data", pages()), small = write("small", "x");
  struct sigaction before {
  }, own{};
  own.sa_handler = jump_out;
  ::sigaction(SIGBUS, &own, &before);
  {
    const FileMap map = FileMap::open(path).value();
    EXPECT_NE(handler_now(), jump_out);
    g_signals = 0;
    EXPECT_TRUE(meets_a_missing_page(small));
    EXPECT_EQ(g_signals, 1);
    ASSERT_EQ(::truncate(path.c_str(), 4096), 0);
    EXPECT_EQ(map.bytes()[4096], 0);
    EXPECT_EQ(g_signals, 1) << "ours";
    EXPECT_FALSE(map.check().ok());
  }
  EXPECT_EQ(handler_now(), jump_out);
  ::sigaction(SIGBUS, &before, nullptr);
}

TEST_F(FileMapTest, FaultsOfOthersEndTheProcessWhereNobodyHandlesThem) {
  const std::string path = write("data", pages()), small = write("small", "x");
  const auto fault = [&] {
    ::signal(SIGBUS, SIG_DFL);
    const FileMap map = FileMap::open(path).value();
    meets_a_missing_page(small);
  };
  EXPECT_EXIT(fault(), ::testing::KilledBySignal(SIGBUS), "");
  const auto sent = [&] {
    ::signal(SIGBUS, SIG_DFL);
    const FileMap map = FileMap::open(path).value();
    ::raise(SIGBUS);
  };
  EXPECT_EXIT(sent(), ::testing::KilledBySignal(SIGBUS), "");
}

// The process's own handler, set while a map is there, stays; ours is not put over it.
TEST_F(FileMapTest, AHandlerThatTheProcessSetsLaterStays) {
  const std::string path = write("data", pages());
  const auto later = [&] {
    {
      const FileMap map = FileMap::open(path).value();
      ::signal(SIGBUS, jump_out);
      const FileMap second = FileMap::open(path).value();
      if (handler_now() != jump_out) ::_exit(1);
    }
    const FileMap third = FileMap::open(path).value();
    ::_exit(handler_now() == jump_out ? 0 : 2);
  };
  EXPECT_EXIT(later(), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace kvass
