// Sessions over HTTP: what a conversation is without a server, whatever becomes of the process in between.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "app/chat.h"
#include "base/platform.h"
#include "effort.h"
#include "seed.h"
#include "serve/answer.h"
#include "serve/test_server.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

constexpr int64_t kTokens = 20;  // of an answer at most

// A conversation without a server, of the same stream.
class Alone {
 public:
  Alone(const std::string& system, uint64_t seed) : model_(open_model(talker(), Math::a16, 2).value()) {
    StreamOptions stream = small_server().streams;
    stream.sequences = 1;
    stream.endless = true;
    stream.endless_sink_tokens = small_server().session_sinks;
    stream_ = open_stream(model_, stream, 1).value();
    ChatOptions options;
    options.system = system;
    options.max_tokens = kTokens;
    options.sampling.temperature = 1.0f;
    options.sampling.seed = seed;
    chat_.emplace(Conversation::create(model_, stream_, options).value());
  }
  std::string say(const std::string& text) {
    std::string shown;
    const auto on_text = [&](std::string_view piece) {
      shown += piece;
      return true;
    };
    EXPECT_TRUE(chat_->answer(chat_->prompt(text).value(), on_text, never_).ok());
    return serve::shown_text(shown);
  }
  int64_t length() const { return stream_.sequence->length(); }

 private:
  OpenModel model_;
  OpenStream stream_;
  std::optional<Conversation> chat_;
  std::atomic<bool> never_{false};
};

Json session(const std::string& id, const std::string& system, uint64_t seed) {
  return {{"id", id}, {"system", system}, {"seed", seed}, {"temperature", 1.0}};
}
std::string path(const std::string& id, const std::string& what = "") { return "/v1/sessions/" + id + what; }
std::string say(Client& client, const std::string& id, const std::string& text, bool stream = false) {
  const Answer answer =
      client.post(path(id, "/messages"), {{"content", text}, {"max_tokens", kTokens}, {"stream", stream}});
  EXPECT_EQ(answer.status, 200) << answer.body;
  if (!stream) return answer.json()["content"];
  std::string all;
  for (const Json& event : answer.events()) {
    if (event.contains("choices")) all += event["choices"][0]["delta"].value("content", "");
  }
  return all;
}

TEST(Sessions, SayWhatAConversationSaysPastTheWindowAndAfterARestart) {
  serve::ServeOptions options = small_server();
  options.state = scratch_path("restarts");
  Alone alone("be kind", 7);
  const int turns = kSanitized ? 12 : 30;
  const auto text = [](int turn) { return "turn " + std::to_string(turn) + " of many, and a few words more"; };
  {
    TestServer server(options);
    Client client(server.url());
    ASSERT_EQ(client.post("/v1/sessions", session("long", "be kind", 7)).status, 201);
    for (int turn = 0; turn < turns; ++turn) {
      ASSERT_EQ(say(client, "long", text(turn), turn % 2 == 0), alone.say(text(turn))) << turn;
    }
    EXPECT_EQ(client.get(path("long")).json()["length"], alone.length());
    EXPECT_GT(alone.length(), kSanitized ? 256 : 600);
  }
  options.streams.threads = 1;
  TestServer server(options);
  Client client(server.url());
  for (int turn = turns; turn < turns + 3; ++turn) EXPECT_EQ(say(client, "long", text(turn)), alone.say(text(turn)));
  EXPECT_EQ(client.get(path("long")).json()["turns"], turns + 3);
}

TEST(Sessions, EvaluateTheirOwnTurnOnly) {
  TestServer server;
  Client client(server.url());
  client.post("/v1/sessions", session("one", "", 1));
  int64_t last = 0;
  for (int turn = 0; turn < 20; ++turn) {
    const int64_t before = server.metric("kvass_prompt_tokens_evaluated_total");
    const Answer answer = client.post(path("one", "/messages"), {{"content", "hello"}, {"max_tokens", 5}});
    const Json usage = answer.json()["usage"];
    const int64_t own =
        usage["prompt_tokens"].get<int64_t>() - usage["prompt_tokens_details"]["cached_tokens"].get<int64_t>();
    EXPECT_EQ(server.metric("kvass_prompt_tokens_evaluated_total") - before, own);
    if (turn > 0) EXPECT_LT(own, usage["prompt_tokens"].get<int64_t>());
    if (turn > 1) EXPECT_EQ(own, last);
    last = own;
  }
}

TEST(Sessions, MoreThanFitIntoMemoryTakeTurns) {
  serve::ServeOptions options = small_server();
  options.state = scratch_path("many");
  TestServer server(options);
  Client client(server.url());
  constexpr int kSessions = 7;  // in 2 places
  std::vector<std::unique_ptr<Alone>> alone;
  for (int i = 0; i < kSessions; ++i) {
    alone.push_back(std::make_unique<Alone>("system " + std::to_string(i), i));
    ASSERT_EQ(client.post("/v1/sessions", session("s" + std::to_string(i), "system " + std::to_string(i), i)).status,
              201);
  }
  EXPECT_EQ(client.get("/v1/sessions").json()["data"].size(), static_cast<size_t>(kSessions));
  for (int turn = 0; turn < 3; ++turn) {
    std::vector<std::thread> clients;
    std::vector<std::string> said(kSessions), expected(kSessions);
    for (int i = 0; i < kSessions; ++i) expected[static_cast<size_t>(i)] = alone[static_cast<size_t>(i)]->say("go on");
    for (int i = 0; i < kSessions; ++i) {
      clients.emplace_back([&, i] {
        Client own(server.url());
        said[static_cast<size_t>(i)] = say(own, "s" + std::to_string(i), "go on", i % 2 == 0);
      });
    }
    for (std::thread& one : clients) one.join();
    EXPECT_EQ(said, expected);
  }
  EXPECT_LE(server.metric("kvass_sessions_in_memory"), 2);
  EXPECT_EQ(server.metric("kvass_sessions_on_disk"), kSessions);
}

TEST(Sessions, WithoutAFolderThereAreAsManyAsPlaces) {
  TestServer server;
  Client client(server.url());
  EXPECT_EQ(client.post("/v1/sessions", {{"id", "a"}}).status, 201);
  EXPECT_EQ(client.post("/v1/sessions", {{"id", "a"}}).status, 409);
  EXPECT_EQ(client.post("/v1/sessions", {{"id", "b"}}).status, 201);
  const Answer full = client.post("/v1/sessions", {{"id", "c"}});
  EXPECT_EQ(full.status, 429);
  EXPECT_NE(full.message().find("ServeOptions.state"), std::string::npos) << full.message();
  EXPECT_EQ(client.get(path("c")).status, 404);
  EXPECT_EQ(client.ask("DELETE", path("a")).status, 200);
  EXPECT_EQ(client.post("/v1/sessions", {{"id", "c"}}).status, 201);
  EXPECT_EQ(client.post(path("c", "/save"), Json::object()).status, 400);
}

TEST(Sessions, ForksAndRewindsAreAsIfTheyHadNeverGoneFurther) {
  serve::ServeOptions options = small_server();
  options.streams.checkpoints = 3;  // the end of each of three turns
  TestServer server(options);
  Client client(server.url());
  client.post("/v1/sessions", session("a", "be kind", 3));
  const std::string first = say(client, "a", "one"), second = say(client, "a", "two");
  ASSERT_EQ(client.post(path("a", "/fork"), {{"id", "b"}}).status, 201);
  const std::string third = say(client, "a", "three");
  EXPECT_EQ(say(client, "b", "three"), third);
  ASSERT_EQ(client.post(path("a", "/rewind"), {{"turns", 1}}).status, 200);
  EXPECT_EQ(client.get(path("a")).json()["turns"], 1);
  EXPECT_EQ(say(client, "a", "two"), second);
  EXPECT_EQ(say(client, "a", "three"), third);
  ASSERT_EQ(client.post(path("a", "/rewind"), {{"position", 0}}).status, 200);
  EXPECT_EQ(say(client, "a", "one"), first);
  const Answer wrong = client.post(path("a", "/rewind"), {{"turns", 9}});
  EXPECT_EQ(wrong.status, 409);
  EXPECT_NE(wrong.message().find("1 to 1"), std::string::npos) << wrong.message();
  EXPECT_EQ(client.post(path("a", "/rewind"), {{"turns", 0}, {"position", 0}}).status, 400);
}

TEST(Sessions, ForksDoNotWaitForOneAnother) {
  serve::ServeOptions options = small_server();
  options.state = scratch_path("forks");
  TestServer server(options);
  Client client(server.url());
  for (const char* id : {"a", "b"}) client.post("/v1/sessions", session(id, "", 1));
  std::vector<std::thread> clients;
  std::atomic<int> answered{0};
  for (int i = 0; i < 8; ++i) {  // each holds a session and wants a place; there are two
    clients.emplace_back([&, i] {
      Client own(server.url());
      const int status = own.post(path(i % 2 == 0 ? "a" : "b", "/fork"), Json::object()).status;
      answered += status == 201 || status == 429;
    });
  }
  for (std::thread& one : clients) one.join();
  EXPECT_EQ(answered, 8);
  EXPECT_EQ(client.post(path("a", "/fork"), {{"id", "c"}}).status, 201) << "b makes room";
}

TEST(Sessions, TakeTextThatIsNoMessage) {
  TestServer server;
  Client client(server.url());
  client.post("/v1/sessions", session("a", "", 3));
  Answer answer = client.post(path("a", "/append"), {{"ids", TinyModel().tokens(30, 1)}});
  EXPECT_EQ(answer.json()["length"], 30);
  EXPECT_EQ(answer.json()["appended"], 30);
  const std::string said = say(client, "a", "and now?");
  answer = client.post(path("a", "/append"), {{"text", "some more"}});
  EXPECT_EQ(answer.status, 200);
  EXPECT_GT(answer.json()["length"].get<int64_t>(), 30);
  EXPECT_EQ(answer.json()["turns"], 1);
  say(client, "a", "and now?");
  EXPECT_EQ(client.get(path("a")).json()["turns"], 2);
  EXPECT_EQ(client.post(path("a", "/append"), {{"ids", {1, 999999999}}}).status, 400);
  EXPECT_EQ(client.post(path("a", "/append"), {{"text", ""}}).status, 400);
  EXPECT_EQ(client.post(path("a", "/append"), {{"text", "a"}, {"ids", {1}}}).status, 400);
}

TEST(Sessions, SystemTextsThatDoNotFitTheSinksAreRefusedWithTheNumbers) {
  TestServer server;
  Client client(server.url());
  const Answer answer = client.post("/v1/sessions", {{"id", "a"}, {"system", std::string(300, 'x')}});
  EXPECT_EQ(answer.status, 400);
  EXPECT_NE(answer.message().find("at most 100 tokens"), std::string::npos) << answer.message();
  EXPECT_EQ(client.get(path("a")).status, 404);
}

TEST(Sessions, OneThatWaitsForAnotherMessageIsServedAfterIt) {
  TestServer server;
  Client client(server.url());
  client.post("/v1/sessions", session("a", "", 5));
  Alone alone("", 5);
  std::vector<std::thread> clients;
  std::vector<std::string> said(5);
  for (size_t i = 0; i < said.size(); ++i) {
    clients.emplace_back([&, i] {
      Client own(server.url());
      said[i] = say(own, "a", "the same words");
    });
  }
  for (std::thread& one : clients) one.join();
  std::vector<std::string> expected;
  for (size_t i = 0; i < said.size(); ++i) expected.push_back(alone.say("the same words"));
  std::sort(said.begin(), said.end());
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(said, expected);
}

TEST(Sessions, ATurnThatCannotBeWrittenIsTakenBackAndSaid) {
  serve::ServeOptions options = small_server();
  options.state = scratch_path("full");
  TestServer server(options);
  Client client(server.url());
  client.post("/v1/sessions", session("a", "", 5));
  const std::string first = say(client, "a", "one");
  const std::string folder = options.state + "/open";
  std::filesystem::rename(folder, folder + ".away");
  std::ofstream(folder) << "a file where the folder was";
  const Answer answer = client.post(path("a", "/messages"), {{"content", "two"}, {"max_tokens", kTokens}});
  EXPECT_EQ(answer.status, 507) << answer.body;
  EXPECT_NE(answer.message().find("taken back"), std::string::npos) << answer.message();
  EXPECT_EQ(client.get(path("a")).json()["turns"], 1);
  std::filesystem::remove(folder);
  std::filesystem::rename(folder + ".away", folder);
  Alone alone("", 5);
  EXPECT_EQ(first, alone.say("one"));
  EXPECT_EQ(say(client, "a", "two"), alone.say("two")) << "as if the turn had never been";
}

// KVASS_SOAK: so many tokens; `make soak` has 200,000.
TEST(Sessions, ALongOneTakesNoMoreMemory) {
  const char* const soak = std::getenv("KVASS_SOAK");
  const int64_t total = soak ? std::atoll(soak) : kSanitized ? 3000 : 20'000;
  serve::ServeOptions options = small_server();
  options.state = scratch_path("soak");
  TestServer server(options);
  Client client(server.url());
  client.post("/v1/sessions", session("a", "be kind", 3));
  size_t early = 0;
  int64_t length = 0, steps = 0;
  while (length < total) {
    if (++steps % 20 == 0) {
      say(client, "a", "and now?", steps % 40 == 0);
    } else {
      client.post(path("a", "/append"), {{"ids", TinyModel().tokens(150, static_cast<uint32_t>(steps))}});
    }
    const Answer answer = client.get(path("a"));
    ASSERT_EQ(answer.status, 200) << answer.body;
    length = answer.json()["length"];
    if (early == 0 && length > total / 3) early = platform::peak_rss_bytes();
  }
  EXPECT_LE(platform::peak_rss_bytes(), early + (size_t{4} << 20)) << length << " tokens";
}

TEST(Sessions, AFolderHasOneServerAndADamagedFileIsRefusedAndRemovable) {
  serve::ServeOptions options = small_server();
  options.state = scratch_path("damaged");
  {
    TestServer server(options);
    Client client(server.url());
    client.post("/v1/sessions", {{"id", "a"}});
    const auto second = serve::Server::open(ModelFile::open(talker()).value(), options, [](const auto&) {});
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.status().code(), StatusCode::busy);
  }
  const std::string file = options.state + "/open/a.kvsnap";
  ASSERT_TRUE(std::filesystem::exists(file));
  std::filesystem::resize_file(file, std::filesystem::file_size(file) / 2);
  TestServer server(options);
  Client client(server.url());
  const Answer answer = client.post(path("a", "/messages"), {{"content", "x"}});
  EXPECT_EQ(answer.status, 500) << answer.body;
  EXPECT_EQ(answer.body.find(options.state), std::string::npos) << answer.body;
  EXPECT_EQ(client.ask("DELETE", path("a")).status, 200);
  EXPECT_FALSE(std::filesystem::exists(file));
}

}  // namespace
}  // namespace kvass
