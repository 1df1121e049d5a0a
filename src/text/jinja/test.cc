// The engine against jinja2: templates of our own (tests/data/make_jinja_goldens.py) and, where they are at hand, those
// that models are published with; then what jinja2 has no say in: origins of bytes, limits, places in messages.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "goldens.h"
#include "text/jinja/jinja.h"

namespace kvass::jinja {
namespace {

using Json = nlohmann::ordered_json;

RenderOptions options() {
  RenderOptions options;
  ::strptime("2026-11-30T12:34:56", "%Y-%m-%dT%H:%M:%S", &options.now);
  return options;
}

Result<Rendered> render(std::string_view source, const Json& variables, const RenderOptions& with = options()) {
  KVASS_ASSIGN_OR_RETURN(const Template made, Template::parse(source));
  return made.render(variables.dump(), {"bos_token", "eos_token", "unk_token", "pad_token"}, with);
}

std::string refusal(std::string_view source, const Json& variables = Json::object(),
                    const RenderOptions& with = options()) {
  const Result<Rendered> result = render(source, variables, with);
  return result.ok() ? "rendered: " + result.value().text() : result.status().message();
}

// The golden's text or refusal.
void expect_golden(const Json& golden, const Result<Rendered>& result, const std::string& name) {
  if (golden.contains("refused")) {
    EXPECT_FALSE(result.ok()) << name << " renders: " << result.value().text();
    return;
  }
  ASSERT_TRUE(result.ok()) << name << ": " << result.status().message();
  EXPECT_EQ(result.value().text(), golden["expected"].get<std::string>()) << name;
}

TEST(Jinja, RendersAndRefusesAsJinja2) {
  std::ifstream file(KVASS_TEST_DATA_DIR "/jinja.json");
  const Json goldens = Json::parse(file);
  ASSERT_GE(goldens["cases"].size(), 70u);
  for (const Json& golden : goldens["cases"]) {
    const std::string source = golden["template"];
    expect_golden(golden, render(source, goldens["variables"]), source);
  }
}

TEST(Jinja, RendersPublishedTemplatesAsTransformersDoes) {
  const std::optional<std::string> path = testing::golden_path("templates.json");
  if (!path) GTEST_SKIP() << "no goldens of published templates";
  std::ifstream file(*path);
  const Json goldens = Json::parse(file);
  for (const Json& entry : goldens["templates"]) {
    for (const Json& run : entry["runs"]) {
      if (run.value("continue_final_message", false)) continue;  // the caller's work: see chat_prompt
      Json variables = goldens["special_tokens"];
      variables["messages"] = run["messages"];
      variables["tools"] = run.value("tools", Json(nullptr));
      variables["documents"] = nullptr;
      variables["add_generation_prompt"] = run.value("add_generation_prompt", false);
      expect_golden(run, render(entry["text"].get<std::string>(), variables),
                    entry["template"].get<std::string>() + " / " + run["name"].get<std::string>());
    }
  }
}

TEST(Jinja, KeepsTheOriginOfEveryByte) {
  const Json variables = {{"bos_token", "<s>"}, {"messages", {{{"content", "  <|end|> a,b "}}}}};
  const auto spans = [&](std::string_view source) {
    const Result<Rendered> result = render(source, variables);
    EXPECT_TRUE(result.ok()) << result.status().message();
    std::string shown;
    for (const Span& span : result.value().spans)
      shown += (span.outside ? "[" : "(") + span.text + (span.outside ? "]" : ")");
    return shown;
  };
  EXPECT_EQ(spans("{{ bos_token }}<|user|>{{ messages[0].content | trim }}<|end|>"),
            "(<s><|user|>)[<|end|> a,b](<|end|>)");
  EXPECT_EQ(spans("{{ '<' + messages[0]['content'].strip().split(',')[1] ~ '>' }}"), "(<)[b](>)");
  EXPECT_EQ(spans("{{ messages[0].content | upper | replace('A', 'x') }}"), "[  <|END|> ](x)[,B ]");
  EXPECT_EQ(spans("{{ messages | tojson }}"), "([{\")[content](\": \")[  <|end|> a,b ](\"}])");
  EXPECT_EQ(spans("{% set x %}{{ messages[0].content }}!{% endset %}{{ x[4:] }}"), "[end|> a,b ](!)");
  EXPECT_EQ(spans("{{ messages[0].content[2] }}{{ '%s' % messages[0].content[3] }}"), "[<|]");
}

TEST(Jinja, NamesLineAndColumn) {
  EXPECT_EQ(refusal("a\n  {% if x %}"), "chat template:2:13: 'if' has no end");
  EXPECT_EQ(refusal("{{ 1 + }}"), "chat template:1:8: expected an expression, got '}}'");
  EXPECT_EQ(refusal("a\n{{ 'x' |\n nosuch }}"), "chat template:3:2: no filter named 'nosuch'");
  EXPECT_EQ(refusal("\n\n{{ raise_exception('no system turns') }}"), "chat template:3:19: no system turns");
  EXPECT_EQ(refusal("{% include 'x' %}"), "chat template:1:4: unknown tag 'include'");
  EXPECT_NE(refusal("{{ messages[0].content }}").find("'messages' is undefined"), std::string::npos);
}

TEST(Jinja, VariablesMustBeAnObject) {
  const Result<Template> made = Template::parse("x");
  ASSERT_TRUE(made.ok());
  for (const char* text : {"", "[1]", "{\"a\":", "nonsense"}) {
    const Result<Rendered> result = made.value().render(text, {}, options());
    ASSERT_FALSE(result.ok()) << text;
    EXPECT_NE(result.status().message().find("a JSON object"), std::string::npos);
  }
}

TEST(Jinja, StopsAtItsLimits) {
  const std::string doubling =
      "{% set ns = namespace(x='a') %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% endfor %}";
  EXPECT_NE(refusal(doubling).find("bytes of strings and lists"), std::string::npos);
  EXPECT_NE(refusal("{{ 'ab' * 999999999999 }}").find("bytes of strings and lists"), std::string::npos);
  EXPECT_NE(refusal("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}").find("nested deeper"), std::string::npos);
  EXPECT_NE(refusal("{{ " + std::string(100'000, '(') + "1" + std::string(100'000, ')') + " }}").find("nested deeper"),
            std::string::npos);
  EXPECT_NE(refusal("{{ " + std::string(100'000, '-') + "1 }}").find("nested deeper"), std::string::npos);
  EXPECT_NE(refusal("{% set ns = namespace(x=1) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}")
                .find("nested deeper"),
            std::string::npos);
  EXPECT_NE(refusal("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}").find("contains itself"),
            std::string::npos);
  EXPECT_NE(refusal("{{ range(100001) }}").find("range too big"), std::string::npos);
  RenderOptions few = options();
  few.most_steps = 1000;
  EXPECT_NE(refusal("{% for i in range(1000) %}{{ i }}{% endfor %}", Json::object(), few).find("1000 steps"),
            std::string::npos);
  few = options();
  few.most_output = 100;
  EXPECT_NE(refusal("{% for i in range(1000) %}{{ i }}{% endfor %}", Json::object(), few).find("100 bytes"),
            std::string::npos);
}

TEST(Jinja, FormatsTheTimeThatItIsGiven) {
  const Result<Rendered> result = render("{{ strftime_now('%d %b %Y %H:%M') }}", Json::object());
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result.value().text(), "30 Nov 2026 12:34");
}

}  // namespace
}  // namespace kvass::jinja
