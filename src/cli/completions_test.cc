// kvass completions: what the shells themselves make of it.
#include "cli/test_files.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

// The words that bash offers for a command line whose last word is being typed.
std::string offered(const std::string& line) {
  Scratch scratch;
  write_file(scratch.file("kvass.bash"), kvass({"completions", "bash"}).out);
  const std::string script = "source " + scratch.file("kvass.bash") + "; COMP_WORDS=(" + line +
                             "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _kvass; echo \"${COMPREPLY[*]}\"";
  std::string out;
  FILE* shell = ::popen(("bash -c '" + script + "' 2>&1").c_str(), "r");
  char buffer[4096];
  while (size_t count = std::fread(buffer, 1, sizeof buffer, shell)) out.append(buffer, count);
  EXPECT_EQ(::pclose(shell), 0) << out;
  return out;
}

TEST(Completions, BashOffersCommandsAndTheFlagsOfEach) {
  EXPECT_EQ(offered("kvass ver"), "verify\n");
  EXPECT_EQ(offered("kvass run model --attention-s"), "--attention-sink\n");
  EXPECT_EQ(offered("kvass tokenize model --attention-s"), "\n");
  EXPECT_EQ(offered("kvass run model.g"), "\n");  // bash itself goes on with files
}

TEST(Completions, EveryShellHasEveryCommand) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const Finished done = kvass({"completions", shell});
    EXPECT_EQ(done.code, 0);
#define KVASS_COMMAND(name) EXPECT_TRUE(has(done.out, #name)) << shell << " " #name;
#include "cli/commands.inc"
#undef KVASS_COMMAND
  }
  expect_refused(kvass({"completions", "tcsh"}), 1, {"bash, zsh or fish", "'tcsh'"});
  expect_refused(kvass({"completions"}), 2);
}

// What a shell reads as its own in a text is kept from it, and nothing of the text is lost.
TEST(Completions, DescriptionsAreWhole) {
  const std::string zsh = kvass({"completions", "zsh"}).out, fish = kvass({"completions", "fish"}).out;
  EXPECT_TRUE(has(zsh, "machine'\\''s limits")) << zsh;
  EXPECT_TRUE(has(fish, "machine\\'s limits")) << fish;
  // JSON of a template's variable, with a colon in its help.
  EXPECT_TRUE(has(zsh, "A variable for the template: JSON")) << zsh;
  EXPECT_TRUE(has(fish, "May be given again"));
  for (const std::string& script : {zsh, fish}) EXPECT_TRUE(has(script, "or which backends the operators have"));
  for (const auto& [shell, script] : {std::pair("zsh", zsh), std::pair("fish", fish)}) {
    if (std::system((std::string("command -v ") + shell + " >/dev/null").c_str()) != 0) continue;
    Scratch scratch;
    write_file(scratch.file("completions"), script);
    EXPECT_EQ(std::system((std::string(shell) + " -n " + scratch.file("completions")).c_str()), 0) << shell;
  }
}

}  // namespace
}  // namespace kvass
