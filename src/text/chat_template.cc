#include "text/chat_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace kvass {
namespace {

enum Flags {
  kPlain = 0,
  kSystemInTurn = 1,  // the system text is part of the first user turn, not a turn of its own
  kTrimSystem = 2,    // white space around the system text is removed
  kTrimUser = 4,
  kTrimWhole = 8,  // white space around system and user text as a whole is removed
};

struct Texts {
  std::string_view system_begin, system_end, user_begin, user_end, model_end;
};

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n\r\v\f";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) + 1 - first);
}

// A text of the list with {eos} and {bos} replaced by the model's tokens.
std::string with_tokens(const Tokenizer& tokenizer, std::string_view text) {
  std::string filled(text);
  for (const auto& [mark, id] : {std::pair("{eos}", tokenizer.eos()), std::pair("{bos}", tokenizer.bos())}) {
    const size_t at = filled.find(mark);
    if (at != std::string::npos) filled.replace(at, 5, tokenizer.piece(id, /*show_control=*/true));
  }
  return filled;
}

}  // namespace

struct ChatTemplateKind {
  std::string_view name;
  std::array<std::string_view, 4> marks;  // the jinja text contains the first two and not the last two; empty: no mark
  Texts texts;
  int flags;

  bool has(Flags flag) const { return (flags & flag) != 0; }
  bool fits(std::string_view jinja) const {
    const auto there = [&](std::string_view mark) { return jinja.find(mark) != std::string_view::npos; };
    return there(marks[0]) && there(marks[1]) && (marks[2].empty() || !there(marks[2])) &&
           (marks[3].empty() || !there(marks[3]));
  }
};

namespace {

constexpr ChatTemplateKind kKinds[] = {
#define KVASS_CHAT_TEMPLATE(name, marks, texts, flags) {name, marks, texts, flags},
#include "text/chat_templates.inc"
#undef KVASS_CHAT_TEMPLATE
};

std::string known_names() {
  std::string names;
  for (const ChatTemplateKind& kind : kKinds) names += (names.empty() ? "" : ", ") + std::string(kind.name);
  return names;
}

}  // namespace

Result<ChatTemplate> ChatTemplate::named(std::string_view name) {
  for (const ChatTemplateKind& kind : kKinds) {
    if (kind.name == name) return ChatTemplate(kind);
  }
  return bad_input("ChatOptions.template_name", "one of " + known_names(), "'" + std::string(name) + "'");
}

Result<ChatTemplate> ChatTemplate::recognize(std::string_view source, std::string_view jinja) {
  const std::string key = vocabulary_field(source, "tokenizer.chat_template");
  if (jinja.empty()) {
    return bad_input(key, "the template of a chat model",
                     "none: this is a base model, whose texts `kvass run` continues; or name a template with "
                     "ChatOptions.template_name (" +
                         known_names() + ")");
  }
  for (const ChatTemplateKind& kind : kKinds) {
    if (kind.fits(jinja)) return ChatTemplate(kind);
  }
  return unsupported(key, "one that is known (" + known_names() + ")",
                     fmt::format("another of {} bytes; name the nearest with ChatOptions.template_name", jinja.size()));
}

std::string_view ChatTemplate::name() const { return kind_->name; }

std::vector<ChatPart> ChatTemplate::first_turn(const Tokenizer& tokenizer, std::string_view system,
                                               std::string_view user) const {
  const Texts& texts = kind_->texts;
  std::vector<ChatPart> parts;
  const auto control = [&](std::string_view text) { parts.push_back({with_tokens(tokenizer, text), true}); };
  const bool whole = kind_->has(kTrimWhole);
  const auto add_system = [&] {
    if (system.empty()) return;
    control(texts.system_begin);
    parts.push_back({std::string(kind_->has(kTrimSystem) ? trim(system) : system), false});
    control(texts.system_end);
  };
  if (!kind_->has(kSystemInTurn)) add_system();
  control(texts.user_begin);
  if (kind_->has(kSystemInTurn)) add_system();
  if (whole && !system.empty()) {  // the whole begins with the system text: trim only the end
    const std::string_view trimmed = trim(user);
    user = user.substr(0, trimmed.empty() ? 0 : static_cast<size_t>(trimmed.data() + trimmed.size() - user.data()));
  } else if (whole || kind_->has(kTrimUser)) {
    user = trim(user);
  }
  parts.push_back({std::string(user), false});
  control(texts.user_end);
  return parts;
}

std::vector<ChatPart> ChatTemplate::next_turn(const Tokenizer& tokenizer, std::string_view user) const {
  std::vector<ChatPart> parts = first_turn(tokenizer, "", user);
  parts.insert(parts.begin(), {with_tokens(tokenizer, kind_->texts.model_end), true});
  return parts;
}

}  // namespace kvass
