// A whole conversation as the text that a model expects, by its own template (jinja/jinja.h): what
// `apply_chat_template` of transformers gives. Pure functions.
#pragma once

#include <chrono>
#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

#include "kvass/status.h"
#include "text/jinja/jinja.h"
#include "text/tokenizer.h"

namespace kvass {

struct ChatPromptOptions {
  bool generation_prompt = true;        // end where the model speaks next
  bool continue_final_message = false;  // end inside the last message, which the model continues
  // More variables for the template, as a JSON object; they replace those that are there.
  std::string variables;
  jinja::RenderOptions render;
};

// `messages`: a JSON array of objects with role and content. `tools`: a JSON array, or empty for none. `special`: a
// JSON object of the model's own tokens (bos_token, eos_token, …), whose text counts as the template's. Bad input: what
// is no JSON of that form, both options at once, a last message that the template does not show, and whatever the
// template raises.
Result<jinja::Rendered> chat_prompt(const jinja::Template& style, std::string_view messages, std::string_view tools,
                                    std::string_view special, const ChatPromptOptions& options);

// The model's own tokens for that: {"bos_token":"<s>", …}, those that it has.
std::string special_tokens(const Tokenizer& tokenizer);

// Bytes [begin, end) of the rendered text.
jinja::Rendered rendered_part(const jinja::Rendered& rendered, size_t begin, size_t end);

// The ids of a rendered conversation, or of a part of one. Control tokens are taken from the template's own text only,
// never from what came with the messages. At the beginning of the whole the begin token stands once: where the template
// wrote it, or else where the model expects one.
enum class PromptPlace : uint8_t {
  first,          // the whole, or its beginning
  after_control,  // what follows a control token
  within_text,    // what follows other text
};
std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, const jinja::Rendered& rendered,
                                   PromptPlace place = PromptPlace::first);

// The time that strftime_now shows, as text: 2026-11-30T12:34:56.
std::string clock_text(std::chrono::system_clock::time_point time);
Result<std::tm> parse_clock(std::string_view text);

}  // namespace kvass
