// What a person and a script may write in `kvass chat`: texts of several lines, commands, pasted blocks; and the flags
// of a conversation.
#include <stdlib.h>

#include "cli/test_files.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

constexpr char kTemplate[] =
    "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + m.role + '\\n' + m.content + '<end_of_turn>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}{{ name | default('') }}";

const std::string& model() {
  static const std::string path = [] {
    GgufWriter writer = TinyModel().writer();
    writer.str("tokenizer.chat_template", kTemplate);
    EXPECT_TRUE(writer.write(path_of("turns.gguf")).ok());
    return path_of("turns.gguf");
  }();
  return path;
}

Arguments chat(const Arguments& more) {
  const Arguments known = with({"chat", model(), "--context", "256"}, more);
  return std::count(more.begin(), more.end(), "-n") > 0 ? known : with(known, {"-n", "3"});
}

std::vector<json> answers(const Finished& done) {
  EXPECT_EQ(done.code, 0) << done.err;
  std::vector<json> result;
  std::istringstream lines(done.out);
  for (std::string line; std::getline(lines, line);) result.push_back(json::parse(line));
  return result;
}
std::vector<json> answers_to(const std::string& input, const Arguments& more = {}) {
  return answers(kvass(chat(with({"--json"}, more)), input));
}

TEST(ChatTurns, ATextBetweenQuotesIsOneTurn) {
  const std::vector<json> one = answers_to("\"\"\"the end\nand\n\nthe\"\"\"\n");
  ASSERT_EQ(one.size(), 1u);
  EXPECT_EQ(answers_to("\"\"\"\nthe end\nand\n\nthe\n\"\"\"\n"), one) << "quotes on lines of their own";
  EXPECT_EQ(answers_to("\"\"\"\r\nthe end\r\nand\r\n\r\nthe\r\n\"\"\""), one)
      << "CR LF, and a last line without its end";
  EXPECT_EQ(answers_to("\"\"\"the\"\"\"\n"), answers_to("the\n"));
  EXPECT_NE(answers_to("the end\nand\nthe\n").size(), 1u);
  EXPECT_EQ(answers_to("\"\"\"/exit\"\"\"\nthe\n").size(), 2u) << "a block is never a command";
  const Finished open = kvass(chat({"--json"}), "\"\"\"the\nand\n");
  EXPECT_EQ(open.code, 1);
  EXPECT_TRUE(has(open.err, "\"\"\"") && has(open.err, "end of the input")) << open.err;
}

TEST(ChatTurns, LineEndsOfEveryKindMeanTheSame) {
  const std::vector<json> two = answers_to("the\nand\n");
  EXPECT_EQ(answers_to("the\r\nand\r\n"), two);
  EXPECT_EQ(answers_to("the\nand"), two);
  EXPECT_EQ(answers_to("the\r\nand\r"), two);
}

TEST(ChatTurns, CommandsThatDoNotExistAreAnError) {
  for (const char* line : {"/nothing\n", "/Exit\n", "/etc/passwd\n", "/\n"}) {
    expect_refused(kvass(chat({"-q"}), line), 1, {"/clear, /exit, /help, /save, /stats"});
  }
  expect_refused(kvass(chat({"-q"}), "/clear all\n"), 1, {"/clear: expected nothing after it, got 'all'"});
  expect_refused(kvass(chat({"-q"}), "/save\n"), 1, {"/save: expected a file"});
  expect_refused(kvass(chat({"-q"}), "/save /nowhere/x\n"), 1, {"/nowhere/x"});
}

TEST(ChatTurns, HelpAndStatsGoToStderr) {
  const Finished done = kvass(chat({"-q", "--seed", "42", "--json"}), "the\n/help\n/stats\n");
  EXPECT_EQ(answers(done).size(), 1u);
  for (const char* word : {"/save [FILE]", "/stats", "1 turns", "seed 42", "peak memory"}) {
    EXPECT_TRUE(has(done.err, word)) << done.err;
  }
}

TEST(ChatTurns, SaveKeepsTheConversationAsItIs) {
  const std::string file = path_of("turns.kvsnap");
  const std::vector<json> whole = answers_to("the\nand\n", {"--system", "of"});
  EXPECT_EQ(answers_to("the\n/save " + file + "\n", {"--system", "of"}).size(), 1u);
  EXPECT_EQ(answers_to("and\n", {"--resume", file}), std::vector<json>{whole.at(1)});
}

TEST(ChatTurns, TemplatesToolsAndVariablesAreThoseOfTheWholeConversation) {
  const std::string style = path_of("own.jinja"), tools = path_of("tools.json"), file = path_of("own.kvsnap");
  write_file(
      style,
      "{{ tools | tojson }}{{ name }}{{ strftime_now('%Y') }}{% for m in messages %}[{{ m.content }}]{% endfor %}[");
  write_file(tools, "[1]");
  const Arguments own = {"--template-file", style,    "--tools",        tools,
                         "--template-var",  "name=x", "--template-var", "now=1999-01-02T03:04:05"};
  const std::vector<json> whole = answers_to("the\nand\n", own);
  ASSERT_EQ(whole.size(), 2u);
  const json printed = parsed(kvass(with({"chat", model(), "--print-prompt", "--json"}, own), "the\n"));
  EXPECT_EQ(printed["text"], "[1]x1999[the][");
  EXPECT_EQ(whole[0]["prompt_ids"], printed["ids"]);
  EXPECT_EQ(answers_to("the\n", with(own, {"--save", file})), std::vector<json>{whole.at(0)});
  EXPECT_EQ(answers_to("and\n", {"--resume", file}), std::vector<json>{whole.at(1)});
  for (const Arguments& more :
       std::vector<Arguments>{{"--template-file", style}, {"--tools", tools}, {"--template-var", "a=b"}}) {
    EXPECT_EQ(kvass(chat(with({"--resume", file}, more)), "the\n").code, 2);
  }
}

TEST(ChatTurns, ATemplateThatFailsIsAnErrorWithItsPlace) {
  const auto refused = [&](const std::string& text, const std::string& words) {
    write_file(path_of("bad.jinja"), text);
    expect_refused(kvass(chat({"-q", "--template-file", path_of("bad.jinja")}), "the\n"), 1, {words});
  };
  refused("a\n{% if %}", "chat template:2:");
  refused("{{ messages[0].content }}\n  {{ raise_exception('not this') }}", "chat template:2:");
  refused("{{ messages[0].content }}{{ nothing.at.all }}", "chat template:1:");
}

TEST(ChatTurns, StopTextsEndAnswersAndTheNextTurnGoesOn) {
  const std::vector<json> plain = answers_to("the\n", {"-n", "20"});
  ASSERT_FALSE(plain.empty());
  const std::string text = plain[0]["text"];
  size_t at = 0;
  while (at < text.size() && (text[at] < 'a' || text[at] > 'z')) ++at;
  ASSERT_LT(at, text.size()) << "a letter to stop at";
  const std::vector<json> stopped = answers_to("the\nand\n", {"-n", "20", "--stop", text.substr(at, 1)});
  ASSERT_EQ(stopped.size(), 2u);
  EXPECT_EQ(stopped[0]["reason"], "stop_text");
  EXPECT_EQ(stopped[0]["text"], text.substr(0, at));
}

TEST(ChatTurns, ABeginTokenThatIsTypedIsTextAndWarnedOf) {
  const Finished done = kvass(chat({"--json"}), "<bos>the\n");
  EXPECT_TRUE(has(done.err, "<bos>")) << done.err;
  const std::vector<int> ids = answers(done).at(0)["prompt_ids"];
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 2), 1);
  EXPECT_EQ(kvass(chat({"-q"}), "<bos>the\n").err, "");
}

TEST(ChatTurns, FlagsOfOtherProgramsAreTaken) {
  const std::string plain =
      kvass({"chat", model(), "--context", "256", "--json", "--kv", "q8", "-n", "3"}, "the\n").out;
  const Finished done =
      kvass({"chat", "-m", model(), "-c", "256", "--json", "--kv", "q8_0", "-ngl", "0", "-n", "3"}, "the\n");
  EXPECT_EQ(done.out, plain);
  EXPECT_TRUE(has(done.err, "q8_0") && has(done.err, "-ngl 0")) << done.err;
  EXPECT_EQ(answers_to("the\n", {"--logit-bias", "9-inf", "--logit-bias", "8+0.5"}).size(), 1u);
}

// A chat on a terminal: what is written to it comes as a person's keys do.
class Terminal {
 public:
  explicit Terminal(const Arguments& arguments) : master_(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
    EXPECT_EQ(::grantpt(master_), 0);
    EXPECT_EQ(::unlockpt(master_), 0);
    const int slave = ::open(::ptsname(master_), O_RDWR | O_NOCTTY | O_CLOEXEC);
    const int err = ::open(scratch_.file("err").c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    ::setenv("TERM", "xterm", 1);
    child_ = start_kvass(arguments, {slave, slave, err});
    ::close(slave);
    ::close(err);
  }
  ~Terminal() { ::close(master_); }
  void type(const std::string& text) {
    EXPECT_EQ(::write(master_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  void wait_for_prompt() {
    while (!has(out_, "> ") && read()) {
    }
    out_.clear();
  }
  int end() {
    while (read()) {
    }
    return wait_for(child_);
  }
  std::string err() const { return read_file(scratch_.file("err")); }

 private:
  bool read() {
    char buffer[256];
    const ssize_t count = ::read(master_, buffer, sizeof buffer);
    if (count > 0) out_.append(buffer, static_cast<size_t>(count));
    return count > 0;
  }

  Scratch scratch_;
  int master_;
  pid_t child_ = -1;
  std::string out_;
};

TEST(ChatTurns, WhatIsPastedIsOneTurn) {
  const auto turns = [](const std::string& keys) {
    Terminal terminal(chat({}));
    terminal.wait_for_prompt();
    terminal.type(keys);
    EXPECT_EQ(terminal.end(), 0);
    return terminal.err();
  };
  EXPECT_TRUE(has(turns("\x1b[200~the\n/exit\n\nand\x1b[201~\n/exit\n"), "1 turns")) << "marked by the terminal";
  EXPECT_TRUE(has(turns("see \x1b[200~the\nand\n\x1b[201~ so\n/exit\n"), "1 turns"));
  EXPECT_TRUE(has(turns("the\nand\nthe end\n/exit\n"), "1 turns")) << "lines that come at once";
  EXPECT_TRUE(has(turns("\x1b[200~/exit\x1b[201~\n"), "0 turns")) << "one line is what it is";
}

TEST(ChatTurns, APersonMayTryAgain) {
  Terminal terminal(chat({}));
  terminal.wait_for_prompt();
  terminal.type("/nothing\n");
  terminal.wait_for_prompt();
  terminal.type("the\n/exit\n");
  EXPECT_EQ(terminal.end(), 0);
  EXPECT_TRUE(has(terminal.err(), "'/nothing'") && has(terminal.err(), "1 turns")) << terminal.err();
}

TEST(ChatTurns, ATurnThatIsRefusedDoesNotEndATalkOnATerminal) {
  const Arguments arguments = {"chat", model(), "--no-endless", "--context", "64", "-n", "3"};
  Terminal terminal(arguments);
  for (const std::string& keys : {std::string("the \xff end\n"), std::string(2000, 'a') + "\n", std::string("the\n")}) {
    terminal.wait_for_prompt();
    terminal.type(keys);
  }
  terminal.wait_for_prompt();
  terminal.type("/exit\n");
  EXPECT_EQ(terminal.end(), 0);
  const std::string err = terminal.err();
  EXPECT_TRUE(has(err, "expected UTF-8") && has(err, "prompt: expected ") && has(err, "1 turns")) << err;
  // A script that is wrong ends.
  expect_refused(kvass(with(arguments, {"-q"}), std::string(2000, 'a') + "\n"), 1, {"prompt: expected "});
}

// A conversation is not plain text, and stays what it is.
TEST(ChatTurns, ARunDoesNotGoOnWithAConversation) {
  const std::string path = path_of("talk.kvsnap");
  EXPECT_EQ(kvass(chat({"--save", path}), "the\n").code, 0);
  const std::string before = read_file(path);
  expect_refused(kvass({"run", model(), "--resume", path, "--save", path, "-p", "the", "-n", "3"}), 1,
                 {"--resume: expected a text, as `kvass run --save` writes, got a conversation"});
  expect_refused(kvass({"run", model(), "--resume", path, "-n", "3"}), 1, {"got a conversation"});
  EXPECT_EQ(read_file(path), before);
  EXPECT_EQ(kvass(chat({"--resume", path}), "and\n").code, 0);
}

}  // namespace
}  // namespace kvass
