#include "app/prompt.h"

#include "app/model_file.h"

namespace kvass {

Result<RenderedPrompt> render_prompt(const PromptRequest& request) {
  std::string source = request.template_text.value_or("");
  std::optional<Tokenizer> tokenizer;
  if (request.model != "-") {
    KVASS_ASSIGN_OR_RETURN(const ModelFile file, ModelFile::open(request.model));
    KVASS_ASSIGN_OR_RETURN(tokenizer, file.tokenizer());
    if (!request.template_text) {
      KVASS_ASSIGN_OR_RETURN(source, file.chat_template());
      if (source.empty()) {
        return bad_input(request.model, "a chat model, which has a template, or PromptRequest.template_text",
                         "a model without one");
      }
    }
  } else if (!request.template_text) {
    return bad_input("PromptRequest.model", "a file, or - together with PromptRequest.template_text", "-");
  }
  KVASS_ASSIGN_OR_RETURN(const jinja::Template style, jinja::Template::parse(source));
  if (tokenizer && request.template_text) tokenizer = tokenizer->with_template(source);
  const std::string special = tokenizer ? special_tokens(*tokenizer) : "{}";
  KVASS_ASSIGN_OR_RETURN(const jinja::Rendered rendered,
                         chat_prompt(style, request.messages, request.tools, special, request.options));
  RenderedPrompt prompt{rendered.text(), std::nullopt};
  if (tokenizer) prompt.ids = encode_prompt(*tokenizer, rendered);
  return prompt;
}

}  // namespace kvass
