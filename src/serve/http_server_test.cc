// The sockets: limits, slow and odd clients, and what HTTP/1.1 asks for.
#include "serve/http_server.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "serve/test_client.h"

namespace kvass::serve {
namespace {

using namespace kvass::testing;  // NOLINT: helpers of the tests

class Http : public ::testing::Test {
 protected:
  void open(HttpServer::Handler handler, HttpLimits limits = {}) {
    server_ = HttpServer::listen("127.0.0.1", 0, limits, std::move(handler), [this](const HttpExchange&) {
                ++done_;
              }).value();
    server_->start();
  }
  static void echo(const std::shared_ptr<HttpExchange>& exchange) {
    exchange->answer({200,
                      "text/plain",
                      exchange->request().method + " " + exchange->request().path + " " + exchange->request().body,
                      {}});
  }
  std::unique_ptr<HttpServer> server_;
  std::atomic<int> done_{0};
};

TEST_F(Http, ConnectionsAreKeptAndPipelined) {
  open(echo);
  Client client(server_->url());
  for (int i = 0; i < 2; ++i) EXPECT_EQ(client.get("/a%20b?x=1").body, "GET /a b ");
  EXPECT_EQ(client.get("http://localhost/a%20b?x=1").body, "GET /a b ");
  client.send(Client::request("POST", "/1", "one") + Client::request("POST", "/2", "two") +
              Client::request("GET", "/3"));
  EXPECT_EQ(client.receive().body, "POST /1 one");
  EXPECT_EQ(client.receive().body, "POST /2 two");
  EXPECT_EQ(client.receive().body, "GET /3 ");
  EXPECT_EQ(client.ask("HEAD", "/head").headers.at("content-length"), "11");
  client.send("POST /late HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  client.send("ok");
  EXPECT_EQ(client.receive().body, "POST /late ok");
  client.send("GET /old HTTP/1.0\r\n\r\n");
  EXPECT_EQ(client.receive().body, "GET /old ");
  EXPECT_EQ(client.get("/").status, 0) << "closed after HTTP/1.0";
  while (done_ != 9) std::this_thread::yield();
}

TEST_F(Http, LimitsAreAnsweredByNumber) {
  HttpLimits limits;
  limits.header_bytes = 1000;
  limits.body_bytes = 1000;
  limits.header_time = limits.body_time = std::chrono::seconds(1);
  limits.connections = 3;
  open(echo, limits);
  const auto status = [&](const std::string& text) {
    Client client(server_->url());
    client.send(text);
    return client.receive().status;
  };
  EXPECT_EQ(status("GET / HTTP/1.1\r\nX: " + std::string(2000, 'x') + "\r\n\r\n"), 431);
  EXPECT_EQ(status(Client::request("POST", "/", std::string(2000, 'x'))), 413);
  EXPECT_EQ(status("hello\r\n\r\n"), 400);
  EXPECT_EQ(status("GET / HTTP/1.1\r\n\r\n"), 400) << "no Host";
  EXPECT_EQ(status("GET / HTTP/1.1\r\nHost"), 408) << "a header that never ends";
  EXPECT_EQ(status("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"), 408) << "a body that never ends";
  EXPECT_EQ(status(Client::request("GET", "/")), 200);
  Client one(server_->url()), two(server_->url()), three(server_->url());
  for (Client* client : {&one, &two, &three}) EXPECT_EQ(client->get("/").status, 200);
  Client four(server_->url());
  EXPECT_EQ(four.get("/").status, 503);
}

TEST_F(Http, AClientThatLeavesIsNoticedBeforeItsAnswer) {
  std::mutex mutex;
  std::condition_variable changed;
  std::shared_ptr<HttpExchange> kept;
  bool gone = false;
  open([&](const std::shared_ptr<HttpExchange>& exchange) {
    exchange->on_gone([&] {
      const std::lock_guard lock(mutex);
      gone = true;
      changed.notify_all();
    });
    const std::lock_guard lock(mutex);
    kept = exchange;
    changed.notify_all();
  });
  auto client = std::make_unique<Client>(server_->url());
  client->send(Client::request("GET", "/"));
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return kept != nullptr; });
  client.reset();
  changed.wait(lock, [&] { return gone; });
  EXPECT_TRUE(kept->gone());
  kept->answer({200, "text/plain", "nobody hears", {}});
  kept.reset();
}

TEST_F(Http, StreamsAreChunkedAndThoseWhoDoNotReadAreLeft) {
  HttpLimits limits;
  limits.unsent_bytes = size_t{1} << 20;
  std::shared_ptr<HttpExchange> slow;
  std::atomic<bool> ready{false};
  open(
      [&](const std::shared_ptr<HttpExchange>& exchange) {
        exchange->begin({200, "text/event-stream", "", {}});
        if (exchange->request().path == "/slow") {
          slow = exchange;
          ready = true;
          return;
        }
        for (int i = 0; i < 100; ++i) exchange->write("part " + std::to_string(i) + "\n");
        exchange->finish();
      },
      limits);
  Client client(server_->url());
  Answer answer = client.get("/");
  EXPECT_TRUE(answer.whole);
  EXPECT_TRUE(answer.body.starts_with("part 0\npart 1\n") && answer.body.ends_with("part 99\n"));
  EXPECT_TRUE(client.get("/").whole) << "the connection goes on";
  Client lazy(server_->url());
  lazy.send(Client::request("GET", "/slow"));
  while (!ready) std::this_thread::yield();
  int parts = 0;
  while (!slow->gone() && ++parts < 100'000) slow->write(std::string(10'000, 'x'));
  EXPECT_TRUE(slow->gone());
  slow.reset();
}

TEST_F(Http, AnExchangeThatIsDroppedIsAnswered) {
  open([](const std::shared_ptr<HttpExchange>&) {});
  Client client(server_->url());
  EXPECT_EQ(client.get("/").status, 500);
}

}  // namespace
}  // namespace kvass::serve
