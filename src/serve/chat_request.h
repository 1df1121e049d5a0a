// Messages of a request as the ids of a prompt, by the model's chat template.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "serve/params.h"
#include "serve/service.h"
#include "text/chat_prompt.h"

namespace kvass::serve {

struct ChatRequest {
  Json messages;  // as templates take them: every content a string
  ChatPromptOptions options;
};

// A list of messages with role and content as text, or as a list of text parts. Others are refused by name.
Json take_messages(const Params& params, const char* name, const Json& list);
// chat_template_kwargs, add_generation_prompt, continue_final_message.
void take_template(Params& params, ChatRequest& request);

std::vector<int32_t> render(const Service& service, const ChatRequest& request);

}  // namespace kvass::serve
