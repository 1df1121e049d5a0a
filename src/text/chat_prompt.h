// A whole conversation as the text that a model expects, by its own template (jinja/jinja.h): what
// `apply_chat_template` of transformers gives. Pure functions.
#pragma once

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

// The ids of a rendered conversation. Control tokens are taken from the template's own text only, never from what came
// with the messages. The begin token is added if the model expects one and the template did not write it.
std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, const jinja::Rendered& rendered);

}  // namespace kvass
