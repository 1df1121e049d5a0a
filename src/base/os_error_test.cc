// The codes of what the operating system says, and that fields in messages are found as whole words.
#include "base/os_error.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "base/file_map.h"
#include "base/new_file.h"
#include "kvass/fields.h"

namespace kvass {
namespace {

TEST(OsError, NoMemoryIsOutOfMemoryAndTheRestIsIo) {
  EXPECT_EQ(os_error("weights", "room", ENOMEM).code(), StatusCode::out_of_memory);
  for (const int error : {ENOENT, EACCES, EIO, ENOSPC, EMFILE}) {
    EXPECT_EQ(os_error("model.gguf", "a readable file", error).code(), StatusCode::io);
  }
  EXPECT_EQ(os_error("a", "b", ENOENT).message(), "a: expected b, got No such file or directory");
  EXPECT_EQ(os_error("", "b", ENOENT).message(), "path: expected b, got an empty name");
  EXPECT_EQ(os_error("", "b", ENOENT).code(), StatusCode::bad_input);
  EXPECT_EQ(out_of_memory("arena", 42, "memory", "none").message(), "arena: expected 42 bytes of memory, got none");
}

TEST(OsError, FilesThatCannotBeOpenedAreIoAndWrongOnesBadInput) {
  EXPECT_EQ(FileMap::open("/nowhere/model").status().code(), StatusCode::io);
  EXPECT_EQ(FileMap::open("/").status().code(), StatusCode::bad_input);
  EXPECT_EQ(NewFile::create("/nowhere/model").status().code(), StatusCode::io);
  EXPECT_EQ(check_new_file("/nowhere/model").code(), StatusCode::io);
  EXPECT_EQ(check_new_file("/").code(), StatusCode::bad_input);
}

std::string translated(std::string_view message) {
  return translate_fields(message, [](std::string_view field) -> std::string_view {
    if (field == "CacheOptions.context") return "--context";
    if (field == "SampleOptions.top_k") return "--top-k";
    return {};
  });
}

TEST(Fields, AreTranslatedWhereverTheyStandInAMessage) {
  EXPECT_EQ(translated("CacheOptions.context: expected 1, got 0; raise CacheOptions.context."),
            "--context: expected 1, got 0; raise --context.");
  EXPECT_EQ(translated("(CacheOptions.context) minus SampleOptions.top_k"), "(--context) minus --top-k");
  EXPECT_EQ(translated("stream.kvsnap: CacheOptions.context: expected 1, got 2"),
            "stream.kvsnap: --context: expected 1, got 2");
}

TEST(Fields, AreWholeWordsAndUnknownOnesStay) {
  for (const char* message :
       {"CacheOptions.contexts", "MyCacheOptions.context", "CacheOptions.context.txt", "a/CacheOptions.context",
        "CacheOptions.context/b", "x.CacheOptions.context", "my-CacheOptions.context", "CacheOptions.chunk",
        "CacheOptions.", "CacheOptions", ".context", "general.architecture: expected gemma3, got 1.5", "", "é.b ü"}) {
    EXPECT_EQ(translated(message), message);
  }
}

}  // namespace
}  // namespace kvass
