// A server whose clients send anything. Input: a byte that chooses an endpoint, then its body; or the byte 255, then
// what goes over the socket as it is. Whatever comes, the server answers with no 5xx but 503, and goes on.
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "serve/test_client.h"
#include "serve/test_options.h"
#include "tiny_model.h"

namespace {

using kvass::testing::Answer;
using kvass::testing::Client;

void require(bool condition) {
  if (!condition) std::abort();
}

std::unique_ptr<kvass::serve::Server> open_server() {
  const std::string path =
      (std::filesystem::temp_directory_path() / ("kvass_fuzz_" + std::to_string(::getpid()) + ".gguf")).string();
  require(kvass::testing::TinyModel().talker().write(path).ok());
  kvass::serve::ServeOptions options = kvass::testing::small_server();
  options.streams.threads = 1;
  options.request_seconds = 0.2;
  auto server = kvass::serve::Server::open(kvass::ModelFile::open(path).value(), options, [](const auto&) {});
  std::filesystem::remove(path);
  require(server.ok());
  server.value()->start();
  return std::move(server).value();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::unique_ptr<kvass::serve::Server> server = open_server();
  if (size == 0) return 0;
  const std::string rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  Client client(server->url());
  if (data[0] == 255) {
    client.send(rest);
    client.close();
    Client next(server->url());
    require(next.get("/health").status == 200);
    return 0;
  }
  constexpr const char* kPaths[] = {"/v1/completions",     "/v1/chat/completions",    "/v1/responses",
                                    "/v1/sessions",        "/v1/sessions/a/messages", "/v1/sessions/a/append",
                                    "/v1/sessions/a/fork", "/v1/sessions/a/rewind",   "/tokenize",
                                    "/detokenize",         "/v1/embeddings",          "/v1/audio/transcriptions"};
  const Answer answer = client.ask("POST", kPaths[data[0] % std::size(kPaths)], rest);
  require(answer.status >= 200 && (answer.status < 500 || answer.status == 503));
  require(answer.whole);
  return 0;
}
