// The programs of examples/, in C++ and in C, on tiny models: each pair prints one thing, which is the command's.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "test_models.h"

namespace {

using kvass::testing::output_of;

const std::string kExamples = KVASS_EXAMPLES_DIR "/example_";

class Examples : public ::testing::Test {
 protected:
  void TearDown() override {
    std::filesystem::remove(text_);
    std::filesystem::remove(audio_);
    std::filesystem::remove_all(speech_);
  }
  // What both programs print, given the same.
  static std::string both(const std::string& name, const std::string& arguments) {
    const std::string printed = output_of(kExamples + name + " " + arguments);
    EXPECT_EQ(output_of(kExamples + name + "_c " + arguments), printed);
    return printed;
  }
  // Messages of wrong files, with exit code 1.
  static void refuses(const std::string& name, const std::string& arguments) {
    for (const std::string& program : {name, name + "_c"}) {
      const std::string printed = output_of(kExamples + program + " " + arguments + " 2>&1; test $? = 1");
      EXPECT_NE(printed.find("/no/such"), std::string::npos) << program << ": " << printed;
    }
  }

  const std::string text_ = kvass::testing::write_tiny_text_model("examples.gguf");
  const std::string speech_ = kvass::testing::write_tiny_speech_model("examples_speech");
  const std::string audio_ = kvass::testing::write_speech("examples.wav", 1.5);
};

TEST_F(Examples, AnEndlessStreamGoesPastItsCache) {
  const std::string printed = both("endless", "'" + text_ + "' 'the end' 700 2>/dev/null");
  const kvass::testing::CommandResult command =
      kvass::testing::run_command(text_, "the end", "--attention-sink 4,508 --ignore-eos -n 700");
  ASSERT_EQ(command.ids.size(), 700u) << command.text;
  EXPECT_EQ(kvass::testing::as_json_text(printed), command.text);
  refuses("endless", "/no/such/model.gguf text");
}

TEST_F(Examples, AConversationIsThatOfTheCommand) {
  const std::string flags = "' 'be short' '{% for m in messages %}[{{ m.content }}]{% endfor %}[' 6";
  const std::string printed = output_of("printf 'hello\\nand then\\n' | " + kExamples + "chat '" + text_ + flags);
  EXPECT_EQ(output_of("printf 'hello\\nand then\\n' | " + kExamples + "chat_c '" + text_ + flags), printed);
  EXPECT_GE(printed.size(), 2u);
  refuses("chat", "/no/such/model.gguf </dev/null");
}

TEST_F(Examples, ARecordingIsTranscribed) {
  const std::string printed = both("transcribe", "'" + speech_ + "' '" + audio_ + "'");
  EXPECT_FALSE(printed.empty());
  EXPECT_EQ(printed.find("failed:"), std::string::npos) << printed;
  refuses("transcribe", "'" + speech_ + "' /no/such/audio.wav");
}

TEST_F(Examples, TextsAreScoredAndGoOn) {
  const std::string cc = output_of(kExamples + "score '" + text_ + "' 'the end' 'and then the end'");
  const std::string c = output_of(kExamples + "score_c '" + text_ + "' 'the end'");
  // One perplexity of one text.
  const auto perplexity = [](const std::string& line) {
    const size_t at = line.find("perplexity ");
    return at == std::string::npos ? line : line.substr(at, line.find_first_of(",\n", at) - at);
  };
  EXPECT_EQ(perplexity(cc), perplexity(c));
  EXPECT_NE(cc.find("\n1: "), std::string::npos) << cc;
  EXPECT_EQ(std::count(c.begin(), c.end(), '\n'), 9) << c;
}

TEST_F(Examples, AttentionOnTensorsOfTheCallerHasOneSetOfBits) {
  const std::string printed = both("attention", "");
  EXPECT_NE(printed.find("same bits"), std::string::npos) << printed;
}

// For the test of the installed package, which has no tiny models of its own.
TEST(Files, AreWrittenWhereTheyAreAskedFor) {
  const char* folder = std::getenv("KVASS_WRITE_MODELS");
  if (folder == nullptr) GTEST_SKIP() << "KVASS_WRITE_MODELS is not set";
  const auto move = [&](const std::string& from, const std::string& name) {
    std::filesystem::copy(from, std::string(folder) + "/" + name,
                          std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing);
    std::filesystem::remove_all(from);
  };
  move(kvass::testing::write_tiny_text_model("package.gguf"), "text.gguf");
  move(kvass::testing::write_tiny_speech_model("package_speech"), "speech");
  move(kvass::testing::write_speech("package.wav", 1.5), "speech.wav");
}

}  // namespace
