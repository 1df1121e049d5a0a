#include "base/file_map.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>

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

}  // namespace
}  // namespace kvass
