// The dialect of OpenAI's API (platform.openai.com/docs/api-reference): models, chat completions, completions,
// responses, embeddings; and tokenize and detokenize beside them. One file for each endpoint.
#pragma once

#include "serve/router.h"
#include "serve/service.h"

namespace kvass::serve {

void add_models(Router& router, Service& service);
void add_chat_completions(Router& router, Service& service);
void add_completions(Router& router, Service& service);
void add_responses(Router& router, Service& service);

}  // namespace kvass::serve
