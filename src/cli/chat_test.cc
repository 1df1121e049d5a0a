// `kvass chat` as a person and a script meet it: the built program on a tiny model.
#include <nlohmann/json.hpp>

#include "cli/test_process.h"
#include "tiny_model.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

constexpr char kTemplate[] =
    "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + m.role + '\\n' + m.content | trim + "
    "'<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}";

void write_model(const std::string& path, uint32_t seed) {
  TinyConfig config;
  config.seed = seed;
  GgufWriter writer = TinyModel(config).writer();
  writer.str("tokenizer.chat_template", kTemplate);
  EXPECT_TRUE(writer.write(path).ok());
}

std::string path_of(const char* name) {
  static const Scratch scratch;
  return scratch.file(name);
}

const std::string& tiny() {
  static const std::string path = [] {
    write_model(path_of("chat.gguf"), 1);
    return path_of("chat.gguf");
  }();
  return path;
}

Arguments chat(const Arguments& more) {
  Arguments arguments = {"chat", tiny(), "--context", "160"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

std::vector<json> answers(const Finished& done) {
  EXPECT_EQ(done.code, 0) << done.err;
  std::vector<json> result;
  std::istringstream lines(done.out);
  for (std::string line; std::getline(lines, line);) result.push_back(json::parse(line));
  return result;
}

constexpr char kTurns[] = "the end\nand the\n\nthen\r\nand and\nthe";  // five and an empty line

// A chat that is spoken with: pipes on both sides.
class Talk {
 public:
  static constexpr int kPipeBytes = 4096;  // what it may have said that nobody has read
  explicit Talk(const Arguments& arguments) {
    int in[2], out[2];
    EXPECT_EQ(::pipe2(in, O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(out, O_CLOEXEC), 0);
    EXPECT_LE(::fcntl(out[0], F_SETPIPE_SZ, kPipeBytes), kPipeBytes);
    const int err = ::open(scratch_.file("err").c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    child_ = start_kvass(arguments, {in[0], out[1], err});
    for (int stream : {in[0], out[1], err}) ::close(stream);
    in_ = in[1];
    out_ = out[0];
  }
  ~Talk() {
    if (child_ > 0) {
      ::kill(child_, SIGKILL);
      wait_for(child_);
    }
    ::close(in_);
    close_output();
  }
  void close_output() {
    if (out_ >= 0) ::close(out_);
    out_ = -1;
  }
  void say(const std::string& line) {
    EXPECT_EQ(::write(in_, line.data(), line.size()), static_cast<ssize_t>(line.size()));
  }
  // Waits for that much of an answer; false when it ends before.
  bool read(size_t bytes) {
    char byte = 0;
    for (size_t i = 0; i < bytes; ++i) {
      if (::read(out_, &byte, 1) != 1) return false;
    }
    return true;
  }
  std::string line() {
    std::string text;
    for (char byte = 0; ::read(out_, &byte, 1) == 1 && byte != '\n';) text += byte;
    return text;
  }
  void signal(int number) { ::kill(child_, number); }
  int end() {
    while (out_ >= 0 && read(1)) {
    }
    const int code = wait_for(child_);
    child_ = -1;
    return code;
  }
  std::string err() const { return read_file(scratch_.file("err")); }

 private:
  Scratch scratch_;
  pid_t child_ = -1;
  int in_ = -1, out_ = -1;
};

TEST(Chat, EachLineIsATurnPastTheContext) {
  const std::vector<json> told = answers(kvass(chat({"--json", "-n", "40"}), kTurns));
  ASSERT_EQ(told.size(), 5u);
  size_t tokens = 0;
  for (size_t i = 0; i < told.size(); ++i) {
    EXPECT_EQ(told[i].at("turn"), i + 1);
    const std::string reason = told[i].at("reason");
    EXPECT_TRUE(reason == "max_tokens" || reason == "end_of_generation") << reason;
    EXPECT_LE(told[i].at("ids").size(), 40u);
    if (reason == "max_tokens") {
      EXPECT_EQ(told[i].at("ids").size(), 40u);
    }
    EXPECT_TRUE(told[i].at("text").is_string());
    tokens += told[i].at("ids").size() + told[i].at("prompt_ids").size();
  }
  EXPECT_GT(tokens, 2 * 160u);
}

TEST(Chat, TheSameSeedSaysTheSameHoweverItIsCutUp) {
  const Arguments sampled = {"--json", "-n", "30", "--temp", "2", "--system", "the and the", "--seed", "9"};
  const auto with = [&](const Arguments& more) {
    Arguments arguments = chat(sampled);
    arguments.insert(arguments.end(), more.begin(), more.end());
    return kvass(arguments, kTurns).out;
  };
  const std::string once = with({});
  EXPECT_EQ(answers({0, once, ""}).size(), 5u);
  EXPECT_EQ(with({}), once);
  EXPECT_EQ(with({"--chunk", "5", "-t", "1"}), once);
  Arguments other = chat(sampled);
  other.back() = "10";
  EXPECT_NE(kvass(other, kTurns).out, once);
}

TEST(Chat, TextIsTheJsonsTextLineByLine) {
  // A half character at the end of an answer is in the JSON alone.
  const auto whole = [](std::string text) {
    while (text.ends_with("\uFFFD")) text.resize(text.size() - 3);
    return text;
  };
  const Finished shown = kvass(chat({"-n", "8"}), kTurns);
  EXPECT_EQ(shown.code, 0);
  std::string rest = json::parse(json(shown.out).dump(-1, ' ', false, json::error_handler_t::replace));
  for (const json& answer : answers(kvass(chat({"--json", "-n", "8"}), kTurns))) {
    const std::string text = whole(answer.at("text"));
    ASSERT_TRUE(rest.starts_with(text)) << rest;
    rest.erase(0, text.size());
    while (rest.starts_with("\uFFFD")) rest.erase(0, 3);
    if (!text.ends_with('\n')) {
      ASSERT_TRUE(rest.starts_with('\n')) << rest;
      rest.erase(0, 1);
    }
  }
  EXPECT_EQ(rest, "");
  EXPECT_NE(shown.err.find("sink_ring 22+138"), std::string::npos) << "the system text is kept" << shown.err;
  EXPECT_NE(shown.err.find("/help"), std::string::npos) << shown.err;
  EXPECT_NE(shown.err.find("5 turns"), std::string::npos) << shown.err;
  EXPECT_NE(shown.err.find("seed 0"), std::string::npos) << shown.err;
  EXPECT_EQ(kvass(chat({"-q", "-n", "8"}), kTurns).err, "");
}

TEST(Chat, ClearBeginsAgainAndExitEnds) {
  const std::vector<json> told =
      answers(kvass(chat({"--json", "-n", "9"}), "the\nand\n/clear\nthe\nand\n/exit\nnever\n"));
  ASSERT_EQ(told.size(), 4u);
  EXPECT_EQ(told[0], told[2]);
  EXPECT_EQ(told[1], told[3]);
  EXPECT_NE(told[0].at("prompt_ids"), told[1].at("prompt_ids"));
  EXPECT_EQ(kvass(chat({}), "").code, 0);
}

// What one conversation says in two turns, two conversations say in one each, whatever was between them.
TEST(Chat, ASavedConversationGoesOnAsIfItHadNeverEnded) {
  static const Scratch scratch;
  const std::string file = scratch.file("talk.kvsnap");
  const Arguments said = {"--json", "-n", "9", "--temp", "0.8", "--seed", "3", "--repeat-penalty", "1.1"};
  const auto talk = [&](std::initializer_list<const char*> more, const std::string& input) {
    Arguments arguments = chat({});
    arguments.insert(arguments.end(), said.begin(), said.end());
    arguments.insert(arguments.end(), more.begin(), more.end());
    return answers(kvass(arguments, input));
  };
  const std::vector<json> whole = talk({"--system", "of the"}, "the\nand\nof\n");
  ASSERT_EQ(whole.size(), 3u);
  EXPECT_EQ(talk({"--system", "of the", "--save", file.c_str()}, "the\n"), std::vector<json>{whole[0]});
  const Finished inspected = kvass({"inspect", file, "--json"});
  const json metadata = json::parse(inspected.out).at("metadata");
  EXPECT_EQ(metadata.at("turns"), 1) << inspected.out;
  EXPECT_EQ(metadata.at("system"), "of the");
  EXPECT_EQ(metadata.at("pending_tokens"), 0);
  Arguments resumed = chat({"--json", "-n", "9"});
  for (const char* one : {"--resume", file.c_str(), "--save", file.c_str()}) resumed.emplace_back(one);
  EXPECT_EQ(answers(kvass(resumed, "and\n")), std::vector<json>{whole[1]});
  EXPECT_EQ(answers(kvass(resumed, "of\n")), std::vector<json>{whole[2]});

  // After /clear the saved conversation is an empty one with the same system text.
  EXPECT_EQ(answers(kvass(resumed, "/clear\n")).size(), 0u);
  const std::vector<json> again = answers(kvass(resumed, "the\n"));
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].at("prompt_ids"), whole[0].at("prompt_ids"));

  Arguments other = resumed;
  other.insert(other.end(), {"--system", "else"});
  EXPECT_EQ(kvass(other, "the\n").code, 2);
  ASSERT_EQ(kvass({"run", path_of("chat.gguf"), "-p", "the", "-n", "3", "-q", "--context", "64", "--save",
                   scratch.file("text")})
                .code,
            0);
  const Finished text = kvass(chat({"--resume", scratch.file("text")}), "the\n");
  EXPECT_EQ(text.code, 1);
  EXPECT_NE(text.err.find("--resume: expected a conversation"), std::string::npos) << text.err;
  const Finished talked = kvass({"run", path_of("chat.gguf"), "--resume", file});
  EXPECT_EQ(talked.code, 1);
  EXPECT_NE(talked.err.find("--resume: expected a text, as `kvass run --save` writes"), std::string::npos)
      << talked.err;
}

TEST(Chat, WhatCannotBeIsRefused) {
  const auto refused = [](const Arguments& arguments, int code, const std::string& words) {
    const Finished done = kvass(arguments, "the\n");
    EXPECT_EQ(done.code, code);
    EXPECT_EQ(done.out, "");
    EXPECT_NE(done.err.find(words), std::string::npos) << done.err;
  };
  refused(chat({"-q", "--template-file", "/nowhere"}), 1, "/nowhere");
  refused(chat({"-q", "--template-file", "/dev/null"}), 1, "/dev/null: expected a chat template, got an empty file");
  refused(chat({"-q", "--template-var", "now=noon"}), 1, "--template-var now: expected a time");
  refused(chat({"-q", "--tools", "/dev/null"}), 1, "/dev/null: expected a JSON array");
  refused(chat({"-q", "--memory-limit", "1000"}), 1, "--memory-limit");
  refused(chat({"-q", "--logit-bias", "x"}), 2, "--logit-bias");
  refused(chat({"-q", "--logit-bias", "99999+1"}), 1, "--logit-bias: expected an id below");
  refused(chat({"-q", "-ngl", "20"}), 1, "--gpu-layers: expected 0");
  refused(chat({"-q", "-n", "0"}), 1, "-n: expected 1 or more tokens, got 0");
  refused(chat({"-q", "--temp", "-1"}), 1, "--temp");
  std::string system;
  for (int i = 0; i < 100; ++i) system += "the end ";
  refused(chat({"-q", "--system", system}), 1, "--system: expected at most 80 tokens before the first user's text");
  refused(chat({"-q", "--stop", ""}), 2, "--stop: expected a value");
  refused(chat({"--no-endless", "--attention-sink", "4,8"}), 2, "--no-endless");
  static const Scratch scratch;
  ASSERT_TRUE(TinyModel().writer().write(scratch.file("base.gguf")).ok());
  refused({"chat", scratch.file("base.gguf")}, 1, "this is a base model, which continues texts");
}

TEST(Chat, WithoutEndlessAFullContextIsAnError) {
  const Finished done = kvass(chat({"--no-endless", "-q", "--json", "-n", "5"}), kTurns);
  EXPECT_EQ(done.code, 1);
  EXPECT_NE(done.out.find("\"turn\":1"), std::string::npos) << done.out;
  EXPECT_NE(done.err.find("--context"), std::string::npos) << done.err;
}

// A model that goes on and on after "the", as greedy ones do that have come into a loop.
const std::string& talker() {
  static const std::string path = [] {
    const std::string file = path_of("talker.gguf");
    for (uint32_t seed = 1;; ++seed) {
      EXPECT_LT(seed, 30u) << "no such model";
      write_model(file, seed);
      const Finished done = kvass({"chat", file, "--context", "64", "--json", "-n", "2000"}, "the\n");
      if (seed == 30 || answers(done).at(0).at("reason") == "max_tokens") return file;
    }
  }();
  return path;
}
Arguments talking() { return {"chat", talker(), "--context", "64", "-q"}; }

TEST(Chat, CtrlCEndsTheAnswerAndTheNextTurnGoesOn) {
  Talk talk(talking());
  talk.say("the\n");
  ASSERT_TRUE(talk.read(40)) << talk.err();
  talk.signal(SIGINT);
  talk.say("/clear\nthe\n");
  ASSERT_TRUE(talk.read(Talk::kPipeBytes + 200)) << talk.err();  // more than was left of the first answer
  talk.signal(SIGINT);
  talk.say("/exit\n");
  EXPECT_EQ(talk.end(), 128 + SIGINT) << "a script sees that answers are not whole";
  EXPECT_EQ(talk.err(), "kvass: chat: interrupted in 2 of its answers\n");
}

TEST(Chat, TwoCtrlCsEndInOrder) {
  Talk talk(talking());
  talk.say("the\nthe\nthe\n");
  ASSERT_TRUE(talk.read(40)) << talk.err();
  talk.signal(SIGINT);
  talk.signal(SIGINT);  // the system may make one of the two
  talk.signal(SIGTERM);
  const int code = talk.end();
  EXPECT_TRUE(code == 128 + SIGINT || code == 128 + SIGTERM) << code;
  EXPECT_EQ(talk.err(), "kvass: chat: interrupted after 1 turns\n");
}

TEST(Chat, CtrlCAtThePromptAndTermDuringAnAnswerEndInOrder) {
  Talk prompt(chat({"--json", "-n", "4"}));
  prompt.say("the\n");
  EXPECT_EQ(json::parse(prompt.line()).at("turn"), 1);
  prompt.signal(SIGINT);
  EXPECT_EQ(prompt.end(), 128 + SIGINT);
  EXPECT_TRUE(prompt.err().ends_with("kvass: chat: interrupted after 1 turns\n")) << prompt.err();

  Talk block(chat({"--json", "-n", "4"}));
  block.say("the\n");
  EXPECT_EQ(json::parse(block.line()).at("turn"), 1);
  block.say("\"\"\"\nand\n");
  block.signal(SIGINT);
  EXPECT_EQ(block.end(), 128 + SIGINT);
  EXPECT_TRUE(block.err().ends_with("kvass: chat: interrupted after 1 turns\n")) << block.err();

  Talk answer(talking());
  answer.say("the\nthe\n");
  ASSERT_TRUE(answer.read(40)) << answer.err();
  answer.signal(SIGTERM);
  EXPECT_EQ(answer.end(), 128 + SIGTERM);
}

TEST(Chat, AClosedOutputIsAFailureThatItSays) {
  Talk talk(talking());
  talk.say("the\n");
  ASSERT_TRUE(talk.read(40)) << talk.err();
  talk.close_output();
  EXPECT_EQ(talk.end(), 1);
  EXPECT_EQ(talk.err(), "kvass: stdout: expected a place to write to, got Broken pipe\n");
}

}  // namespace
}  // namespace kvass
