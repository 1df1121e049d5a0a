#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include "file/gguf.h"
#include "file/gguf_touch.h"
#include "file/gguf_writer.h"
#include "file/one_line.h"
#include "seed.h"

namespace kvass {
namespace {

std::vector<uint8_t> bytes_of(size_t count) {
  std::vector<uint8_t> bytes(count);
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<uint8_t>(i * 7 + 1);
  return bytes;
}

GgufWriter small_writer(uint32_t version = 3, uint64_t alignment = 32) {
  GgufWriter writer(version, alignment);
  writer.str("general.architecture", "gemma3");
  if (alignment != 32) writer.u64("general.alignment", alignment);
  writer.u8("u8", 200);
  writer.i8("i8", -100);
  writer.u16("u16", 60000);
  writer.i16("i16", -30000);
  writer.u32("u32", 4000000000u);
  writer.i32("i32", -2000000000);
  writer.u64("u64", uint64_t{1} << 62);
  writer.i64("i64", -(int64_t{1} << 62));
  writer.u64("too_large", ~uint64_t{0});
  writer.f32("f32", 0.5f);
  writer.f64("f64", -0.25);
  writer.boolean("bool", true);
  writer.strs("strings", std::vector<std::string>{"a", "", "c\xff"});
  writer.f32s("floats", std::vector<float>{1.0f, -2.0f});
  writer.i32s("ints", std::vector<int32_t>{3, -4, 5});
  writer.tensor("a", GgmlType::F32, std::vector<int64_t>{4, 3}, bytes_of(48));
  writer.tensor("b", GgmlType::Q8_0, std::vector<int64_t>{64, 2}, bytes_of(2 * 2 * 34));
  return writer;
}

std::string refusal(const std::vector<uint8_t>& bytes) {
  const Result<Gguf> file = Gguf::parse(bytes, "f.gguf");
  return file.ok() ? "accepted" : file.status().message();
}

TEST(Gguf, ReadsBackEveryMetadataTypeInBothVersions) {
  for (uint32_t version : {2u, 3u}) {
    const std::vector<uint8_t> bytes = small_writer(version).finish();
    Result<Gguf> file = Gguf::parse(bytes, "f.gguf");
    ASSERT_TRUE(file.ok()) << file.status().message();
    EXPECT_EQ(file->version(), version);
    EXPECT_EQ(file->get_string("general.architecture").value(), "gemma3");
    EXPECT_EQ(file->get_int("u8").value(), 200);
    EXPECT_EQ(file->get_int("i8").value(), -100);
    EXPECT_EQ(file->get_int("u16").value(), 60000);
    EXPECT_EQ(file->get_int("i16").value(), -30000);
    EXPECT_EQ(file->get_int("u32").value(), 4000000000);
    EXPECT_EQ(file->get_int("i32").value(), -2000000000);
    EXPECT_EQ(file->get_int("u64").value(), int64_t{1} << 62);
    EXPECT_EQ(file->get_int("i64").value(), -(int64_t{1} << 62));
    EXPECT_EQ(file->get_float("f32").value(), 0.5);
    EXPECT_EQ(file->get_float("f64").value(), -0.25);
    EXPECT_EQ(file->get_float("u8").value(), 200.0);
    EXPECT_TRUE(file->get_bool("bool").value());
    EXPECT_EQ(file->get_strings("strings").value(), (std::vector<std::string_view>{"a", "", "c\xff"}));
    EXPECT_EQ(file->get_floats("floats").value(), (std::vector<float>{1.0f, -2.0f}));
    EXPECT_EQ(file->get_ints("ints").value(), (std::vector<int64_t>{3, -4, 5}));
    EXPECT_EQ(file->get_int_or("absent", 7).value(), 7);
    EXPECT_FALSE(file->get_bool_or("absent", false).value());
    EXPECT_EQ(file->get_float_or("absent", 0.5).value(), 0.5);
    EXPECT_EQ(file->get_string_or("absent", "none").value(), "none");
  }
}

TEST(Gguf, AWrongTypeOrAMissingKeyIsAnErrorThatNamesFileAndKey) {
  const std::vector<uint8_t> bytes = small_writer().finish();
  Result<Gguf> file = Gguf::parse(bytes, "f.gguf");
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(file->get_int("f32").status().message(), "f.gguf: metadata 'f32': expected an integer below 2^63, got f32");
  EXPECT_EQ(file->get_int("absent").status().message(),
            "f.gguf: metadata 'absent': expected an integer below 2^63, got no such key");
  EXPECT_EQ(file->get_floats("ints").status().message(),
            "f.gguf: metadata 'ints': expected an array of f32, got array of i32");
  EXPECT_FALSE(file->get_int("too_large").ok());
  EXPECT_FALSE(file->get_bool("u8").ok());
  EXPECT_FALSE(file->get_string("bool").ok());
  EXPECT_FALSE(file->get_ints("floats").ok());
  EXPECT_FALSE(file->get_strings("floats").ok());
  EXPECT_FALSE(file->get_int_or("f32", 1).ok());
  EXPECT_FALSE(file->get_float_or("strings", 1).ok());
  EXPECT_FALSE(file->get_bool_or("u8", true).ok());
  EXPECT_FALSE(file->get_string_or("u8", "none").ok());
  EXPECT_EQ(file->tensor("zz").status().message(),
            "f.gguf: tensor 'zz': expected it in the file, got none of that name");
}

TEST(Gguf, ReadsBackArraysOfEveryElementType) {
  GgufWriter writer;
  const auto array = [&]<class T>(std::string_view key, GgufValueType element, std::vector<T> values) {
    writer.array<T>(key, element, values);
  };
  array("u8", GgufValueType::u8, std::vector<uint8_t>{0, 255});
  array("i8", GgufValueType::i8, std::vector<int8_t>{-128, 127});
  array("u16", GgufValueType::u16, std::vector<uint16_t>{0, 65535});
  array("i16", GgufValueType::i16, std::vector<int16_t>{-32768, 32767});
  array("u32", GgufValueType::u32, std::vector<uint32_t>{0, 4294967295u});
  array("u64", GgufValueType::u64, std::vector<uint64_t>{0, uint64_t{1} << 62});
  array("i64", GgufValueType::i64, std::vector<int64_t>{-1, 1});
  array("bool", GgufValueType::boolean, std::vector<uint8_t>{0, 1});
  array("f64", GgufValueType::f64, std::vector<double>{0.5, -1});
  array("empty", GgufValueType::f32, std::vector<float>{});
  array("large", GgufValueType::u64, std::vector<uint64_t>{uint64_t{1} << 63});
  const std::vector<uint8_t> bytes = writer.finish();
  Result<Gguf> file = Gguf::parse(bytes, "f.gguf");
  ASSERT_TRUE(file.ok()) << file.status().message();
  using Ints = std::vector<int64_t>;
  EXPECT_EQ(file->get_ints("u8").value(), (Ints{0, 255}));
  EXPECT_EQ(file->get_ints("i8").value(), (Ints{-128, 127}));
  EXPECT_EQ(file->get_ints("u16").value(), (Ints{0, 65535}));
  EXPECT_EQ(file->get_ints("i16").value(), (Ints{-32768, 32767}));
  EXPECT_EQ(file->get_ints("u32").value(), (Ints{0, 4294967295}));
  EXPECT_EQ(file->get_ints("u64").value(), (Ints{0, int64_t{1} << 62}));
  EXPECT_EQ(file->get_ints("i64").value(), (Ints{-1, 1}));
  EXPECT_EQ(file->get_ints("bool").value(), (Ints{0, 1}));
  EXPECT_TRUE(file->get_floats("empty")->empty());
  EXPECT_FALSE(file->get_ints("empty").ok());
  EXPECT_FALSE(file->get_ints("f64").ok());
  EXPECT_FALSE(file->get_ints("large").ok());
  EXPECT_FALSE(file->get_int("u8").ok());
  EXPECT_EQ(file->printable(file->entries()[8]), "[0.5, -1]");
}

TEST(Gguf, PrintsValuesShortAndOnOneLine) {
  GgufWriter writer;
  writer.str("long", std::string(59, 'x') + "é and more");
  writer.str("lines", "a\nb\tc");
  writer.f32("small", 1e-10f);
  writer.u64("large", ~uint64_t{0});
  writer.boolean("flag", true);
  writer.i32s("many", std::vector<int32_t>{1, 2, 3, 4, 5, 6, 7, 8});
  const std::vector<uint8_t> bytes = writer.finish();
  Result<Gguf> file = Gguf::parse(bytes, "f.gguf");
  ASSERT_TRUE(file.ok()) << file.status().message();
  std::vector<std::string> printed;
  for (const GgufEntry& entry : file->entries()) printed.push_back(file->printable(entry));
  EXPECT_EQ(printed, (std::vector<std::string>{std::string(59, 'x') + "…", "a b c", "1e-10", "18446744073709551615",
                                               "true", "[1, 2, 3, 4, 5, 6, … 8 in all]"}));
}

TEST(OneLine, NeverCutsInsideACharacter) {
  const std::string text = "aé€😀z";  // 1, 2, 3, 4 and 1 bytes
  const std::map<size_t, std::string> cuts = {{0, "…"},    {1, "a…"},   {2, "a…"},     {3, "aé…"}, {5, "aé…"},
                                              {6, "aé€…"}, {9, "aé€…"}, {10, "aé€😀…"}, {11, text}, {99, text}};
  for (const auto& [most, expected] : cuts) EXPECT_EQ(one_line(text, most, '?'), expected) << most;
  EXPECT_EQ(one_line(std::string(9, '\x80'), 5, '?').size(), 2 + std::strlen("…"));  // not UTF-8: still an end
  EXPECT_EQ(quoted_name("a\nb"), "'a?b'");
}

TEST(Gguf, ReadsBackEveryTensorType) {
  const std::vector<std::pair<GgmlType, size_t>> rows = {
      // bytes of a row of 256
      {GgmlType::F32, 1024},   {GgmlType::F16, 512},  {GgmlType::BF16, 512},   {GgmlType::Q8_0, 272},
      {GgmlType::Q4_0, 144},   {GgmlType::Q4_1, 160}, {GgmlType::Q5_0, 176},   {GgmlType::Q5_1, 192},
      {GgmlType::Q4_K, 144},   {GgmlType::Q5_K, 176}, {GgmlType::Q6_K, 210},   {GgmlType::IQ4_NL, 144},
      {GgmlType::Q2_K, 84},    {GgmlType::Q3_K, 110}, {GgmlType::IQ4_XS, 136}, {GgmlType::IQ3_S, 110},
      {GgmlType::IQ3_XXS, 98}, {GgmlType::IQ2_S, 82}, {GgmlType::IQ2_XS, 74},  {GgmlType::IQ2_XXS, 66},
      {GgmlType::IQ1_M, 56},   {GgmlType::IQ1_S, 50}, {GgmlType::TQ2_0, 66},   {GgmlType::TQ1_0, 54},
      {GgmlType::MXFP4, 136},  {GgmlType::NVFP4, 144}};
  GgufWriter writer;
  for (const auto& [type, bytes] : rows) {
    writer.tensor(ggml_type_name(type), type, std::vector<int64_t>{256, 1, 3, 1}, bytes_of(3 * bytes));
  }
  const std::vector<uint8_t> bytes = writer.finish();
  Result<Gguf> read = Gguf::parse(bytes, "f.gguf");
  ASSERT_TRUE(read.ok()) << read.status().message();
  const Gguf file = std::move(read).value();  // what it finds survives a move
  ASSERT_EQ(file.tensors().size(), rows.size());
  for (const auto& [type, row] : rows) {
    const GgufTensor* tensor = file.find_tensor(ggml_type_name(type));
    ASSERT_TRUE(tensor) << ggml_type_name(type);
    EXPECT_EQ(tensor->type, type);
    EXPECT_EQ(tensor->shape, (std::vector<int64_t>{256, 1, 3, 1}));
    ASSERT_EQ(tensor->bytes, 3 * row) << tensor->name;
    EXPECT_EQ(std::memcmp(tensor->data, bytes_of(3 * row).data(), tensor->bytes), 0) << tensor->name;
    EXPECT_EQ(tensor->data, bytes.data() + tensor->offset);
  }
}

TEST(Gguf, FindsTensorsAtTheirAlignedOffsets) {
  for (uint64_t alignment : {1u, 2u, 4u, 8u, 32u, 4096u, 1u << 20}) {
    const std::vector<uint8_t> bytes = small_writer(3, alignment).finish();
    Result<Gguf> file = Gguf::parse(bytes, "f.gguf");
    ASSERT_TRUE(file.ok()) << file.status().message();
    ASSERT_EQ(file->tensors().size(), 2u);
    const GgufTensor* a = file->find_tensor("a");
    const GgufTensor* b = file->find_tensor("b");
    ASSERT_TRUE(a && b);
    EXPECT_EQ(a->shape, (std::vector<int64_t>{4, 3}));
    EXPECT_EQ(b->type, GgmlType::Q8_0);
    EXPECT_EQ(b->bytes, 136u);
    EXPECT_EQ(a->offset % alignment, 0u);
    EXPECT_EQ(std::memcmp(a->data, bytes_of(48).data(), 48), 0);
    EXPECT_EQ(std::memcmp(b->data, bytes_of(136).data(), 136), 0);
  }
}

TEST(Gguf, RefusesEveryTruncation) {
  const std::vector<uint8_t> bytes = small_writer().finish();
  const size_t end_of_data = bytes.size() - (160 - 136);  // the last tensor's padding may be missing
  for (size_t length = 0; length < end_of_data; ++length) {
    const std::vector<uint8_t> cut(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(length));
    const std::string message = refusal(cut);
    ASSERT_NE(message, "accepted") << length;
    ASSERT_EQ(message.find("f.gguf: "), 0u) << message;
    ASSERT_EQ(message.find('\n'), std::string::npos);
  }
  EXPECT_EQ(refusal(std::vector<uint8_t>(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(end_of_data))),
            "accepted");
}

TEST(Gguf, RefusesHostileFieldsByName) {
  const auto header = [](uint32_t version, uint64_t tensors, uint64_t entries) {
    std::vector<uint8_t> out = {'G', 'G', 'U', 'F'};
    out.resize(24);
    std::memcpy(&out[4], &version, 4);
    std::memcpy(&out[8], &tensors, 8);
    std::memcpy(&out[16], &entries, 8);
    return out;
  };
  EXPECT_NE(refusal({'G', 'G', 'M', 'L', 3, 0, 0, 0}).find("magic"), std::string::npos);
  EXPECT_NE(refusal(header(1, 0, 0)).find("version: expected 2 or 3, got 1"), std::string::npos);
  EXPECT_NE(refusal(header(0x03000000, 0, 0)).find("big-endian"), std::string::npos);
  EXPECT_NE(refusal(header(3, uint64_t{1} << 63, 0)).find("tensor count"), std::string::npos);
  EXPECT_NE(refusal(header(3, 0, ~uint64_t{0})).find("metadata count"), std::string::npos);

  const auto entry = [&](std::vector<uint64_t> words) {  // raw words after a header with one entry
    std::vector<uint8_t> out = header(3, 0, 1);
    for (uint64_t word : words) {
      const uint8_t* bytes = reinterpret_cast<const uint8_t*>(&word);
      out.insert(out.end(), bytes, bytes + 8);
    }
    return out;
  };
  EXPECT_NE(refusal(entry({~uint64_t{0}, 0, 0})).find("metadata key 0 length"), std::string::npos);
  EXPECT_NE(refusal(entry({0, 99, 0})).find("type: expected 0 to 12, got 99"), std::string::npos);
  // an array of strings with 2^61 elements; an array of f64 whose bytes would overflow; an array of arrays
  EXPECT_NE(refusal(entry({0, 9 | (uint64_t{8} << 32), uint64_t{1} << 61, 0})).find("element count"),
            std::string::npos);
  EXPECT_NE(refusal(entry({0, 9 | (uint64_t{12} << 32), uint64_t{1} << 61, 0})).find("element count"),
            std::string::npos);
  // arrays of arrays: too many of them, and an inner one that is cut off
  EXPECT_NE(refusal(entry({0, 9 | (uint64_t{9} << 32), uint64_t{1} << 61, 0})).find("element count"),
            std::string::npos);
  EXPECT_NE(refusal(entry({0, 9 | (uint64_t{9} << 32), 1, uint64_t{100} << 32})).find("element count"),
            std::string::npos);
  // a string of 2^64 - 1 bytes, alone and in an array; an f64 cut off; an element type of 13
  EXPECT_NE(refusal(entry({0, 8 | (~uint64_t{0} << 32), 0xffffffff, 0})).find("metadata '' length"), std::string::npos);
  EXPECT_NE(refusal(entry({0, 9 | (uint64_t{8} << 32), 1, ~uint64_t{0}})).find("metadata '' length"),
            std::string::npos);
  EXPECT_EQ(refusal(entry({0, 12})), "f.gguf: metadata '' value: expected 8 bytes, got 4 before the end of the file");
  EXPECT_NE(refusal(entry({0, 9 | (uint64_t{13} << 32), 1, 0})).find("element type: expected 0 to 12, got 13"),
            std::string::npos);
}

TEST(Gguf, RefusesBadTensorsByName) {
  const auto with = [](std::vector<int64_t> shape, GgmlType type, size_t bytes, uint64_t alignment_key = 0) {
    GgufWriter writer;
    if (alignment_key != 0) writer.u64("general.alignment", alignment_key);
    writer.tensor("w", type, shape, bytes_of(bytes));
    return refusal(writer.finish());
  };
  EXPECT_EQ(with({32}, GgmlType::F32, 128), "accepted");
  EXPECT_EQ(
      with({32}, static_cast<GgmlType>(9), 128),
      "f.gguf: tensor 'w' type: expected F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K, IQ4_NL, Q2_K, "
      "Q3_K, IQ4_XS, IQ3_S, IQ3_XXS, IQ2_S, IQ2_XS, IQ2_XXS, IQ1_M, IQ1_S, TQ2_0, TQ1_0, MXFP4 or NVFP4, got type "
      "number 9 "
      "(Q8_1)");
  EXPECT_NE(with({32}, static_cast<GgmlType>(1000), 128).find("got type number 1000"), std::string::npos);
  EXPECT_NE(with({33}, GgmlType::Q8_0, 128).find("'w' row length: expected a multiple of 32 (Q8_0), got 33"),
            std::string::npos);
  EXPECT_NE(with({}, GgmlType::Q8_0, 128).find("'w' row length: expected a multiple of 32 (Q8_0), got 1"),
            std::string::npos);
  EXPECT_NE(with({1, 1, 1, 1, 1}, GgmlType::F32, 128).find("'w' dimensions"), std::string::npos);
  EXPECT_NE(with({32, -1}, GgmlType::F32, 128).find("'w' shape"), std::string::npos);
  EXPECT_NE(with({int64_t{1} << 32, int64_t{1} << 32}, GgmlType::F32, 128).find("'w' shape"), std::string::npos);
  EXPECT_NE(with({32, 100}, GgmlType::F32, 128).find("'w' data"), std::string::npos);
  for (uint64_t alignment : {uint64_t{3}, uint64_t{24}, uint64_t{33}, uint64_t{1} << 63, ~uint64_t{0}}) {
    EXPECT_NE(with({32}, GgmlType::F32, 128, alignment).find("general.alignment"), std::string::npos) << alignment;
  }
  EXPECT_NE(with({32}, GgmlType::F32, 128, uint64_t{1} << 62).find("a start before the end of the file"),
            std::string::npos);
  GgufWriter twice;
  twice.tensor("w", GgmlType::F32, std::vector<int64_t>{8}, bytes_of(32));
  twice.tensor("w", GgmlType::F32, std::vector<int64_t>{8}, bytes_of(32));
  EXPECT_NE(refusal(twice.finish()).find("'w': expected each tensor once"), std::string::npos);
  GgufWriter keys;
  keys.u8("k", 1);
  keys.u8("k", 2);
  EXPECT_NE(refusal(keys.finish()).find("'k': expected each key once"), std::string::npos);
}

TEST(Gguf, WhatNobodyReadsMayBeWhatNobodyUnderstands) {
  const auto array_of_arrays = [](int depth, std::vector<uint8_t> end) {
    std::vector<uint8_t> file = {'G', 'G', 'U', 'F', 3, 0, 0, 0};
    const auto put = [&](auto value) {
      const uint8_t* bytes = reinterpret_cast<const uint8_t*>(&value);
      file.insert(file.end(), bytes, bytes + sizeof value);
    };
    put(uint64_t{0});
    put(uint64_t{2});
    put(uint64_t{1});
    file.push_back('n');
    for (int i = 0; i < depth; ++i) {
      put(uint32_t{9});
      if (i > 0) put(uint64_t{1});
    }
    file.insert(file.end(), end.begin(), end.end());
    put(uint64_t{1});
    file.insert(file.end(), {'b', 7, 0, 0, 0, 5});  // a bool of 5
    return file;
  };
  const std::vector<uint8_t> two_bytes = {0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 8, 9};  // u8, two of them
  std::vector<uint8_t> in_one = {1, 0, 0, 0, 0, 0, 0, 0};                             // one array of them
  const std::vector<uint8_t> bytes = array_of_arrays(2, [&] {
    in_one.insert(in_one.end(), two_bytes.begin(), two_bytes.end());
    return in_one;
  }());
  const Result<Gguf> file = Gguf::parse(bytes, "f.gguf");
  ASSERT_TRUE(file.ok()) << file.status().message();
  ASSERT_EQ(file->entries().size(), 2u);
  EXPECT_EQ(file->printable(file->entries()[0]), "[1 arrays]");
  EXPECT_EQ(file->get_ints("n").status().message(),
            "f.gguf: metadata 'n': expected an array of integers below 2^63, got array of array");
  EXPECT_EQ(file->printable(file->entries()[1]), "5");
  EXPECT_EQ(file->get_bool("b").status().message(), "f.gguf: metadata 'b': expected a bool, got bool of value 5");
  EXPECT_FALSE(file->get_int("b").ok());
  touch(file.value());

  std::vector<uint8_t> deep = {1, 0, 0, 0, 0, 0, 0, 0};
  for (int i = 0; i < 1000; ++i) deep.insert(deep.end(), {9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0});
  deep.insert(deep.end(), two_bytes.begin(), two_bytes.end());
  EXPECT_EQ(refusal(array_of_arrays(2, deep)),
            "f.gguf: metadata 'n': expected arrays at most 16 deep, got deeper ones");
}

TEST(Gguf, TensorsWithoutElementsOrDimensionsAreTensors) {
  GgufWriter writer;
  writer.tensor("none", GgmlType::F32, std::vector<int64_t>{0}, {});
  writer.tensor("rows", GgmlType::Q8_0, std::vector<int64_t>{32, 0, int64_t{1} << 47}, {});
  writer.tensor("one", GgmlType::F32, {}, bytes_of(4));
  const std::vector<uint8_t> bytes = writer.finish();
  const Result<Gguf> file = Gguf::parse(bytes, "f.gguf");
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->find_tensor("none")->bytes, 0u);
  EXPECT_EQ(file->find_tensor("rows")->bytes, 0u);
  ASSERT_EQ(file->find_tensor("one")->bytes, 4u);
  EXPECT_EQ(std::memcmp(file->find_tensor("one")->data, bytes_of(4).data(), 4), 0);
}

TEST(Gguf, RefusesAnAlignmentOfZeroOrOfAnotherType) {
  GgufWriter zero;
  zero.u32("general.alignment", 0);
  EXPECT_NE(refusal(zero.finish()).find("general.alignment: expected a power of two"), std::string::npos);
  GgufWriter text;
  text.str("general.alignment", "32");
  EXPECT_EQ(refusal(text.finish()), "f.gguf: metadata 'general.alignment': expected an integer below 2^63, got string");
}

TEST(Gguf, RefusesTensorNamesThatAreTooLongAndShowsNamesOnOneLine) {
  const auto named = [](const std::string& name, GgmlType type = GgmlType::F32) {
    GgufWriter writer;
    writer.tensor(name, type, std::vector<int64_t>{8}, bytes_of(32));
    return refusal(writer.finish());
  };
  EXPECT_EQ(named(std::string(127, 'n')), "accepted");
  EXPECT_EQ(named(std::string(128, 'n')), "f.gguf: tensor name 0 length: expected at most 127, got 128");
  EXPECT_EQ(named("two\nlines", static_cast<GgmlType>(9)).find('\n'), std::string::npos);
}

TEST(Gguf, ChecksTensorOffsetsAndLetsTensorsShareBytes) {
  GgufWriter writer;
  writer.tensor("first", GgmlType::F32, std::vector<int64_t>{8}, bytes_of(32));
  writer.tensor("second", GgmlType::F32, std::vector<int64_t>{8}, bytes_of(32));
  const std::vector<uint8_t> good = writer.finish();
  const std::string second = "second";
  const auto name = std::search(good.begin(), good.end(), second.begin(), second.end());
  ASSERT_NE(name, good.end());
  const size_t at = static_cast<size_t>(name - good.begin()) + second.size() + 4 + 8 + 4;  // dimensions, one size, type
  const auto with = [&](uint64_t offset) {
    std::vector<uint8_t> bytes = good;
    std::memcpy(&bytes[at], &offset, sizeof offset);
    return refusal(bytes);
  };
  EXPECT_EQ(with(32), "accepted");
  EXPECT_EQ(with(0), "accepted");
  EXPECT_EQ(with(8), "f.gguf: tensor 'second' offset: expected a multiple of 32, got 8");
  for (uint64_t offset : {uint64_t{64}, uint64_t{1} << 40, uint64_t{1} << 63, ~uint64_t{31}}) {
    EXPECT_NE(with(offset).find("tensor 'second' data: expected 32 bytes at offset"), std::string::npos) << offset;
  }
}

TEST(Gguf, SurvivesEveryByteSetToAnExtreme) {
  const std::vector<uint8_t> original = small_writer().finish();
  for (size_t at = 0; at < original.size(); ++at) {
    for (int value : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      std::vector<uint8_t> bytes = original;
      bytes[at] = static_cast<uint8_t>(value);
      const Result<Gguf> file = Gguf::parse(bytes, "f.gguf");
      if (file.ok()) touch(file.value());
      ASSERT_EQ(file.status().message().find('\n'), std::string::npos);
    }
  }
}

TEST(Gguf, SurvivesMutationsAndServesWhatItAccepts) {
  testing::Random random;
  const std::vector<uint8_t> original = small_writer().finish();
  size_t accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::vector<uint8_t> bytes = original;
    for (uint64_t i = random.bits() % 3; i < 3; ++i)
      bytes[random.bits() % (bytes.size() - 192)] = static_cast<uint8_t>(random.bits());
    if (random.bits() % 8 == 0) bytes.resize(random.bits() % bytes.size());
    if (Result<Gguf> file = Gguf::parse(bytes, "f.gguf"); file.ok()) {
      ++accepted;
      touch(file.value());
    }
  }
  EXPECT_GT(accepted, 0u);      // some bytes do not matter
  EXPECT_LT(accepted, 20000u);  // most do
}

TEST(Gguf, OpensByPathAndSaysWhatIsWrongWithThePath) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("kvass_gguf_" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  const std::string path = (folder / "small.gguf").string();
  ASSERT_TRUE(small_writer().write(path).ok());
  {
    Result<Gguf> file = Gguf::open(path);
    ASSERT_TRUE(file.ok()) << file.status().message();
    const GgufTensor* a = file->find_tensor("a");
    file->release(*a, 0, a->bytes);
    EXPECT_EQ(a->data[1], 8);  // a released page is read again
  }
  EXPECT_EQ(Gguf::open(folder.string()).status().message(),
            folder.string() + ": expected a regular file, got a folder");
  EXPECT_EQ(Gguf::open(path + "x").status().message(),
            path + "x: expected a readable file, got No such file or directory");
  std::ofstream(path, std::ios::trunc).close();
  EXPECT_EQ(Gguf::open(path).status().message(), path + ": expected a file with content, got an empty file");
  std::filesystem::remove_all(folder);
}

TEST(Gguf, ReadsTheRealModel) {
  const char* path = std::getenv("KVASS_MODEL");
  if (!path || !std::filesystem::exists(path)) GTEST_SKIP() << "KVASS_MODEL names no file: the real model is not read";
  Result<Gguf> file = Gguf::open(path);
  ASSERT_TRUE(file.ok()) << file.status().message();
  std::map<std::string_view, int> types;
  for (const GgufTensor& tensor : file->tensors()) ++types[ggml_type_name(tensor.type)];
  EXPECT_EQ(types["Q5_0"], 81);
  EXPECT_EQ(types["Q4_K"], 27);
  EXPECT_EQ(types["Q8_0"], 10);
  EXPECT_EQ(types["Q6_K"], 9);
  EXPECT_EQ(types["F32"], static_cast<int>(file->tensors().size()) - 81 - 27 - 10 - 9);
  EXPECT_EQ(types.size(), 5u);
  EXPECT_EQ(file->get_string("general.architecture").value(), "gemma3");
  EXPECT_EQ(file->get_strings("tokenizer.ggml.tokens")->size(), 262144u);
}

}  // namespace
}  // namespace kvass
