#include "serve/multipart.h"

#include <gtest/gtest.h>

namespace kvass::serve {
namespace {

constexpr char kType[] = "multipart/form-data; boundary=\"a b\"";

TEST(Form, PartsHaveTheirNamesAndBytes) {
  const std::string body =
      "preamble\r\n--a b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a "
      "\\\"b\\\".wav\"\r\nContent-Type: "
      "audio/wav\r\n\r\nRIFF\r\n\r\n--a c\r\n--a b  \r\ncontent-disposition: form-data; name=model\r\n\r\n\r\n--a "
      "b--\r\n";
  const Result<std::vector<FormPart>> parts = parse_form(kType, body);
  ASSERT_TRUE(parts.ok()) << parts.status().message();
  ASSERT_EQ(parts->size(), 2u);
  EXPECT_EQ(parts.value()[0].name, "file");
  EXPECT_EQ(parts.value()[0].file, "a \"b\".wav");
  EXPECT_EQ(parts.value()[0].body, "RIFF\r\n\r\n--a c");
  EXPECT_EQ(parts.value()[1].name, "model");
  EXPECT_EQ(parts.value()[1].body, "");
}

TEST(Form, WhatIsNoneIsRefused) {
  for (const char* type : {"", "application/json", "multipart/form-data", "multipart/form-data; boundary="}) {
    EXPECT_FALSE(parse_form(type, "--a b--").ok()) << type;
  }
  for (const char* body :
       {"", "--a b", "--a b\r\n", "--a b\r\n\r\nx", "--a b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--a b--",
        "--a b\r\nname: x\r\n--a b--", "--a bx\r\n\r\n\r\n--a b--"}) {
    EXPECT_FALSE(parse_form(kType, body).ok()) << body;
  }
  EXPECT_TRUE(parse_form(kType, "--a b--").ok());
}

}  // namespace
}  // namespace kvass::serve
