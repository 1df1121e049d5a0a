// The prompt of a conversation by the model's template: the job of `kvass chat --print-prompt`. Reads no weights.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvass/status.h"
#include "text/chat_prompt.h"

namespace kvass {

struct PromptRequest {
  std::string model;                         // a file, or - for none; then template_text is needed
  std::optional<std::string> template_text;  // jinja; none: the model's own
  std::string messages;                      // a JSON array
  std::string tools;                         // a JSON array; empty: none
  ChatPromptOptions options;
};

struct RenderedPrompt {
  std::string text;
  std::optional<std::vector<int32_t>> ids;  // none without a model
};

Result<RenderedPrompt> render_prompt(const PromptRequest& request);

}  // namespace kvass
