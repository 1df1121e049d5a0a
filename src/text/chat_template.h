// Chat templates: the text around the messages of a conversation. Not a jinja engine: known templates are listed
// (chat_templates.inc), and a model's own template is recognized by its text. The history of a conversation stays in
// the caches, so a template gives only what each turn adds.
//
//   first turn    [system] user text, up to the start of the answer
//   next turn     the end of the model's last turn, then the user text, up to the start of the answer
//
// The template's texts are parsed for control tokens, messages are not: "<end_of_turn>" in a user's message is plain
// text. A view of static data.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kvass/status.h"
#include "text/tokenizer.h"

namespace kvass {

// A part of a conversation. Owns its text.
struct ChatPart {
  std::string text;
  bool control = false;  // text of the template: control tokens in it are parsed
};

struct ChatTemplateKind;  // a row of the list

class ChatTemplate {
 public:
  // The template of a name (--chat-template). The error for an unknown name lists the known ones.
  static Result<ChatTemplate> named(std::string_view name);
  // Recognizes the template text of a model file (tokenizer.chat_template; empty if the file has none). `source` is the
  // file's name.
  static Result<ChatTemplate> recognize(std::string_view source, std::string_view jinja);

  std::string_view name() const;
  // An empty `system` means no system message. The BOS token is not included.
  std::vector<ChatPart> first_turn(const Tokenizer& tokenizer, std::string_view system, std::string_view user) const;
  std::vector<ChatPart> next_turn(const Tokenizer& tokenizer, std::string_view user) const;

 private:
  explicit ChatTemplate(const ChatTemplateKind& kind) : kind_(&kind) {}
  const ChatTemplateKind* kind_;
};

}  // namespace kvass
