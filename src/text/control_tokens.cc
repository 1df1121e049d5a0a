#include "text/control_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "base/json_text.h"
#include "text/jinja/jinja.h"

namespace kvass {
namespace {

// Marks that end a model's output. Files name one or two of them; a model may use any. Those that end a turn come
// first, the most common first.
constexpr std::string_view kEnds[] = {"<end_of_turn>",
                                      "<|eot_id|>",
                                      "<|im_end|>",
                                      "<|end|>",
                                      "<turn|>",
                                      "<|endoftext|>",
                                      "<|end_of_text|>",
                                      "<|eom_id|>",
                                      "<end_of_utterance>",
                                      "<\uff5cend\u2581of\u2581sentence\uff5c>"};
// Marks that begin a turn.
constexpr std::string_view kBegins[] = {"<start_of_turn>", "<|im_start|>", "<|start_header_id|>", "<|end_header_id|>",
                                        "<|turn>"};

bool begins_and_ends(std::string_view piece, std::string_view begin, std::string_view end) {
  return piece.size() > begin.size() + end.size() && piece.starts_with(begin) && piece.ends_with(end);
}

// <…> or […]: nothing that a text has as a word.
bool is_mark(std::string_view piece) { return begins_and_ends(piece, "<", ">") || begins_and_ends(piece, "[", "]"); }

// A mark that only templates write: with bars, or in brackets and capitals. Not <table> or <think>.
bool is_turn_mark(std::string_view piece) {
  constexpr std::string_view kWideBar = "\uff5c";
  if (begins_and_ends(piece, "<", ">")) {
    const std::string_view inner = piece.substr(1, piece.size() - 2);
    return inner.starts_with('|') || inner.ends_with('|') || inner.starts_with(kWideBar) || inner.ends_with(kWideBar);
  }
  const auto capital = [](char c) { return (c >= 'A' && c <= 'Z') || c == '_' || c == '/'; };
  return begins_and_ends(piece, "[", "]") && std::all_of(piece.begin() + 1, piece.end() - 1, capital);
}

// What the template writes after an answer, from its first character that is no space; empty where it fails or leaves
// answers out. That a template fails is for those to say who render with it.
std::string after_answer(std::string_view chat_template, std::string_view special) {
  constexpr std::string_view kAnswer = "ANSWER-OF-THE-MODEL";
  if (chat_template.empty()) return {};
  const Result<jinja::Template> style = jinja::Template::parse(chat_template);
  if (!style.ok()) return {};
  const std::string variables =
      fmt::format(R"({{{}"messages":[{{"role":"user","content":"a"}},{{"role":"assistant","content":"{}"}},)"
                  R"({{"role":"user","content":"b"}}],"tools":null,"documents":null,"add_generation_prompt":true}})",
                  special, kAnswer);
  jinja::RenderOptions limits;  // of a template that is only looked at
  limits.most_steps = 200'000;
  limits.most_bytes = limits.most_output = size_t{1} << 24;
  const Result<jinja::Rendered> rendered = style->render(variables, {}, limits);
  if (!rendered.ok()) return {};
  const std::string text = rendered->text();
  const size_t at = text.rfind(kAnswer);
  if (at == std::string::npos) return {};
  return text.substr(std::min(text.find_first_not_of(" \t\r\n", at + kAnswer.size()), text.size()));
}

class Finder {
 public:
  Finder(const PieceTable& pieces, std::span<const TokenType> types) : pieces_(pieces) {
    found_.types.assign(types.begin(), types.end());
  }

  void end(int32_t id) {
    if (id < 0) return;
    if (std::find(found_.ends.begin(), found_.ends.end(), id) == found_.ends.end()) found_.ends.push_back(id);
    control(id);
  }
  void control(int32_t id) {
    if (id < 0) return;
    TokenType& type = found_.types[static_cast<size_t>(id)];
    if (type != TokenType::byte && type != TokenType::unknown && is_mark(pieces_[id])) type = TokenType::control;
  }
  void eot(int32_t id) {
    if (found_.eot < 0) found_.eot = id;
  }
  // Calls body(id) for each token that looks like a mark.
  template <class Body>
  void for_each_mark(Body&& body) const {
    for (int32_t id = 0; id < pieces_.size(); ++id) {
      const TokenType type = found_.types[static_cast<size_t>(id)];
      if (type != TokenType::byte && is_mark(pieces_[id])) body(id);
    }
  }
  ControlTokens take() { return std::move(found_); }

 private:
  const PieceTable& pieces_;
  ControlTokens found_;
};

template <size_t kCount>
size_t place_in(const std::string_view (&names)[kCount], std::string_view name) {
  return static_cast<size_t>(std::find(std::begin(names), std::end(names), name) - std::begin(names));
}

}  // namespace

ControlTokens find_control_tokens(const PieceTable& pieces, std::span<const TokenType> types, const ControlIds& ids,
                                  std::string_view chat_template) {
  Finder finder(pieces, types);
  std::string special;  // members of a JSON object
  for (const auto& [name, id] : {std::pair("bos_token", ids.bos), std::pair("eos_token", ids.eos)}) {
    if (id >= 0) special += fmt::format(R"("{}":{},)", name, json_string(pieces[id]));
  }
  const std::string after = after_answer(chat_template, special);
  int32_t closing = -1;               // the longest mark with which `after` begins
  int32_t named[std::size(kEnds)]{};  // [kEnds] 1 + the token; 0: none
  std::vector<int32_t> marks;
  finder.for_each_mark([&](int32_t id) {
    const std::string_view piece = pieces[id];
    if (const size_t place = place_in(kEnds, piece); place < std::size(kEnds)) {
      if (named[place] == 0) named[place] = id + 1;
      marks.push_back(id);
    } else if (place_in(kBegins, piece) < std::size(kBegins) ||
               (is_turn_mark(piece) && chat_template.find(piece) != std::string_view::npos)) {
      marks.push_back(id);
    }
    if (after.starts_with(piece) && (closing < 0 || piece.size() > pieces[closing].size())) closing = id;
  });

  finder.control(ids.bos);
  for (const int32_t id : {ids.eos, ids.eot, ids.eom}) finder.end(id);
  for (const int32_t id : ids.ends) finder.end(id);
  finder.eot(ids.eot);
  for (const int32_t id : marks) finder.control(id);
  for (const int32_t id : named) {
    if (id == 0) continue;
    finder.eot(id - 1);
    finder.end(id - 1);
  }
  finder.end(closing);
  finder.eot(closing);
  return finder.take();
}

}  // namespace kvass
