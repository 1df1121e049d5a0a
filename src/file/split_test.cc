// Split GGUF files: their parts are found and checked, and what is wrong with one is said of it.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "damage.h"
#include "file/gguf.h"
#include "file/gguf_writer.h"
#include "scratch.h"

namespace kvass {
namespace {

using testing::expect_words;
using testing::Scratch;

struct Part {
  std::vector<std::string> tensors;
  int number = 0;        // from 0
  int count = 3;         // 0: no split.* keys
  int all_tensors = 4;   // split.tensors.count
  std::string metadata;  // general.architecture; empty: none
  uint64_t alignment = 32;
};

// A tensor's bytes say its name.
std::vector<uint8_t> bytes_of(const std::string& name) {
  return std::vector<uint8_t>(32, static_cast<uint8_t>(name[0]));
}

std::vector<uint8_t> bytes_of(const Part& part) {
  GgufWriter writer(3, part.alignment);
  if (part.alignment != 32) writer.u64("general.alignment", part.alignment);
  if (!part.metadata.empty()) writer.str("general.architecture", part.metadata);
  if (part.count != 0) {
    writer.u16("split.no", static_cast<uint16_t>(part.number));
    writer.u16("split.count", static_cast<uint16_t>(part.count));
    writer.i32("split.tensors.count", part.all_tensors);
  }
  for (const std::string& name : part.tensors) {
    writer.tensor(name, GgmlType::F32, std::vector<int64_t>{8}, bytes_of(name));
  }
  return writer.finish();
}

void write(const std::string& path, const std::vector<uint8_t>& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<long>(bytes.size()));
}

class SplitGguf : public ::testing::Test {
 protected:
  void SetUp() override {
    write_parts([](std::vector<Part>&) {});
  }
  void write_parts(const std::function<void(std::vector<Part>&)>& damage) {
    std::vector<Part> parts = {{{"a", "b"}, 0, 3, 4, "llama"}, {{"c"}, 1, 3, 4, ""}, {{"d"}, 2, 3, 4, "", 64}};
    damage(parts);
    for (size_t i = 0; i < parts.size(); ++i) write(path(i + 1), bytes_of(parts[i]));
  }
  std::string path(size_t number) const { return scratch_.file("m-0000" + std::to_string(number) + "-of-00003.gguf"); }
  std::string refusal(size_t given) const {
    const Result<Gguf> file = Gguf::open(path(given));
    return file.ok() ? "accepted" : file.status().message();
  }
  // Refused whichever part is given, but for `alone`.
  void expect_refused(std::initializer_list<const char*> words, size_t alone = 0) const {
    for (size_t given = 1; given <= 3; ++given) {
      if (given != alone) expect_words(refusal(given), words);
    }
  }

  Scratch scratch_;
};

TEST_F(SplitGguf, AnyPartGivesTheWholeModel) {
  for (size_t given = 1; given <= 3; ++given) {
    const Result<Gguf> file = Gguf::open(path(given));
    ASSERT_TRUE(file.ok()) << file.status().message();
    EXPECT_EQ(file->name(), path(1));
    EXPECT_EQ(file->get_string("general.architecture").value(), "llama");
    ASSERT_EQ(file->tensors().size(), 4u);
    for (const std::string name : {"a", "b", "c", "d"}) {
      const GgufTensor* tensor = file->find_tensor(name);
      ASSERT_TRUE(tensor) << name;
      EXPECT_EQ(std::vector<uint8_t>(tensor->data, tensor->data + tensor->bytes), bytes_of(name));
      EXPECT_EQ(file->name(*tensor), path(name < "c" ? 1 : name == "c" ? 2 : 3));
      file->release(*tensor, 0, tensor->bytes);
      EXPECT_EQ(tensor->data[0], static_cast<uint8_t>(name[0])) << "a released page is read again";
    }
    EXPECT_TRUE(file->check().ok());
    std::filesystem::resize_file(path(2), std::filesystem::file_size(path(2)) - 1);
    expect_words(file->check().message(), {"m-00002-of-00003.gguf", "cut off"});
    SetUp();
  }
}

TEST_F(SplitGguf, AMissingPartIsNamed) {
  std::filesystem::remove(path(3));
  for (const size_t given : {1, 2}) {
    expect_words(refusal(given), {"part 3 of 3 of a split model", path(3).c_str(), "No such file"});
  }
  SetUp();
  std::filesystem::remove(path(1));
  for (const size_t given : {2, 3}) expect_words(refusal(given), {"part 1 of 3", path(1).c_str(), "No such file"});
}

TEST_F(SplitGguf, ATruncatedPartIsNamed) {
  std::filesystem::resize_file(path(2), std::filesystem::file_size(path(2)) - 8);
  expect_refused({path(2).c_str(), "tensor 'c' data", "cut off"});
  std::filesystem::resize_file(path(2), 0);
  expect_refused({path(2).c_str(), "an empty file"});
}

TEST_F(SplitGguf, APartOfAnotherModelIsNamed) {
  write_parts([](std::vector<Part>& parts) { parts[1].count = 4; });
  expect_refused({path(2).c_str(), "part 2 of 4"});
  write_parts([](std::vector<Part>& parts) { parts[1].count = 0; });
  expect_refused({"part 2 of 3", path(2).c_str(), "a whole file"}, 2);
  EXPECT_EQ(refusal(2), "accepted") << "it is a whole file";
  write_parts([](std::vector<Part>& parts) { parts[2].all_tensors = 9; });
  expect_refused({"split.tensors.count", "9", "4"});
  write_parts([](std::vector<Part>& parts) { parts[2].metadata = "gemma3"; });
  expect_refused({"part 3 of 3", path(3).c_str(), "general.architecture", "another value"});
  write_parts([](std::vector<Part>& parts) { parts[2].metadata = "llama"; });
  EXPECT_EQ(refusal(1), "accepted") << "the same value";
}

TEST_F(SplitGguf, APartThatIsThereTwiceIsNamed) {
  std::filesystem::copy_file(path(2), path(3), std::filesystem::copy_options::overwrite_existing);
  for (size_t given = 1; given <= 3; ++given) {
    expect_words(refusal(given), {path(3).c_str(), "as its name says", "part 2 of 3"});
  }
  write_parts([](std::vector<Part>& parts) { parts[2].tensors = {"c"}; });
  expect_refused({path(3).c_str(), "tensor 'c'", path(2).c_str(), "as well"});
}

TEST_F(SplitGguf, TheTensorsOfAllPartsAreCounted) {
  write_parts([](std::vector<Part>& parts) {
    for (Part& part : parts) part.all_tensors = 5;
  });
  expect_refused({"split.tensors.count", "expected 4", "got 5"});
  write_parts([](std::vector<Part>& parts) { parts[0].number = 7; });
  expect_words(refusal(1), {"split.no", "0 to 2", "7"});
}

TEST_F(SplitGguf, ARenamedPartSaysWhatItIs) {
  const std::string other = scratch_.file("model.gguf");
  std::filesystem::copy_file(path(2), other);
  expect_words(Gguf::open(other).status().message(),
               {other.c_str(), "-00002-of-00003.gguf", "part 2 of 3 of a split model", "another name"});
  const std::string wrong = scratch_.file("m-00001-of-00002.gguf");
  std::filesystem::copy_file(path(2), wrong);
  expect_words(Gguf::open(wrong).status().message(), {wrong.c_str(), "part 1 of 2", "got part 2 of 3"});
}

TEST_F(SplitGguf, PartsThatWerePutTogetherSayWhatTheyAre) {
  std::vector<uint8_t> all;
  for (size_t number = 1; number <= 3; ++number) {
    const std::vector<uint8_t> part = scratch_.read(std::filesystem::path(path(number)).filename());
    all.insert(all.end(), part.begin(), part.end());
  }
  for (const std::string& name : {scratch_.file("joined.gguf"), path(1)}) {
    write(name, all);
    expect_words(Gguf::open(name).status().message(),
                 {name.c_str(), "another GGUF file at offset", "parts of a split model", "byte by byte"});
  }
  const std::vector<uint8_t> whole = bytes_of({{"a"}, 0, 0, 0, "llama"});
  std::vector<uint8_t> two = whole;
  two.insert(two.end(), whole.begin(), whole.end());
  expect_words(Gguf::parse(two, "two.gguf").status().message(), {"two.gguf", "two files, put together"});
}

TEST_F(SplitGguf, AModelInOnePartIsAWholeFile) {
  const std::string one = scratch_.file("any name");
  write(one, bytes_of({{"a", "b"}, 0, 1, 2, "llama"}));
  EXPECT_TRUE(Gguf::open(one).ok());
  write(one, bytes_of({{"a", "b"}, 0, 1, 3, "llama"}));
  expect_words(Gguf::open(one).status().message(), {"split.tensors.count", "expected 2", "got 3"});
}

// The first part may have the metadata alone.
TEST_F(SplitGguf, APartMayHaveNoTensors) {
  write_parts([](std::vector<Part>& parts) {
    parts[0].tensors = {};
    parts[1].tensors = {"a", "b", "c"};
  });
  EXPECT_EQ(refusal(3), "accepted");
}

}  // namespace
}  // namespace kvass
