// `kvass serve` as a command: its flags, its address, its signals. What it serves is src/serve's to test.
#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <thread>

#include "cli/test_files.h"
#include "serve/test_client.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

TEST(Serve, RefusesWhatItCannotServeByItsFlag) {
  const std::string model = tiny_talker("serve-refusals.gguf");
  const std::vector<std::pair<Arguments, const char*>> cases = {
      {{"--port", "1", "--host", "unix:" + path_of("sock")}, "--port: expected an address"},
      {{"--session-sinks", "4", "--attention-sink", "4,60"}, "--session-sinks"},
      {{"--session-sinks", "4", "--sessions", "0"}, "--session-sinks"},
      {{"--sequences", "0", "--sessions", "0"}, "--sequences"},
      {{"--sequences", "0", "--prefixes", "1"}, "--prefixes"},
      {{"--request-seconds", "-1"}, "--request-seconds"},
      {{"--port", "99999"}, "--port: expected 0 to 65535, got 99999"},
      {{"--host", "0.0.0.0"}, "--api-key-file"},
      {{"--host", "256.1.1.1"}, "--api-key-file"},
      {{"--sessions", "-1"}, "--sessions"},
      {{"--sessions", "0", "--state", path_of("none")}, "--state"},
      {{"--session-sinks", "100000"}, "--session-sinks: expected 0 to "},
      {{"--sequences", "100000"}, "--sequences: expected 0 to 4096"},
      {{"--target-ms", "0"}, "--target-ms"},
      {{"--body-limit", "0"}, "--body-limit"},
      {{"--api-key-file", path_of("no-keys"), "--no-auth"}, "--no-auth"},
      {{"--api-key-file", path_of("no-keys")}, "no-keys"},
      {{"--memory-limit", "1M"}, "--memory-limit: expected at most 1048576 bytes, got a plan of "},
      {{"--speech", model}, "--speech: expected a model that transcribes"},
      {{"--template-file", path_of("no-template")}, "no-template"},
  };
  for (const auto& [flags, word] : cases) {
    expect_refused(kvass(with({"serve", model, "--context", "64", "-q"}, flags)), 1, {word});
  }
}

// `kvass verify --receipt` over a receipt, and over one that says another token.
void expect_replayed(Json receipt) {
  const std::string file = path_of("receipt.json"), model = tiny_talker("serve.gguf");
  write_file(file, receipt.dump());
  EXPECT_EQ(parsed(kvass({"verify", model, "--receipt", file, "--json"})),
            (nlohmann::json{{"identical", true}, {"tokens", 9}}));
  EXPECT_EQ(
      parsed(kvass({"verify", model, "--receipt", file, "--from", "2", "--until", "5", "--json", "-t", "1"}))["tokens"],
      3);
  expect_refused(kvass({"verify", model, "--receipt", file, "--until", "10"}), 1, {"from 0 to 9"});
  expect_refused(kvass({"verify", tiny(), "--receipt", tiny()}), 1, {"JSON"});
  EXPECT_EQ(kvass({"verify", model, "--receipt", file, "--tokens", "20"}).code, 2) << "what it would ignore";
  receipt["ids"][4] = receipt["ids"][4] == 9 ? 10 : 9;
  write_file(file, receipt.dump());
  expect_refused(kvass({"verify", model, "--receipt", file}), 1, {"token 4 of the receipt: expected hash "});
}

TEST(Serve, ListensServesAndEndsInOrder) {
  const std::string keys = path_of("serve-keys");
  std::ofstream(keys) << "a-key-of-this-test\n";
  Running server({"serve", tiny_talker("serve.gguf"), "--port", "0", "--json", "-q", "--context", "512",
                  "--api-key-file", keys, "--state", path_of("serve-state")});
  while (server.out().find('\n') == std::string::npos) ASSERT_TRUE(server.read(1)) << server.err();
  const std::string url = nlohmann::json::parse(server.out())["url"];
  const std::string key = "Authorization: Bearer a-key-of-this-test\r\n",
                    other = "Authorization: Bearer a-later-key\r\n";
  {
    Client client(url);
    const Answer answer = client.post("/v1/completions", {{"prompt", "ab"}, {"max_tokens", 2}}, key);
    EXPECT_EQ(answer.status, 200) << answer.body;
    EXPECT_EQ(client.get("/v1/models", other).status, 401);
    const Json given =
        client.post("/v1/completions", {{"prompt", "ab"}, {"max_tokens", 9}, {"receipt", true}}, key).json();
    expect_replayed(given["choices"][0]["receipt"]);
    std::ofstream(keys) << "a-later-key\n";
    server.signal(SIGHUP);
    while (client.get("/v1/models", other).status == 401) std::this_thread::yield();  // the test's own time limit
    EXPECT_EQ(client.get("/v1/models", key).status, 401);
    EXPECT_EQ(client.post("/v1/sessions", {{"id", "a"}}, other).status, 201);
  }
  server.signal(SIGTERM);
  EXPECT_EQ(server.end(), 0) << server.err();
}

}  // namespace
}  // namespace kvass
