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
