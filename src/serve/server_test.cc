// What clients may rely on: answers that do not depend on what else is served, and requests that are honoured or
// refused by name.
#include "serve/server.h"

#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "app/receipt.h"
#include "app/score.h"
#include "app/text.h"
#include "effort.h"
#include "seed.h"
#include "serve/answer.h"
#include "serve/test_server.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

// What a text is without a server.
class Alone {
 public:
  Alone() : model_(open_model(talker(), Math::a16, 2).value()) {}
  // As readers are shown it, in UTF-8.
  std::string text(const std::vector<int32_t>& prompt, int64_t most, uint64_t seed, float temperature) {
    StreamOptions options = small_server().streams;
    options.sequences = 1;
    OpenStream stream = open_stream(model_, options, 1).value();
    DecodeOptions decode;
    decode.prompt = prompt;
    decode.max_tokens = most;
    decode.sampling.temperature = temperature;
    decode.sampling.seed = seed;
    std::string shown;
    const auto on_text = [&](std::string_view piece) {
      shown += piece;
      return true;
    };
    EXPECT_TRUE(generate(model_, stream, decode, on_text, never_).ok());
    return serve::shown_text(shown);
  }
  std::vector<double> nll(const std::vector<int32_t>& ids) {
    OpenStream stream = open_stream(model_, small_server().streams, kScoreHeadRows).value();
    return score(stream, ids, 0, {}, never_).value().nll;
  }
  const OpenModel& model() const { return model_; }

 private:
  OpenModel model_;
  std::atomic<bool> never_{false};
};

// Texts that go on until somebody ends them, and no sessions.
void without_end(serve::ServeOptions& options) {
  options.streams.attention_sink = AttentionSink{4, 200};
  options.streams.context.reset();
  options.sessions = 0;
  options.session_sinks.reset();
}

Json completion(const std::vector<int32_t>& prompt, int64_t most, uint64_t seed, float temperature) {
  return {{"prompt", prompt}, {"max_tokens", most}, {"seed", seed}, {"temperature", temperature}};
}

TEST(Server, AnswersAreWhatOneGetsAloneWhateverElseIsServed) {
  Random random;
  TestServer server;
  Alone alone;
  constexpr int kClients = 6;
  const int requests = kSanitized ? 4 : 12;
  const std::vector<int32_t> system = TinyModel().tokens(90, 1);
  struct Wanted {
    std::vector<int32_t> prompt;
    uint64_t seed;
    float temperature;
    bool stream, leaves;
    std::string text, got;
    int status = 0;
  };
  std::vector<Wanted> all(static_cast<size_t>(kClients * requests));
  for (Wanted& one : all) {
    one.prompt = random.integer(0, 3) > 0 ? system : std::vector<int32_t>();
    const std::vector<int32_t> own =
        TinyModel().tokens(static_cast<size_t>(random.integer(1, 60)), static_cast<uint32_t>(random.integer(2, 9)));
    one.prompt.insert(one.prompt.end(), own.begin(), own.end());
    one.seed = static_cast<uint64_t>(random.integer(1, 1 << 20));
    one.temperature = random.integer(0, 1) == 0 ? 0.0f : 1.0f;
    one.stream = random.integer(0, 1) == 0;
    one.leaves = random.integer(0, 4) == 0;
    one.text = alone.text(one.prompt, 30, one.seed, one.temperature);
  }
  std::vector<std::thread> clients;
  for (int c = 0; c < kClients; ++c) {
    clients.emplace_back([&, c] {
      for (int r = 0; r < requests; ++r) {
        Wanted& one = all[static_cast<size_t>(c * requests + r)];
        Client client(server.url());
        Json body = completion(one.prompt, 30, one.seed, one.temperature);
        body["stream"] = one.stream || one.leaves;
        client.send(Client::request("POST", "/v1/completions", body.dump()));
        if (one.leaves) {
          client.receive(false, [](const std::string& text) { return text.size() < 600; });
          continue;
        }
        const Answer answer = client.receive();
        one.status = answer.status;
        if (!one.stream) {
          one.got = answer.json()["choices"][0]["text"];
          continue;
        }
        for (const Json& event : answer.events()) {
          if (!event["choices"].empty()) one.got += event["choices"][0]["text"];
        }
      }
    });
  }
  for (std::thread& client : clients) client.join();
  for (const Wanted& one : all) {
    if (one.leaves) continue;
    EXPECT_EQ(one.status, 200);
    EXPECT_EQ(one.got, one.text);
  }
  EXPECT_GT(server.metric("kvass_prompt_tokens_reused_total"), 0);
}

TEST(Server, ReusesThePrefixThatItHasAndSaysWhyNotMore) {
  TestServer server;
  Client client(server.url());
  const std::vector<int32_t> first = TinyModel().tokens(80, 1);
  const auto cached = [](const Answer& answer) {
    return answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"].get<int64_t>();
  };
  Answer answer = client.post("/v1/completions", completion(first, 1, 1, 0.0f));
  EXPECT_EQ(cached(answer), 0);
  EXPECT_EQ(answer.headers["x-kvass-prefix"], "0 of 80 tokens; no earlier text begins so");
  answer = client.post("/v1/completions", completion(first, 1, 1, 0.0f));
  EXPECT_EQ(cached(answer), 79) << "the last token is run for its logits";
  std::vector<int32_t> longer = first;
  const std::vector<int32_t> more = TinyModel().tokens(40, 5);
  longer.insert(longer.end(), more.begin(), more.end());
  answer = client.post("/v1/completions", completion(longer, 1, 1, 0.0f));
  EXPECT_EQ(cached(answer), 80);
  std::vector<int32_t> other = longer;
  other[90] = other[90] == 7 ? 8 : 7;
  answer = client.post("/v1/completions", completion(other, 1, 1, 0.0f));
  EXPECT_LE(cached(answer), 90);
  EXPECT_NE(answer.headers["x-kvass-prefix"].find("token"), std::string::npos) << answer.headers["x-kvass-prefix"];
}

TEST(Server, EchoHasTheLogProbabilitiesOfTheScore) {
  TestServer server;
  Alone alone;
  Client client(server.url());
  const std::vector<int32_t> ids = TinyModel().tokens(100, 3);
  const std::vector<double> nll = alone.nll(ids);
  Json body = completion(ids, 0, 1, 0.0f);
  body["echo"] = true;
  body["logprobs"] = 3;
  const Json choice = client.post("/v1/completions", body).json()["choices"][0];
  const Json& values = choice["logprobs"]["token_logprobs"];
  ASSERT_EQ(values.size(), ids.size());
  EXPECT_TRUE(values[0].is_null());
  for (size_t i = 1; i < ids.size(); ++i) EXPECT_EQ(values[i].get<double>(), -nll[i - 1]) << i;
  EXPECT_GE(choice["logprobs"]["top_logprobs"][1].size(), 3u);
}

TEST(Server, ReceiptsAreReplayedAndNameTheFirstTokenThatDiffers) {
  TestServer server;
  Client client(server.url());
  const std::atomic<bool> never{false};
  client.post("/v1/completions", completion(TinyModel().tokens(60, 3), 1, 1, 0.0f));  // whose prefix is reused
  for (const float temperature : {0.0f, 1.0f}) {
    Json body = completion(TinyModel().tokens(60, 3), 40, 9, temperature);
    body["receipt"] = true;
    body["ignore_eos"] = true;
    body["repeat_penalty"] = 1.2;
    body["presence_penalty"] = 0.5;
    body["frequency_penalty"] = 0.25;
    body["logit_bias"] = {{"7", -100}, {"8", 1.5}};
    const Json given = client.post("/v1/completions", body).json()["choices"][0];
    const Receipt receipt = parse_receipt(given.dump(), "answer").value();
    ASSERT_EQ(receipt.ids.size(), 40u);
    const OpenModel model = open_model(talker(), Math::a16, 1).value();
    const auto check = [&](const Receipt& one, int64_t begin, int64_t end) {
      return check_receipt(model, one, begin, end, 1, never).value();
    };
    EXPECT_FALSE(check(receipt, 0, 40).differs_at) << check(receipt, 0, 40).difference;
    EXPECT_EQ(check(receipt, 17, 30).tokens, 13);
    EXPECT_FALSE(check(receipt, 17, 30).differs_at);
    Receipt other = receipt;
    other.ids[20] = other.ids[20] == 9 ? 10 : 9;
    EXPECT_EQ(check(other, 0, 40).differs_at, 20);
    EXPECT_FALSE(check(other, 0, 20).differs_at);
    other = receipt;
    other.sampling.seed = 10;
    if (temperature > 0.0f) EXPECT_TRUE(check(other, 0, 40).differs_at) << "the draws are checked too";
    other = receipt;
    other.fingerprint[0] = other.fingerprint[0] == '0' ? '1' : '0';
    EXPECT_FALSE(check_receipt(model, other, 0, 40, 1, never).ok());
  }
}

TEST(Server, RefusesWhatItCannotHonourByName) {
  TestServer server;
  Client client(server.url());
  const Json chat = {{"messages", {{{"role", "user"}, {"content", "a"}}}}, {"max_tokens", 1}};
  const auto with = [](Json body, const char* name, const Json& value) {
    body[name] = value;
    return body;
  };
  struct Case {
    const char* path;
    Json body;
    const char* param;
  };
  const Json text = {{"prompt", "a"}, {"max_tokens", 1}};
  const std::vector<Case> cases = {
      {"/v1/chat/completions", with(chat, "tools", {{{"type", "function"}}}), "tools"},
      {"/v1/chat/completions", with(chat, "response_format", {{"type", "json_object"}}), "response_format.type"},
      {"/v1/chat/completions", with(chat, "top_logprobs", 2), "top_logprobs"},
      {"/v1/chat/completions", with(chat, "n", 0), "n"},
      {"/v1/chat/completions", with(chat, "n", 1000), "n"},
      {"/v1/chat/completions", with(chat, "stop", ""), "stop"},
      {"/v1/chat/completions", with(chat, "temperature", -1), "temperature"},
      {"/v1/chat/completions", with(chat, "temperature", "hot"), "temperature"},
      {"/v1/chat/completions", with(chat, "seed", 1.5), "seed"},
      {"/v1/chat/completions", with(chat, "logit_bias", {{"99999999", 1}}), "logit_bias"},
      {"/v1/chat/completions", with(chat, "max_completion_tokens", 2), "max_tokens"},
      {"/v1/chat/completions", with(chat, "stream_options", {{"include_usage", true}}), "stream_options"},
      {"/v1/chat/completions", with(chat, "temprature", 1), "temprature"},
      {"/v1/chat/completions", with(chat, "model", "gpt-4o"), "model"},
      {"/v1/chat/completions", with(chat, "messages", Json::array()), "messages"},
      {"/v1/chat/completions", with(chat, "messages", {{{"role", "tool"}, {"content", "x"}}}), "messages[0].role"},
      {"/v1/chat/completions",
       with(chat, "messages", {{{"role", "user"}, {"content", {{{"type", "image_url"}, {"image_url", "x"}}}}}}),
       "messages[0].content[0].type"},
      {"/v1/chat/completions", with(chat, "messages", {{{"role", "user"}, {"content", "x"}, {"tone", "kind"}}}),
       "messages[0].tone"},
      {"/v1/completions", with(text, "suffix", "x"), "suffix"},
      {"/v1/completions", with(text, "best_of", 3), "best_of"},
      {"/v1/completions", with(text, "logprobs", 100), "logprobs"},
      {"/v1/completions", with(text, "prompt", {1, -5}), "prompt"},
      {"/v1/completions", with(text, "prompt", Json::array()), "prompt"},
      {"/v1/completions", with(text, "guided_json", Json::object()), "guided_json"},
      {"/v1/responses", {{"input", "a"}, {"background", true}}, "background"},
      {"/v1/responses", {{"input", "a"}, {"previous_response_id", "resp_none"}}, "previous_response_id"},
      {"/v1/responses", {{"input", "a"}, {"max_tokens", 1}}, "max_tokens"},
      {"/v1/sessions", {{"id", "../../etc"}}, "id"},
      {"/v1/sessions", {{"endless", false}}, "endless"},
      {"/tokenize", {{"content", "a"}, {"prompt", "b"}}, "content"},
  };
  for (const Case& one : cases) {
    const Answer answer = client.post(one.path, one.body);
    EXPECT_TRUE(answer.status == 400 || answer.status == 404) << one.body.dump() << " " << answer.body;
    EXPECT_EQ(answer.json()["error"]["param"], one.param) << one.body.dump() << " " << answer.body;
    EXPECT_NE(answer.message(), "");
  }
  for (const char* body : {"", "{", "[]", "null", "\"x\"", "{\"prompt\": \"a\", }", "{\"prompt\":\"\\ud800\"}"}) {
    EXPECT_EQ(client.ask("POST", "/v1/completions", body).status, 400) << body;
  }
  EXPECT_EQ(client.ask("POST", "/v1/completions", text.dump(), "Content-Type: text/plain\r\n").status, 415);
  EXPECT_EQ(
      client.ask("POST", "/v1/completions", text.dump(), "Content-Type: application/json; charset=utf-16\r\n").status,
      415);
  EXPECT_EQ(client.ask("POST", "/v1/completions", text.dump(), "Content-Encoding: gzip\r\n").status, 415);
  EXPECT_EQ(
      client.ask("POST", "/v1/completions", text.dump(), "Content-Type: Application/JSON; charset=UTF-8\r\n").status,
      200);
  for (const char* name : {"logprobs", "stop", "seed", "n", "echo", "logit_bias", "stream_options", "suffix"}) {
    EXPECT_EQ(client.post("/v1/completions", with(text, name, nullptr)).status, 200) << name << ": null";
  }
  EXPECT_EQ(client.post("/v1/completions", with(text, "max_tokens", 1.0)).status, 200);
  Json many = with(text, "n", 16);
  many["prompt"] = Json::array();
  for (int i = 0; i < 200; ++i) many["prompt"].push_back("a");
  EXPECT_EQ(client.post("/v1/completions", many).status, 400) << "more texts than may wait";
  for (const char* twice :
       {R"({"prompt":"a","max_tokens":1,"prompt":"b"})", R"({"prompt":"a","logit_bias":{"5":1,"5":2}})"}) {
    const Answer answer = client.ask("POST", "/v1/completions", twice);
    EXPECT_EQ(answer.status, 400) << twice;
    EXPECT_NE(answer.message().find("the name twice"), std::string::npos) << answer.message();
  }
  EXPECT_EQ(client.get("/v1/models?limit=1").status, 400) << "nothing reads a query";
  EXPECT_EQ(client.ask("DELETE", "/v1/sessions/none", "{}").status, 400) << "nor this body";
  EXPECT_EQ(client.post("/v1/sessions/none/save", {{"as", "x"}}).status, 400);
  EXPECT_EQ(client.get("/tokenizer_info").json()["pad_token"], nullptr);
  EXPECT_EQ(client.get("/v1/nothing").status, 404);
  const Answer wrong = client.get("/v1/completions");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.at("allow"), "POST");
  EXPECT_EQ(client.post("/v1/embeddings", {{"input", "a"}}).status, 404);
  EXPECT_EQ(client.post("/v1/completions", text).status, 200) << "and goes on";
}

TEST(Server, LongPromptsAreRefusedWithTheNumbers) {
  TestServer server;
  Client client(server.url());
  const Answer answer = client.post("/v1/completions", completion(TinyModel().tokens(257), 1, 1, 0.0f));
  EXPECT_EQ(answer.status, 400);
  EXPECT_EQ(answer.json()["error"]["code"], "context_length_exceeded");
  EXPECT_NE(answer.message().find("256"), std::string::npos) << answer.message();
  EXPECT_NE(answer.message().find("257"), std::string::npos) << answer.message();
}

TEST(Server, ClientsThatGoAwayEndTheirTexts) {
  serve::ServeOptions options = small_server();
  without_end(options);
  TestServer server(options);
  {
    Client client(server.url());
    Json body = completion(TinyModel().tokens(5), 1'000'000'000, 1, 1.0f);
    body["ignore_eos"] = true;
    body["stream"] = true;
    client.send(Client::request("POST", "/v1/completions", body.dump()));
    client.receive(false, [](const std::string& text) { return text.size() < 2000; });
    EXPECT_EQ(server.metric("kvass_texts_running"), 1);
    Client silent(server.url());  // whose answer comes whole, and who leaves before
    body["stream"] = false;
    silent.send(Client::request("POST", "/v1/completions", body.dump()));
    while (server.metric("kvass_texts_running") != 2) std::this_thread::yield();
  }
  while (server.metric("kvass_texts_running") != 0) std::this_thread::yield();  // the test's own time limit
  EXPECT_EQ(server.metric("kvass_texts_cancelled_total"), 2);
}

TEST(Server, WaitingTextsAreCountedAndMoreAreRefused) {
  serve::ServeOptions options = small_server();
  without_end(options);
  options.streams.sequences = 1;
  options.prefixes = 0;
  options.scheduler.most_waiting = 1;
  TestServer server(options);
  Json body = completion(TinyModel().tokens(5), 1'000'000'000, 1, 1.0f);
  body["ignore_eos"] = true;
  Client first(server.url()), second(server.url()), third(server.url());
  first.send(Client::request("POST", "/v1/completions", body.dump()));
  while (server.metric("kvass_texts_running") != 1) std::this_thread::yield();
  second.send(Client::request("POST", "/v1/completions", body.dump()));
  while (server.metric("kvass_texts_waiting") != 1) std::this_thread::yield();
  const Answer answer = third.post("/v1/completions", body);
  EXPECT_EQ(answer.status, 429);
  EXPECT_TRUE(answer.headers.contains("retry-after"));
  EXPECT_NE(answer.message().find("at most 1 that wait for one of 1 places"), std::string::npos) << answer.message();
}

TEST(Server, EndsInOrder) {
  TestServer server;
  Client client(server.url()), later(server.url());
  Json body = completion(TinyModel().tokens(5), 200, 1, 1.0f);
  body["ignore_eos"] = true;
  client.send(Client::request("POST", "/v1/completions", body.dump()));
  while (server.metric("kvass_texts_running") != 1) std::this_thread::yield();
  server->drain();
  const Answer answer = client.receive();
  EXPECT_EQ(answer.status, 200) << "what runs is not cut";
  EXPECT_EQ(later.get("/health").status, 0) << "and nobody new comes in";
}

TEST(Server, KeysKeepOwnersApart) {
  serve::ServeOptions options = small_server();
  options.keys = scratch_path("keys.txt");
  options.state = scratch_path("owners");
  std::ofstream(options.keys) << "# two people\nfirst-key-1234\nsecond-key-567\n";
  TestServer server(options);
  Client client(server.url());
  const std::string first = "Authorization: Bearer first-key-1234\r\n",
                    second = "Authorization: Bearer second-key-567\r\n";
  EXPECT_EQ(client.get("/v1/models").status, 401);
  EXPECT_EQ(client.get("/v1/models", "Authorization: Bearer first-key-123\r\n").status, 401);
  EXPECT_EQ(client.get("/health").status, 200);
  EXPECT_EQ(client.get("/v1/models", first).status, 200);
  ASSERT_EQ(client.post("/v1/sessions", {{"id", "mine"}, {"system", "secret"}}, first).status, 201);
  EXPECT_EQ(client.get("/v1/sessions/mine", first).status, 200);
  EXPECT_EQ(client.get("/v1/sessions/mine", second).status, 404);
  EXPECT_EQ(client.post("/v1/sessions/mine/messages", {{"content", "?"}}, second).status, 404);
  EXPECT_EQ(client.post("/v1/sessions/mine/fork", Json::object(), second).status, 404);
  EXPECT_EQ(client.ask("DELETE", "/v1/sessions/mine", "", second).status, 404);
  EXPECT_EQ(client.get("/v1/sessions", second).json()["data"].size(), 0u);
  EXPECT_EQ(client.post("/v1/sessions", {{"id", "mine"}}, second).status, 201) << "the same name of another owner";
  const std::string id =
      client.post("/v1/responses", {{"input", "secret"}, {"max_output_tokens", 1}}, first).json()["id"];
  EXPECT_EQ(client.get("/v1/responses/" + id, first).status, 200);
  EXPECT_EQ(client.get("/v1/responses/" + id, second).status, 404);
  // Nor does the time that an answer takes, or its count of reused tokens, tell of another's text.
  const Json body = completion(TinyModel().tokens(80, 1), 1, 1, 0.0f);
  client.post("/v1/completions", body, first);
  EXPECT_EQ(client.post("/v1/completions", body, second).json()["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
  std::ofstream(options.keys) << "third-key-890\n";
  ASSERT_TRUE(server->reload_keys().ok());
  EXPECT_EQ(client.get("/v1/models", first).status, 401);
  EXPECT_EQ(client.get("/v1/models", "Authorization: Bearer third-key-890\r\n").status, 200);
}

TEST(Server, PagesOfOtherOriginsAreKeptOut) {
  serve::ServeOptions options = small_server();
  options.cors = {"https://app.example"};
  TestServer server(options);
  Client client(server.url());
  EXPECT_EQ(client.get("/v1/models", "Origin: https://evil.example\r\n").status, 403);
  Answer answer = client.get("/v1/models", "Origin: https://app.example\r\n");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.headers["access-control-allow-origin"], "https://app.example");
  answer = client.ask("OPTIONS", "/v1/models", "", "Origin: https://app.example\r\n");
  EXPECT_EQ(answer.status, 204);
  EXPECT_NE(answer.headers["access-control-allow-methods"].find("POST"), std::string::npos);
  client.send("GET /v1/models HTTP/1.1\r\nHost: rebound.example:80\r\n\r\n");
  EXPECT_EQ(client.receive().status, 403);
}

TEST(Server, OtherAddressesNeedKeys) {
  serve::ServeOptions options = small_server();
  options.host = "0.0.0.0";
  const auto opened = serve::Server::open(ModelFile::open(talker()).value(), options, [](const auto&) {});
  ASSERT_FALSE(opened.ok());
  EXPECT_NE(opened.status().message().find("ServeOptions.keys"), std::string::npos) << opened.status().message();
}

TEST(Server, ThePlanIsKeptAndLimited) {
  serve::ServeOptions options = small_server();
  serve::ServerPlan plan;
  {
    const auto opened = serve::Server::open(ModelFile::open(talker()).value(), options,
                                            [&](const serve::ServerPlan& made) { plan = made; });
    ASSERT_TRUE(opened.ok());
  }
  EXPECT_GT(plan.session_bytes, plan.text_bytes / 4);
  options.streams.memory_limit = plan.total() - 1;
  const auto refused = serve::Server::open(ModelFile::open(talker()).value(), options, [](const auto&) {});
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.status().message().find(std::to_string(plan.total())), std::string::npos)
      << refused.status().message();
  options.streams.memory_limit = plan.total();
  EXPECT_TRUE(serve::Server::open(ModelFile::open(talker()).value(), options, [](const auto&) {}).ok());
}

TEST(Server, ListensAtAPath) {
  serve::ServeOptions options = small_server();
  options.host = "unix:" + scratch_path("kvass.sock");
  TestServer server(options);
  EXPECT_EQ(server.url(), options.host);
  Client client(server.url());
  EXPECT_EQ(client.get("/health").json()["status"], "ready");
  const auto second = serve::Server::open(ModelFile::open(talker()).value(), options, [](const auto&) {});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), StatusCode::busy) << second.status().message();
}

TEST(Server, TheDescriptionIsJsonAndNamesItsPaths) {
  TestServer server;
  Client client(server.url());
  const Json description = client.get("/openapi.json").json();
  EXPECT_EQ(description["openapi"], "3.1.0");
  for (const char* path : {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/sessions/{id}/messages"}) {
    EXPECT_TRUE(description["paths"].contains(path)) << path;
  }
}

}  // namespace
}  // namespace kvass
