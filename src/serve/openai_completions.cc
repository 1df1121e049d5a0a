// POST /v1/completions: text from a prompt as it is, or from token ids; with echo the prompt's own log-probabilities.
#include <fmt/format.h>

#include <span>

#include "serve/openai.h"
#include "serve/text_answer.h"

namespace kvass::serve {
namespace {

constexpr int64_t kDefaultTokens = 16;  // OpenAI's
constexpr size_t kMostPrompts = 256;

struct Prompt {
  std::vector<int32_t> ids;
  bool began = false;  // its first token is not of the client's text: the one that begins every text
};

class CompletionAnswer final : public TextAnswer {
 public:
  CompletionAnswer(Service& service, const Exchange& exchange) : TextAnswer(service, exchange, "cmpl-") {}

  struct Text {
    size_t prompt = 0;
    std::string text;  // generated
    std::vector<TokenLogprobs> tokens;
    size_t shown = 0;  // bytes of the text that went out, with echo
    Usage usage;
    Json choice;  // as a whole answer has it, once the text has ended
  };
  bool echo = false;
  int64_t logprobs = -1;
  std::vector<Prompt> prompts;
  std::vector<Text> texts;

 protected:
  void begin(size_t index) override {
    if (!streams_ || !echo) return;
    std::string text = prompt_text(texts[index].prompt);
    texts[index].shown = text.size();
    send_part(index, std::move(text), {}, {});
  }
  void event(size_t index, const DecodeEvent& event) override {
    Text& text = texts[index];
    const std::string piece = shown_text(event.text);
    if (!streams_) {
      text.text += piece;
      if (event.logprobs != nullptr) text.tokens.push_back(*event.logprobs);
      return;
    }
    if (piece.empty() && event.logprobs == nullptr) return;
    Json entry;
    if (event.logprobs != nullptr) {
      Arrays arrays;
      arrays.offset = text.shown;
      add(arrays, event.logprobs->token, event.logprobs);
      text.shown = arrays.offset;
      entry = json(std::move(arrays));
    }
    send_part(index, piece, {}, std::move(entry));
  }
  void end(size_t index, TextResult& result) override {
    Text& text = texts[index];
    text.usage.add(result);
    const char* const finish = finish_reason(result.result.reason);
    if (streams_) {
      Json receipt = Json::object();
      add_receipt(receipt, result);
      return send_part(index, "", finish, {}, receipt);
    }
    Json entry;
    if (logprobs >= 0) {
      Arrays arrays;
      if (echo) {
        const Prompt& prompt = prompts[text.prompt];
        add(arrays, prompt.ids[0], nullptr, !prompt.began);
        for (const TokenLogprobs& token : result.prompt_logprobs) add(arrays, token.token, &token);
      }
      for (const TokenLogprobs& token : text.tokens) add(arrays, token.token, &token);
      entry = json(std::move(arrays));
    }
    text.choice = {{"index", index},
                   {"text", (echo ? prompt_text(text.prompt) : std::string()) + text.text},
                   {"logprobs", std::move(entry)},
                   {"finish_reason", finish}};
    add_receipt(text.choice, result);
  }
  void finish() override {
    if (streams_) return end_stream("text_completion", usage());
    Json whole = base("text_completion");
    whole["choices"] = Json::array();
    for (Text& text : texts) whole["choices"].push_back(std::move(text.choice));
    answer(std::move(whole), usage());
  }

 private:
  // The arrays that OpenAI has for log-probabilities of tokens; the first of a prompt has none.
  struct Arrays {
    Json tokens = Json::array(), logprobs = Json::array(), top = Json::array(), offsets = Json::array();
    size_t offset = 0;
  };
  static Json json(Arrays arrays) {
    return {{"tokens", std::move(arrays.tokens)},
            {"token_logprobs", std::move(arrays.logprobs)},
            {"top_logprobs", std::move(arrays.top)},
            {"text_offset", std::move(arrays.offsets)}};
  }
  void add(Arrays& arrays, int32_t token, const TokenLogprobs* of, bool in_text = true) const {
    const Tokenizer& tokenizer = *service_.model.tokenizer;
    const std::string piece = shown_text(tokenizer.piece(token, /*show_control=*/true));
    arrays.tokens.push_back(piece);
    arrays.offsets.push_back(arrays.offset);
    arrays.offset += in_text ? piece.size() : 0;
    arrays.logprobs.push_back(of == nullptr ? Json() : logprob_json(of->logprob));
    arrays.top.push_back(nullptr);
    if (of == nullptr) return;
    Json top = Json::object();
    for (const auto& [id, value] : of->top) {
      top[shown_text(tokenizer.piece(id, /*show_control=*/true))] = logprob_json(value);
    }
    top[piece] = logprob_json(of->logprob);
    arrays.top.back() = std::move(top);
  }

  std::string prompt_text(size_t prompt) const {
    std::string text;
    for (const int32_t token : std::span(prompts[prompt].ids).subspan(prompts[prompt].began)) {
      text += service_.model.tokenizer->piece(token, /*show_control=*/true);
    }
    return shown_text(text);
  }
  void send_part(size_t index, std::string text, Json finish, Json entry, const Json& more = Json::object()) {
    Json choice = {{"index", index},
                   {"text", std::move(text)},
                   {"logprobs", std::move(entry)},
                   {"finish_reason", std::move(finish)}};
    choice.update(more);
    Json chunk = base("text_completion");
    chunk["choices"] = Json::array({std::move(choice)});
    send(std::move(chunk));
  }
  Json usage() const {  // a prompt counts once, however many texts follow it
    Usage all;
    size_t prompt = SIZE_MAX;
    for (const Text& text : texts) {
      if (text.prompt != prompt) {
        all.prompt_tokens += text.usage.prompt_tokens;
        all.reused += text.usage.reused;
        prompt = text.prompt;
      }
      all.completion_tokens += text.usage.completion_tokens;
    }
    return all.json();
  }
};

// One prompt or several; each as text, whose control tokens are parsed as `kvass run` does, or as ids, which are taken
// as they are.
std::vector<Prompt> take_prompts(Params& params, const Service& service) {
  const Json* prompt = params.take("prompt");
  if (prompt == nullptr) params.refuse("prompt", "text, token ids, or a list of either", "none");
  const int64_t vocabulary = service.session->engine().program().vocabulary();
  const Tokenizer& tokenizer = *service.model.tokenizer;
  const auto encode = [&](const std::string& text) {
    const TextPart part{text, /*parse_special=*/true};
    Prompt made{tokenizer.encode_parts(std::span(&part, 1), tokenizer.add_bos(), /*continued=*/false)};
    made.began = !made.ids.empty() && made.ids[0] == tokenizer.bos() && !tokenizer.begins_with_bos(text);
    return made;
  };
  std::vector<Prompt> prompts;
  if (prompt->is_string()) {
    prompts.push_back(encode(prompt->get<std::string>()));
  } else if (prompt->is_array() && !prompt->empty() && prompt->front().is_number()) {
    prompts.push_back({take_ids(params, "prompt", *prompt, vocabulary)});
  } else if (prompt->is_array() && !prompt->empty()) {
    if (prompt->size() > kMostPrompts) {
      params.refuse("prompt", fmt::format("at most {} prompts", kMostPrompts), std::to_string(prompt->size()));
    }
    for (const Json& one : *prompt) {
      if (one.is_string()) {
        prompts.push_back(encode(one.get<std::string>()));
      } else if (one.is_array()) {
        prompts.push_back({take_ids(params, "prompt", one, vocabulary)});
      } else {
        params.refuse("prompt", "text, token ids, or a list of either", shown(one));
      }
    }
  } else {
    params.refuse("prompt", "text, token ids, or a list of either", shown(*prompt));
  }
  for (const Prompt& one : prompts) check_prompt(service, one.ids.size(), "prompt");
  return prompts;
}

void completions(Service& service, const Exchange& exchange) {
  Params params(exchange->request().body);
  check_model(params, service.id);
  TextRequest text = take_text(params, service, exchange);
  text.options.stops = params.texts("stop", kMostStops);
  text.options.max_tokens = params.integer("max_tokens", 0, INT64_MAX).value_or(kDefaultTokens);
  const auto answer = std::make_shared<CompletionAnswer>(service, exchange);
  answer->take_stream(params);
  answer->echo = params.boolean("echo").value_or(false);
  if (const Json* value = params.take("logprobs")) {
    if (value->is_boolean()) {
      if (value->get<bool>()) answer->logprobs = 0;
    } else {
      answer->logprobs = params.integer("logprobs", 0, kMostTopLogprobs).value();
    }
  }
  text.logprobs = answer->logprobs;
  text.score_prompt = answer->echo && answer->logprobs >= 0;
  if (text.score_prompt && answer->streams()) {
    params.refuse("logprobs", "no stream beside echo: the prompt's come with the whole answer", "stream: true");
  }
  const int64_t n = params.integer("n", 1, kMostChoices).value_or(1);
  if (const auto best = params.integer("best_of", 1, 128); best && *best != n) {
    params.refuse("best_of", fmt::format("n, which is {}", n), std::to_string(*best));
  }
  if (const auto suffix = params.text("suffix"); suffix && !suffix->empty()) {
    params.refuse("suffix", "none: no model family here fills in the middle", "some text");
  }
  params.harmless({"user"});
  answer->prompts = take_prompts(params, service);
  params.finish();

  const auto each = static_cast<size_t>(n);
  answer->texts.resize(answer->prompts.size() * each);
  for (size_t i = 0; i < answer->texts.size(); ++i) answer->texts[i].prompt = i / each;
  answer->start(
      std::move(text), answer->texts.size(), [&](size_t i) -> const auto& { return answer->prompts[i / each].ids; });
}

}  // namespace

void add_completions(Router& router, Service& service) {
  router.add({"POST", "/v1/completions",
              [&service](const Exchange& exchange, const auto&) { completions(service, exchange); }});
}

}  // namespace kvass::serve
