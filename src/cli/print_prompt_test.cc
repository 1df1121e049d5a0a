// `kvass chat --print-prompt`: the built program renders conversations by a file's template or a given one.
#include "cli/test_files.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

constexpr char kTemplate[] =
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}{{ name | default('') }}";

std::string file(const char* name, const std::string& text) {
  write_file(path_of(name), text);
  return path_of(name);
}

Arguments print(const Arguments& more) {
  return with({"chat", "-", "--print-prompt", "--template-file", file("t.jinja", kTemplate)}, more);
}

const std::string& talk() {
  static const std::string path =
      file("talk.json", R"([{"role":"user","content":"hi"},{"role":"model","content":"well "}])");
  return path;
}

TEST(PrintPrompt, RendersTheModelsTemplateWithItsTokens) {
  GgufWriter writer = TinyModel().writer();
  writer.str("tokenizer.chat_template", kTemplate);
  ASSERT_TRUE(writer.write(path_of("talking.gguf")).ok());
  const json result = parsed(kvass({"chat", path_of("talking.gguf"), "--print-prompt", "--json"}, "the end\n"));
  const std::string text = result["text"];
  EXPECT_TRUE(has(text, "<start_of_turn>user\nthe end<end_of_turn>\n<start_of_turn>model\n")) << text;
  EXPECT_FALSE(result["ids"].empty());
  const std::string plain = kvass({"chat", path_of("talking.gguf"), "--print-prompt"}, "the end\n").out;
  EXPECT_EQ(plain, text);
}

TEST(PrintPrompt, TakesATemplateWithoutAModel) {
  const json result = parsed(kvass(print({"--messages", talk(), "--json"})));
  EXPECT_EQ(result["text"],
            "<start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\nwell <end_of_turn>\n<start_of_turn>model\n");
  EXPECT_TRUE(result["ids"].is_null());
  EXPECT_EQ(kvass(print({"--messages", talk(), "--no-generation-prompt", "--template-var", "name=x y"})).out,
            "<start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\nwell <end_of_turn>\nx y");
  EXPECT_EQ(kvass(print({"--messages", talk(), "--continue-final-message"})).out,
            "<start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\nwell ");
  EXPECT_EQ(kvass(print({"--system", "be brief", "--no-generation-prompt"}), "hi").out,
            "<start_of_turn>system\nbe brief<end_of_turn>\n<start_of_turn>user\nhi<end_of_turn>\n");
}

TEST(PrintPrompt, ClockAndVariablesAreGiven) {
  const std::string clock = file("clock.jinja", "{{ strftime_now('%Y/%m/%d') }} {{ flag }} {{ flag is boolean }}");
  const Finished done = kvass({"chat", "-", "--print-prompt", "--template-file", clock, "--template-var",
                               "now=2026-11-30T12:34:56", "--template-var", "flag=false"});
  EXPECT_EQ(done.out, "2026/11/30 False True") << done.err;
  for (const char* time : {"2020-02-31T00:00:00", "2021-02-29T12:00:00", "2026-11-31T12:34:56", "2026-11-30", "soon"}) {
    expect_refused(kvass(print({"--messages", talk(), "--template-var", std::string("now=") + time})), 1,
                   {"expected a time as in 2026-11-30T12:34:56", time});
  }
}

TEST(PrintPrompt, OptionsOfAnAnswerAreRefusedBesideIt) {
  for (const Arguments& more : std::vector<Arguments>{{"--tokens", "5"},
                                                      {"--context", "64"},
                                                      {"--temp", "1"},
                                                      {"--save", path_of("never.kvsnap")},
                                                      {"--stop", "x"},
                                                      {"--no-endless"},
                                                      {"--math", "f32"}}) {
    expect_refused(kvass(print(more), "hi"), 2, {more[0], "--print-prompt"});
  }
}

TEST(PrintPrompt, AnEmptyTemplateRendersNothing) {
  const Finished done = kvass({"chat", "-", "--print-prompt", "--template-file", file("empty.jinja", "")}, "hi");
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_EQ(done.out, "");
}

TEST(PrintPrompt, RefusesByName) {
  expect_refused(kvass({"chat", "-", "--print-prompt"}), 1, {"--template-file"});
  expect_refused(kvass({"chat", tiny(), "--print-prompt"}, "hi"), 1, {"--template-file", "without one"});
  expect_refused(kvass(print({"--messages", file("bad.json", "{")})), 1, {"bad.json", "a JSON array"});
  expect_refused(kvass(print({"--messages", talk(), "--tools", file("tools.json", "{}")})), 1,
                 {"tools", "a JSON array"});
  expect_refused(kvass(print({"--template-var", "x"})), 1, {"--template-var", "name=value"});
  expect_refused(kvass(print({"--template-var", "now=noon"})), 1, {"--template-var now", "noon"});
  const std::string raising =
      file("raise.jinja", "{% for m in messages %}\n{{ raise_exception('no ' + m.role) }}{% endfor %}");
  expect_refused(kvass({"chat", "-", "--print-prompt", "--template-file", raising}, "hi"), 1,
                 {"chat template:2:", "no user"});
}

// JSON that people hand in, in every place that takes it: what walks through a tree recurses as deep as it is nested.
TEST(DeepJson, IsRefusedWhereverJsonIsTaken) {
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  ASSERT_TRUE(TinyModel().writer().write(path_of("deep.gguf")).ok());
  const std::string model = path_of("deep.gguf");
  for (const size_t depth : {size_t{201}, size_t{100'000}}) {
    const std::string deep = file("deep.json", nested(depth));
    const std::string map = file("map.json", R"([{"role":"user","content":)" + nested(depth) + "}]");
    const std::vector<Finished> refused = {
        kvass(print({"--messages", deep})),
        kvass(print({"--messages", map})),
        kvass(print({"--messages", talk(), "--tools", deep})),
        kvass(print({"--messages", talk(), "--template-var", "x=" + nested(std::min<size_t>(depth, 20'000))})),
        kvass({"score", model, "--ids", "-f", deep}),
        kvass({"tokenize", model, "--decode"}, nested(depth)),
        kvass({"chat", model, "--tools", deep, "--template-file", file("plain.jinja", kTemplate)}, "hi\n"),
    };
    for (const Finished& done : refused) {
      EXPECT_EQ(done.code, 1) << done.err;
      EXPECT_TRUE(has(done.err, "expected JSON nested at most")) << done.err;
      EXPECT_EQ(std::count(done.err.begin(), done.err.end(), '\n'), 1) << done.err;
    }
  }
  EXPECT_EQ(
      kvass(print({"--messages", talk(), "--template-var", "name=" + nested(150), "--no-generation-prompt"})).code, 0);
  EXPECT_EQ(
      kvass(print({"--messages", talk(), "--template-var", "name=" + std::string(300, '['), "--no-generation-prompt"}))
          .code,
      0);
}

}  // namespace
}  // namespace kvass
