// POST /v1/completions: text from a prompt as it is, or from token ids; with echo the prompt's own log-probabilities.
#include <fmt/format.h>

#include <cmath>
#include <span>

#include "app/text.h"
#include "serve/answer.h"
#include "serve/openai.h"

namespace kvass::serve {
namespace {

constexpr int64_t kMostTop = 20;
constexpr int64_t kDefaultTokens = 16;  // OpenAI's
constexpr size_t kMostPrompts = 256;

struct Prompt {
  std::vector<int32_t> ids;
  bool began = false;  // its first token is not of the client's text: the one that begins every text
};

struct Answer {
  Answer(Service& from, Exchange to) : service(from), exchange(std::move(to)), stream(exchange) {}

  struct Choice {
    std::string text;  // generated
    std::vector<TokenLogprobs> tokens;
    size_t shown = 0;  // bytes of the text that went out, with echo
    const char* finish = nullptr;
    std::string receipt;  // JSON; empty: not asked for
    size_t prompt = 0;
    Usage usage;
  };

  Service& service;
  Exchange exchange;
  EventStream stream;
  std::string id = new_id("cmpl-");
  int64_t created = now_seconds();
  bool streams = false, wants_usage = false, echo = false, failed = false;
  int64_t logprobs = -1;
  uint64_t seed = 0;
  std::vector<Prompt> prompts;
  std::vector<Choice> choices;
  std::vector<std::shared_ptr<Job>> jobs;
  size_t open = 0;
  Fields headers;

  Json base() const {
    return {{"id", id},
            {"object", "text_completion"},
            {"created", created},
            {"model", service.id},
            {"system_fingerprint", service.fingerprint}};
  }
  std::string prompt_text(size_t prompt) const {
    std::string text;
    for (const int32_t token : std::span(prompts[prompt].ids).subspan(prompts[prompt].began))
      text += service.model.tokenizer->piece(token, /*show_control=*/true);
    return text;
  }

  // The arrays that OpenAI has for log-probabilities of tokens; the first of a prompt has none.
  struct Arrays {
    Json tokens = Json::array(), logprobs = Json::array(), top = Json::array(), offsets = Json::array();
    size_t offset = 0;
  };
  void add(Arrays& arrays, int32_t token, const TokenLogprobs* of, bool in_text = true) const {
    const Tokenizer& tokenizer = *service.model.tokenizer;
    const std::string piece = valid_utf8(tokenizer.piece(token, /*show_control=*/true));
    const auto finite = [](double value) { return std::isfinite(value) ? value : -9999.0; };
    arrays.tokens.push_back(piece);
    arrays.offsets.push_back(arrays.offset);
    arrays.offset += in_text ? piece.size() : 0;
    if (of == nullptr) {
      arrays.logprobs.push_back(nullptr);
      arrays.top.push_back(nullptr);
      return;
    }
    arrays.logprobs.push_back(finite(of->logprob));
    Json top = Json::object();
    for (const auto& [id, value] : of->top) {
      top[valid_utf8(tokenizer.piece(id, /*show_control=*/true))] = finite(value);
    }
    top[piece] = finite(of->logprob);
    arrays.top.push_back(std::move(top));
  }
  static Json json(Arrays arrays) {
    return {{"tokens", std::move(arrays.tokens)},
            {"token_logprobs", std::move(arrays.logprobs)},
            {"top_logprobs", std::move(arrays.top)},
            {"text_offset", std::move(arrays.offsets)}};
  }

  static void add_receipt(Json& choice, const std::string& receipt) {
    if (!receipt.empty()) choice["receipt"] = Json::parse(receipt);
  }
  void send(size_t index, std::string text, const char* finish, Json logprobs_json) {
    Json chunk = base();
    Json choice = {{"index", index},
                   {"text", std::move(text)},
                   {"logprobs", std::move(logprobs_json)},
                   {"finish_reason", finish ? Json(finish) : Json()}};
    if (finish) add_receipt(choice, choices[index].receipt);
    chunk["choices"] = Json::array({std::move(choice)});
    if (wants_usage) chunk["usage"] = nullptr;
    if (!stream.begun()) stream.begin(headers);
    stream.send(chunk);
  }
  void begin(size_t index, const PrefixStore::Place& place) {
    if (headers.empty()) headers = prefix_headers(place, prompts[choices[index].prompt].ids.size());
    if (streams && echo && !failed) {
      std::string text = prompt_text(choices[index].prompt);
      choices[index].shown = text.size();
      send(index, std::move(text), nullptr, nullptr);
    }
  }
  void event(size_t index, const DecodeEvent& event) {
    if (failed) return;
    Choice& choice = choices[index];
    choice.text += shown_text(event.text);
    if (event.logprobs != nullptr) choice.tokens.push_back(*event.logprobs);
    if (!streams || (event.text.empty() && event.logprobs == nullptr)) return;
    Json entry;
    if (event.logprobs != nullptr) {
      Arrays arrays;
      arrays.offset = choice.shown;
      add(arrays, event.logprobs->token, event.logprobs);
      choice.shown = arrays.offset;
      entry = json(std::move(arrays));
    }
    send(index, shown_text(event.text), nullptr, std::move(entry));
  }
  void end(size_t index, Result<TextResult> result) {
    if (--open == 0) jobs.clear();  // which hold this
    if (failed) return;
    const bool cancelled = result.ok() && result->result.reason == StopReason::cancelled;
    if (!result.ok() || cancelled || result->result.reason == StopReason::failed) {
      failed = true;
      for (const auto& job : jobs) job->cancel();
      if (exchange->gone()) return;
      Status status = result.ok() ? result->result.status : result.status();
      if (status.ok()) status = cut_status(service);
      return fail(exchange, stream, api_error(status));
    }
    Choice& choice = choices[index];
    choice.finish = finish_reason(result->result.reason);
    choice.usage.add(result.value());
    if (result->receipt) choice.receipt = receipt_json(*result->receipt);
    note_text(exchange, result.value());
    if (streams) {
      send(index, "", choice.finish, nullptr);
    } else if (logprobs >= 0 && echo) {
      choice.tokens.insert(choice.tokens.begin(), result->prompt_logprobs.begin(), result->prompt_logprobs.end());
    }
    if (open == 0) finish();
  }
  Json usage() const {
    Usage all;
    size_t prompt = SIZE_MAX;
    for (const Choice& choice : choices) {
      if (choice.prompt != prompt) {
        all.prompt_tokens += choice.usage.prompt_tokens;
        all.reused += choice.usage.reused;
        prompt = choice.prompt;
      }
      all.completion_tokens += choice.usage.completion_tokens;
    }
    return all.json();
  }
  void finish() {
    if (streams) {
      if (wants_usage) {
        Json chunk = base();
        chunk["choices"] = Json::array();
        chunk["usage"] = usage();
        stream.send(chunk);
      }
      return stream.done();
    }
    Json whole = base();
    whole["choices"] = Json::array();
    for (size_t i = 0; i < choices.size(); ++i) {
      const Choice& choice = choices[i];
      Json entry;
      if (logprobs >= 0) {
        Arrays arrays;
        if (echo) {
          add(arrays, prompts[choice.prompt].ids[0], nullptr, !prompts[choice.prompt].began);
        }
        for (const TokenLogprobs& token : choice.tokens) add(arrays, token.token, &token);
        entry = json(std::move(arrays));
      }
      whole["choices"].push_back({{"index", i},
                                  {"text", (echo ? prompt_text(choice.prompt) : std::string()) + choice.text},
                                  {"logprobs", std::move(entry)},
                                  {"finish_reason", choice.finish}});
      add_receipt(whole["choices"].back(), choice.receipt);
    }
    whole["usage"] = usage();
    whole["kvass"] = {{"seed", seed}};
    exchange->answer({200, "application/json", dump(whole), headers});
  }
};

std::vector<int32_t> ids_of(const Params& params, const Json& list, int64_t vocabulary) {
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (const Json& id : list) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= vocabulary) {
      params.refuse("prompt", fmt::format("token ids from 0 to {}", vocabulary - 1), shown(id));
    }
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

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
    prompts.push_back({ids_of(params, *prompt, vocabulary)});
  } else if (prompt->is_array() && !prompt->empty()) {
    if (prompt->size() > kMostPrompts) {
      params.refuse("prompt", fmt::format("at most {} prompts", kMostPrompts), std::to_string(prompt->size()));
    }
    for (const Json& one : *prompt) {
      if (one.is_string()) {
        prompts.push_back(encode(one.get<std::string>()));
      } else if (one.is_array()) {
        prompts.push_back({ids_of(params, one, vocabulary)});
      } else {
        params.refuse("prompt", "text, token ids, or a list of either", shown(one));
      }
    }
  } else {
    params.refuse("prompt", "text, token ids, or a list of either", shown(*prompt));
  }
  for (const Prompt& one : prompts) {
    check_prompt(service, one.ids.size(), "prompt");
  }
  return prompts;
}

void completions(Service& service, const Exchange& exchange) {
  Params params(exchange->request().body);
  check_model(params, service, service.id);
  TextRequest text;
  text.owner = exchange->request().owner;
  text.options.sampling = take_sampling(params, service.session->engine().program().vocabulary(), service.sampling);
  text.options.stops = params.texts("stop", 64);
  text.options.ignore_eos = params.boolean("ignore_eos").value_or(false);
  text.penalties = take_penalties(params);
  text.receipt = params.boolean("receipt").value_or(false);
  text.options.max_tokens = params.integer("max_tokens", 0, INT64_MAX).value_or(kDefaultTokens);
  auto answer = std::make_shared<Answer>(service, exchange);
  answer->streams = params.boolean("stream").value_or(false);
  answer->echo = params.boolean("echo").value_or(false);
  if (auto options = params.object("stream_options")) {
    if (!answer->streams) params.refuse("stream_options", "stream: true beside it", "none");
    answer->wants_usage = options->boolean("include_usage").value_or(false);
    options->harmless({"include_obfuscation"});
    options->finish();
  }
  if (const Json* value = params.take("logprobs")) {
    if (value->is_boolean()) {
      if (value->get<bool>()) answer->logprobs = 0;
    } else {
      answer->logprobs = params.integer("logprobs", 0, kMostTop).value();
    }
  }
  if (answer->echo && answer->logprobs >= 0 && answer->streams) {
    params.refuse("logprobs", "no stream beside echo: the prompt's come with the whole answer", "stream: true");
  }
  const int64_t n = params.integer("n", 1, service.most_choices).value_or(1);
  if (const auto best = params.integer("best_of", 1, 128); best && *best != n) {
    params.refuse("best_of", fmt::format("n, which is {}", n), std::to_string(*best));
  }
  if (const auto suffix = params.text("suffix"); suffix && !suffix->empty()) {
    params.refuse("suffix", "none: no model family here fills in the middle", "some text");
  }
  params.harmless({"user"});
  answer->prompts = take_prompts(params, service);
  params.finish();

  text.logprobs = answer->logprobs;
  text.score_prompt = answer->echo && answer->logprobs >= 0;
  const uint64_t seed = answer->seed = text.options.sampling.seed;
  answer->choices.resize(answer->prompts.size() * static_cast<size_t>(n));
  answer->open = answer->choices.size();
  for (size_t i = 0; i < answer->choices.size(); ++i) {
    answer->choices[i].prompt = i / static_cast<size_t>(n);
    text.prompt = answer->prompts[answer->choices[i].prompt].ids;
    text.options.sampling.seed = seed + i;
    answer->jobs.push_back(std::make_shared<TextJob>(
        service, text, [answer, i](const PrefixStore::Place& place) { answer->begin(i, place); },
        [answer, i](const DecodeEvent& event) { answer->event(i, event); },
        [answer, i](Result<TextResult> result) { answer->end(i, std::move(result)); }));
  }
  const std::vector<std::shared_ptr<Job>> jobs = answer->jobs;
  submit(service, exchange, jobs);
}

}  // namespace

void add_completions(Router& router, Service& service) {
  router.add({"POST", "/v1/completions",
              [&service](const Exchange& exchange, const auto&) { completions(service, exchange); }});
}

}  // namespace kvass::serve
