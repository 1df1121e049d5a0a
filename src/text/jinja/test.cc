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
  const auto pieces = [&](std::string_view source) {
    const Result<Rendered> result = render(source, variables);
    EXPECT_TRUE(result.ok()) << result.status().message();
    std::string shown;
    for (const Piece& piece : result.value().pieces)
      shown += (piece.outside ? "[" : "(") + piece.text + (piece.outside ? "]" : ")");
    return shown;
  };
  EXPECT_EQ(pieces("{{ bos_token }}<|user|>{{ messages[0].content | trim }}<|end|>"),
            "(<s><|user|>)[<|end|> a,b](<|end|>)");
  EXPECT_EQ(pieces("{{ '<' + messages[0]['content'].strip().split(',')[1] ~ '>' }}"), "(<)[b](>)");
  EXPECT_EQ(pieces("{{ messages[0].content | upper | replace('A', 'x') }}"), "[  <|END|> ](x)[,B ]");
  EXPECT_EQ(pieces("{{ messages | tojson }}"), "([{\")[content](\": \")[  <|end|> a,b ](\"}])");
  EXPECT_EQ(pieces("{% set x %}{{ messages[0].content }}!{% endset %}{{ x[4:] }}"), "[end|> a,b ](!)");
  EXPECT_EQ(pieces("{{ messages[0].content[2] }}{{ '%s' % messages[0].content[3] }}"), "[<|]");
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

// What no single expression may do for free: go through, compare or make something long.
TEST(Jinja, EveryOperationCountsWhatItCosts) {
  Json items = Json::array(), pairs = Json::array(), map = Json::object();
  for (int i = 0; i < 2'000; ++i) {
    items.push_back("item " + std::to_string(i));
    pairs.push_back({std::to_string(i), i});
    map[std::to_string(i)] = i;
  }
  const std::string text(40'000, 'a');
  const Json variables = {{"t", text},        {"u", text}, {"l", items}, {"k", items},
                          {"p", pairs},       {"d", map},  {"e", map},   {"spaces", std::string(40'000, ' ')},
                          {"f", "%% " + text}};
  RenderOptions few = options();
  few.most_steps = 100;
  for (const char* expression : {
           "t|upper",
           "t|lower",
           "t|title",
           "t|capitalize",
           "t|trim('a')",
           "t|replace('a', 'b')",
           "t|replace('', 'b')",
           "t|list",
           "t|length",
           "t|reverse",
           "t|indent",
           "t|truncate(30000)",
           "t|center(40002)",
           "t|escape",
           "t|urlencode",
           "t|wordcount",
           "t|string",
           "t|tojson",
           "t|format",
           "f|format",
           "f % ()",
           "t|first",
           "t|last",
           "t|int",
           "t|float",
           "t|join",
           "t|batch(3)",
           "t|slice(3)",
           "t|e",
           "t|safe",
           "t.upper()",
           "t.lower()",
           "t.casefold()",
           "t.title()",
           "t.swapcase()",
           "t.capitalize()",
           "spaces.strip()",
           "spaces.lstrip()",
           "t.rstrip('a')",
           "t.split('b')",
           "t.rsplit('b')",
           "t.split()",
           "t.splitlines()",
           "t.partition('b')",
           "t.rpartition('b')",
           "t.find('b')",
           "t.rfind('b')",
           "t.count('b')",
           "t.replace('a', '')",
           "t.format()",
           "t.ljust(40002)",
           "t.zfill(40002)",
           "t.isalpha()",
           "t.isupper()",
           "t.isspace() or t.isalnum()",
           "','.join(t)",
           "t.removesuffix('a')",
           "t.startswith('a', 30000)",
           "t is upper",
           "t is lower",
           "t == u",
           "t != u",
           "t < u",
           "t in [u]",
           "'b' in t",
           "t + 'b'",
           "t ~ 'b'",
           "t * 2",
           "t[1:]",
           "t[::-1]",
           "t[35000]",
           "t is eq(u)",
           "t is in([u])",
           "{t: 1}[u]",
           "[t]|sort|length + [t, u]|sort|length",
           "l|sort",
           "l|join",
           "l|unique|list",
           "l|map('upper')|list",
           "l|map('string')|list",
           "l|select('eq', 'x')|list",
           "l|selectattr('x')|list",
           "l|groupby(0)",
           "l|max",
           "l|min",
           "l|reverse|list",
           "l|list",
           "l|first",
           "l|last",
           "l|tojson",
           "l|string",
           "l|batch(3)|list",
           "l|slice(3)|list",
           "l|sum(start='')",
           "l + k",
           "l * 2",
           "l[1:]",
           "l[::-1]",
           "l == k",
           "l < k",
           "'x' in l",
           "l.index('x')",
           "l.count('x')",
           "l ~ ''",
           "','.join(l)",
           "dict(p)",
           "d|dictsort",
           "d|items|list",
           "d.items()",
           "d.keys()|list",
           "d.values()|list",
           "d == e",
           "d|tojson",
           "d|string",
           "d|list",
           "d|length + (d.items() == e.items())",
           "namespace(d)",
           "range(100000)|length",
           "'a'|center(9000000)",
           "'a'.rjust(9000000)",
           "'7'.zfill(9000000)",
           "'%9000000d' % 1",
           "'%9000000s' % 1",
           "'a'|indent(9000000, true)",
           "d|tojson(indent=9000000)",
           "[1]|batch(9000000, 'x')|list",
           "'a' * 9000000",
           "[1] * 9000000",
           "strftime_now(t)",
           "strftime_now('%9000000d')",
       }) {
    const std::string message = refusal("{% set x = " + std::string(expression) + " %}", variables, few);
    const bool limited = message.find("100 steps") != std::string::npos;
    const bool named = message.find("strftime_now: expected a time of at most") != std::string::npos;
    EXPECT_TRUE(limited || named) << expression << ": " << message;
  }
}

TEST(Jinja, TakesNoMoreMemoryThanItsLimit) {
  RenderOptions small = options();
  small.most_bytes = 1'000'000;
  for (const char* source : {
           "{{ ('a' * 10000).replace('a', 'b' * 10000)|length }}",
           "{{ 'a'|center(2000000) }}",
           "{{ 'a'.zfill(2000000) }}",
           "{{ 'a\nb'|indent(2000000) }}",
           "{{ '%2000000d' % 1 }}",
           "{{ '%99999999s' % 1 }}",
           "{{ [1]|tojson(indent=2000000) }}",
           "{{ ('a' * 100000)|list }}",
           "{{ ('a ' * 100000).split() }}",
           "{{ ('a,' * 100000).split(',') }}",
           "{{ ['a' * 100000]|batch(100000, 1)|list }}",
           "{{ range(100000)|list }}",
           "{{ 'a' * 9223372036854775807 }}",
           "{{ [1, 2] * 9223372036854775807 }}",
           "{{ ('a' * 300000)|replace('', '-') }}",
           "{% for i in range(20000) %}{% set x = namespace() %}{% endfor %}",
           "{% for i in range(20000) %}{% macro m() %}{% endmacro %}{% endfor %}",
           "{% set ns = namespace(x=['a' * 1000]) %}{% for i in range(20) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
       }) {
    EXPECT_NE(refusal(source, Json::object(), small).find("1000000 bytes of strings and lists"), std::string::npos)
        << source << ": " << refusal(source, Json::object(), small);
  }
}

// Values that share their parts are small, however many there are when each is counted.
TEST(Jinja, SharedPartsCountEachTimeTheyAreVisited) {
  const std::string tree =
      "{% set ns = namespace(x=[], y=[]) %}{% for i in range(150) %}"
      "{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}";
  for (const char* use :
       {"{{ ns.x == ns.y }}", "{{ ns.x < ns.y }}", "{{ ns.x }}", "{{ ns.x|tojson }}", "{{ ns.y in [ns.x] }}"}) {
    EXPECT_NE(refusal(tree + use).find("the template "), std::string::npos) << use;
  }
}

// Long chains, which end as they began: without a stack as deep as they are long.
TEST(Jinja, ChainsOfAnyLengthAreRefusedOrTakenApart) {
  const auto repeated = [](std::string_view part, size_t times) {
    std::string text;
    for (size_t i = 0; i < times; ++i) text += part;
    return text;
  };
  constexpr size_t kTimes = 150'000;
  for (const std::string& source : {
           "{{ " + repeated("1+", kTimes) + "1 }}",
           "{{ x" + repeated(".a", kTimes) + " }}",
           "{{ x" + repeated("|e", kTimes) + " }}",
           "{{ x" + repeated("()", kTimes) + " }}",
           "{{ x" + repeated("[0]", kTimes) + " }}",
           "{{ " + repeated("1 or ", kTimes) + "1 }}",
           "{{ " + repeated("1 and ", kTimes) + "1 }}",
           "{{ 1" + repeated(" if 1", kTimes) + " }}",
       }) {
    EXPECT_NE(refusal(source).find("nested deeper than 1000"), std::string::npos) << source.substr(0, 20);
  }
  EXPECT_EQ(refusal("{{ " + repeated("1 ~ ", 3000) + "1 }}"), "rendered: " + repeated("1", 3001));
  EXPECT_EQ(refusal("{{ " + repeated("1 + ", 300) + "1 }}"), "rendered: 301");
  const std::string loop = "{% for i in range(1000) %}{% for j in range(200) %}";
  const std::string end = "{% endfor %}{% endfor %}";
  EXPECT_EQ(refusal("{% set ns = namespace(c=1) %}" + loop + "{% set ns.c = cycler(ns.c) %}" + end), "rendered: ");
  EXPECT_EQ(refusal("{% set ns = namespace(c=1) %}" + loop + "{% set ns.c = namespace(c=ns.c) %}" + end), "rendered: ");
  EXPECT_NE(
      refusal("{% set ns = namespace(c=1) %}" + loop + "{% set ns.c = [ns.c].copy %}" + end).find("nested deeper"),
      std::string::npos);
}

TEST(Jinja, TakesUtf8Alone) {
  EXPECT_NE(refusal("{{ '\\ud83d' }}").find("half a surrogate pair"), std::string::npos);
  EXPECT_NE(refusal("{{ '\\ud83d\\ude00' }}").find("half a surrogate pair"), std::string::npos);
  EXPECT_EQ(refusal("{{ '\\U0001f600\\xe9\\u20ac' }}"), "rendered: 😀é€");
  EXPECT_NE(refusal("{{ '\\N{BULLET}' }}").find("not supported"), std::string::npos);
  EXPECT_EQ(refusal("a\xff"), "chat template: expected UTF-8, got a byte that is of no character, at 1");
  EXPECT_NE(refusal(std::string((1 << 20) + 1, 'a')).find("at most 1048576 bytes"), std::string::npos);
}

TEST(Jinja, FormatsNothingThatDoesNotFit) {
  EXPECT_NE(refusal("{{ '%d' % 1e30 }}").find("beyond 64 bits"), std::string::npos);
  EXPECT_NE(refusal("{{ '%d' % ('nan'|float) }}").find("beyond 64 bits"), std::string::npos);
  EXPECT_NE(refusal("{{ '%.2000f' % 1 }}").find("a precision of at most 1100"), std::string::npos);
  EXPECT_NE(refusal("{{ '%99999999999d' % 1 }}").find("a width below 2^31"), std::string::npos);
  EXPECT_NE(refusal("{{ strftime_now('%500000000d') }}").find("a time of at most"), std::string::npos);
  EXPECT_NE(refusal("{{ strftime_now('a\\0b') }}").find("without a zero byte"), std::string::npos);
  EXPECT_EQ(refusal("{{ strftime_now('%200d')|length }}{{ strftime_now('') }}"), "rendered: 200");
}

TEST(Jinja, FormatsTheTimeThatItIsGiven) {
  const Result<Rendered> result = render("{{ strftime_now('%d %b %Y %H:%M') }}", Json::object());
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result.value().text(), "30 Nov 2026 12:34");
}

}  // namespace
}  // namespace kvass::jinja
