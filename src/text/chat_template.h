// Chat templates: what stands around the texts of a conversation. Not a jinja engine: the templates that are known are
// listed (chat_templates.inc), and a model's own is recognized by its text. A conversation grows turn by turn and its
// history stays in the caches, so a template gives what each turn adds, never the whole.
//
//   first turn    [system] user text, up to where the model speaks
//   next turn     what closes the model's last turn, then the user text, up to where the model speaks
//
// Texts of the template are parsed for control tokens, texts of people are not: "<end_of_turn>" in a user's text is
// text. A view of static data.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kvass/status.h"
#include "text/tokenizer.h"

namespace kvass {

// A stretch of a conversation. Owns its text.
struct ChatPart {
  std::string text;
  bool control = false;  // the template's: control tokens in it are parsed
};

struct ChatTemplateKind;  // a row of the list

class ChatTemplate {
 public:
  // By name (--chat-template); an unknown one is an error that lists the known ones.
  static Result<ChatTemplate> named(std::string_view name);
  // By the text of a model file (tokenizer.chat_template), which is empty where there is none. `source` is the file.
  static Result<ChatTemplate> recognize(std::string_view source, std::string_view jinja);

  std::string_view name() const;
  // `system` may be empty: then there is none. The token that begins a text is not part of it.
  std::vector<ChatPart> first_turn(const Tokenizer& tokenizer, std::string_view system, std::string_view user) const;
  std::vector<ChatPart> next_turn(const Tokenizer& tokenizer, std::string_view user) const;

 private:
  explicit ChatTemplate(const ChatTemplateKind& kind) : kind_(&kind) {}
  const ChatTemplateKind* kind_;
};

}  // namespace kvass
