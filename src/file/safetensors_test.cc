#include "file/safetensors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "seed.h"

namespace kvass {
namespace {

std::vector<uint8_t> file_of(const std::string& header, size_t data) {
  const uint64_t length = header.size();
  std::vector<uint8_t> bytes(sizeof length + header.size() + data);
  std::memcpy(bytes.data(), &length, sizeof length);
  std::copy(header.begin(), header.end(), bytes.begin() + sizeof length);
  for (size_t i = 0; i < data; ++i) bytes[sizeof length + header.size() + i] = static_cast<uint8_t>(i);
  return bytes;
}

const char* const kGood =
    R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"U8","shape":[],"data_offsets":[16,17]}})";

TEST(SafeTensors, FindsTensorsByName) {
  const std::vector<uint8_t> bytes = file_of(kGood, 17);
  Result<SafeTensors> file = SafeTensors::parse(bytes, "f");
  ASSERT_TRUE(file.ok()) << file.status().message();
  const SafeTensor* a = file->find("a");
  ASSERT_TRUE(a);
  EXPECT_EQ(a->dtype, "F32");
  EXPECT_EQ(a->shape, (std::vector<int64_t>{2, 2}));
  EXPECT_EQ(a->elements(), 4);
  EXPECT_EQ(a->bytes.size(), 16u);
  EXPECT_EQ(a->bytes[3], 3);
  EXPECT_EQ(file->find("b")->elements(), 1);
  EXPECT_EQ(file->find("c"), nullptr);
}

TEST(SafeTensors, RefusesBadHeadersByField) {
  const auto refusal = [](const std::string& header, size_t data) {
    const std::vector<uint8_t> bytes = file_of(header, data);
    Result<SafeTensors> file = SafeTensors::parse(bytes, "f");
    return file.ok() ? "accepted" : file.status().message();
  };
  EXPECT_EQ(refusal("[]", 0), "f: header: expected a JSON object, got JSON of type array");
  EXPECT_EQ(refusal("{", 0), "f: header: expected a JSON object, got no valid JSON");
  EXPECT_NE(refusal(R"({"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}})", 4).find("'a' dtype"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4).find("'a' shape"),
            std::string::npos);
  EXPECT_NE(
      refusal(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}})", 4).find("'a' shape"),
      std::string::npos);
  EXPECT_NE(refusal(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4).find("'a' data_offsets"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}})", 8).find("'a' data_offsets"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 7).find("'a' data_offsets"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"a":3})", 0).find("'a'"), std::string::npos);
}

TEST(SafeTensors, RefusesHeadersThatWouldHarmItsReaders) {
  const auto refusal = [](const std::string& header, size_t data) {
    const std::vector<uint8_t> bytes = file_of(header, data);
    Result<SafeTensors> file = SafeTensors::parse(bytes, "f");
    return file.ok() ? "accepted" : file.status().message();
  };
  const std::string deep = std::string(200000, '[') + std::string(200000, ']');
  const std::string deeper = "f: header: expected tensors of a dtype, a shape and data_offsets, got deeper nesting";
  EXPECT_EQ(refusal(R"({"a":{"dtype":"F32","shape":[)" + deep + R"(],"data_offsets":[0,4]}})", 4), deeper);
  EXPECT_EQ(refusal(deep, 0), deeper);
  EXPECT_EQ(refusal(R"({"__metadata__":)" + deep + "}", 0), deeper);
  EXPECT_EQ(
      refusal(
          R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}})",
          1),
      "f: header: expected each tensor once, got 'a' twice");
  EXPECT_EQ(refusal("{\"a\\nb\":3}", 0), "f: tensor 'a?b': expected a JSON object, got 3");
  EXPECT_EQ(refusal(R"({"a":{"dtype":"x\ny","shape":[],"data_offsets":[0,0]}})", 0),
            "f: tensor 'a' dtype: expected a type of the format, got 'x?y'");
  EXPECT_NE(
      refusal(R"({"a":{"dtype":"U8","shape":[0,18446744073709551615],"data_offsets":[0,0]}})", 0).find("'a' shape"),
      std::string::npos);
  EXPECT_NE(
      refusal(R"({"a":{"dtype":"U8","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}})", 0).find("'a' shape"),
      std::string::npos);
  EXPECT_NE(refusal(R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})", 1)
                .find("'a' shape"),
            std::string::npos);
  EXPECT_EQ(refusal(R"({"a":{"dtype":"F32","shape":[1000,0],"data_offsets":[0,0]}})", 0),
            "accepted");  // empty, and well formed
  EXPECT_EQ(refusal("\xff\xfe{}", 0), "f: header: expected a JSON object, got no valid JSON");
}

TEST(SafeTensors, ReadsTheGoldens) {
  const std::string path = std::string(KVASS_GOLDENS_DIR) + "/attention.safetensors";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no file " << path;
  Result<SafeTensors> file = SafeTensors::open(path);
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_FALSE(file->tensors().empty());
  for (const auto& [name, tensor] : file->tensors()) EXPECT_EQ(file->find(name), &tensor);
}

TEST(SafeTensors, RefusesEveryTruncationAndSurvivesMutations) {
  const std::vector<uint8_t> original = file_of(kGood, 17);
  for (size_t length = 0; length < original.size(); ++length) {
    const std::vector<uint8_t> cut(original.begin(), original.begin() + static_cast<ptrdiff_t>(length));
    ASSERT_FALSE(SafeTensors::parse(cut, "f").ok()) << length;
  }
  testing::Random random;
  for (int round = 0; round < 5000; ++round) {
    std::vector<uint8_t> bytes = original;
    bytes[random.bits() % bytes.size()] = static_cast<uint8_t>(random.bits());
    if (Result<SafeTensors> file = SafeTensors::parse(bytes, "f"); file.ok()) {
      for (const auto& [name, tensor] : file->tensors()) {
        if (!tensor.bytes.empty()) {
          ASSERT_GE(tensor.bytes.data(), bytes.data());
          ASSERT_LE(tensor.bytes.data() + tensor.bytes.size(), bytes.data() + bytes.size());
        }
      }
    }
  }
}

}  // namespace
}  // namespace kvass
