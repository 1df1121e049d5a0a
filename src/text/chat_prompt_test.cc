// Whole conversations by a template: published ones where they are at hand, and what a model's tokenizer makes of them.
#include "text/chat_prompt.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "goldens.h"
#include "text/test_vocabulary.h"

namespace kvass {
namespace {

using Json = nlohmann::ordered_json;

jinja::Template style(std::string_view source) { return jinja::Template::parse(source).value(); }

constexpr char kChatMl[] =
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
constexpr char kTalk[] = R"([{"role":"user","content":"Hi <|im_end|>"},{"role":"assistant","content":"yes "}])";

std::string text(const Result<jinja::Rendered>& result) {
  return result.ok() ? result.value().text() : "error: " + result.status().message();
}

TEST(ChatPrompt, EqualsPublishedTemplatesInEveryRun) {
  const std::optional<std::string> path = testing::golden_path("templates.json");
  if (!path) GTEST_SKIP() << "no goldens of published templates";
  std::ifstream file(*path);
  const Json goldens = Json::parse(file);
  for (const Json& entry : goldens["templates"]) {
    const Result<jinja::Template> made = jinja::Template::parse(entry["text"].get<std::string>());
    for (const Json& run : entry["runs"]) {
      ChatPromptOptions options;
      options.generation_prompt = run.value("add_generation_prompt", false);
      options.continue_final_message = run.value("continue_final_message", false);
      ::strptime(goldens["now"].get<std::string>().c_str(), "%Y-%m-%dT%H:%M:%S", &options.render.now);
      const std::string tools = run.contains("tools") && !run["tools"].is_null() ? run["tools"].dump() : "";
      const Result<jinja::Rendered> result = made.ok() ? chat_prompt(made.value(), run["messages"].dump(), tools,
                                                                     goldens["special_tokens"].dump(), options)
                                                       : Result<jinja::Rendered>(made.status());
      const std::string name = entry["template"].get<std::string>() + " / " + run["name"].get<std::string>();
      EXPECT_EQ(result.ok(), !run.contains("refused")) << name << ": " << text(result);
      if (result.ok() && !run.contains("refused")) {
        EXPECT_EQ(text(result), run["expected"].get<std::string>()) << name;
      }
    }
  }
}

TEST(ChatPrompt, ContinuesTheLastMessage) {
  ChatPromptOptions options;
  options.generation_prompt = false;
  options.continue_final_message = true;
  EXPECT_EQ(text(chat_prompt(style(kChatMl), kTalk, "", R"({"bos_token":"<s>"})", options)),
            "<s><|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\nyes ");
  const std::string trimming = "{% for m in messages %}[{{ m.content | trim }}]{% endfor %}";
  EXPECT_EQ(text(chat_prompt(style(trimming), kTalk, "", "{}", options)), "[Hi <|im_end|>][yes");
  EXPECT_NE(text(chat_prompt(style("{{ messages[0].content }}"), kTalk, "", "{}", options)).find("last message"),
            std::string::npos);
  EXPECT_NE(text(chat_prompt(style(kChatMl), "[]", "", "{}", options)).find("no message"), std::string::npos);
  options.generation_prompt = true;
  EXPECT_NE(text(chat_prompt(style(kChatMl), kTalk, "", "{}", options)).find("got both"), std::string::npos);
}

TEST(ChatPrompt, RefusesWhatIsNoJsonOfItsForm) {
  const ChatPromptOptions options;
  for (const char* messages : {"", "{}", "[", "3"}) {
    EXPECT_NE(text(chat_prompt(style(kChatMl), messages, "", "{}", options)).find("messages: expected a JSON array"),
              std::string::npos);
  }
  EXPECT_NE(text(chat_prompt(style(kChatMl), kTalk, "{}", "{}", options)).find("tools: expected a JSON array"),
            std::string::npos);
  ChatPromptOptions more;
  more.variables = "[]";
  EXPECT_NE(text(chat_prompt(style(kChatMl), kTalk, "", "{}", more)).find("ChatOptions.variables"), std::string::npos);
}

TEST(ChatPrompt, VariablesReachTheTemplate) {
  ChatPromptOptions options;
  options.variables = R"({"enable_thinking":false,"bos_token":"<B>"})";
  EXPECT_EQ(text(chat_prompt(style("{{ bos_token }}{{ enable_thinking }}{{ tools is none }}"), "[]", "",
                             R"({"bos_token":"<s>"})", options)),
            "<B>FalseTrue");
}

TEST(ChatPrompt, TypedControlTokensStayText) {
  ByteVocabularyBuilder builder;
  builder.vocabulary.bos = builder.add("<s>", TokenType::control);
  const int32_t start = builder.add("<|im_start|>", TokenType::control),
                end = builder.add("<|im_end|>", TokenType::control);
  const Tokenizer tokenizer = builder.build();
  const Result<jinja::Rendered> rendered =
      chat_prompt(style(kChatMl), R"([{"role":"user","content":"a<|im_end|>"}])", "", special_tokens(tokenizer), {});
  ASSERT_TRUE(rendered.ok()) << rendered.status().message();
  const std::vector<int32_t> ids = encode_prompt(tokenizer, rendered.value());
  EXPECT_EQ(std::count(ids.begin(), ids.end(), start), 2);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), end), 1);  // the template's, not the one that was typed
  EXPECT_EQ(std::count(ids.begin(), ids.end(), tokenizer.bos()), 1);
  EXPECT_EQ(tokenizer.decode(ids), "user\na<|im_end|>\nassistant\n");
}

}  // namespace
}  // namespace kvass
