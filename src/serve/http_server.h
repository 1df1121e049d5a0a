// The server's side of HTTP/1.1, on Boost.Beast: it reads requests, hands them to one function, and writes what that
// answers, whole or as a stream. One thread waits for all connections, so that slow clients cost no thread, and a
// client that goes away is noticed while its answer is still computed.
//
// It keeps to limits (sizes, times, connections) and knows nothing of what is served.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvass/status.h"

namespace kvass::serve {

using Fields = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;  // "GET"
  std::string path;    // without the query, percent-decoded
  std::string query;   // as it was sent
  Fields headers;      // names in lower case
  std::string body;
  std::string peer;   // "127.0.0.1:4711", "unix"
  std::string owner;  // whose key it came with; nothing of one owner is seen by another. Of the handler

  const std::string* header(std::string_view name) const;  // in lower case; null: none
};

struct HttpReply {
  int status = 200;
  std::string type = "application/json";
  std::string body;
  Fields headers = {};
};

struct HttpLimits {
  size_t header_bytes = size_t{16} << 10;
  size_t body_bytes = size_t{64} << 20;
  size_t unsent_bytes = size_t{4} << 20;  // of a stream whose client does not read: then it counts as gone
  int connections = 512;
  std::chrono::seconds header_time{10};  // from its first byte to its last
  std::chrono::seconds body_time{120};
  std::chrono::seconds idle_time{75};   // between two requests
  std::chrono::seconds write_time{30};  // without progress
};

class Connection;

// One request and its answer. Any thread may answer, one at a time. An exchange that is let go without an answer is
// answered with 500.
class HttpExchange {
 public:
  HttpExchange(std::shared_ptr<Connection> connection, HttpRequest request);
  ~HttpExchange();
  HttpExchange(const HttpExchange&) = delete;
  HttpExchange& operator=(const HttpExchange&) = delete;

  HttpRequest& request() { return request_; }
  const HttpRequest& request() const { return request_; }

  void add_headers(Fields headers);  // of whatever the answer will be
  void answer(HttpReply reply);      // whole; once
  // As a stream: its head (the body of `reply` is its first part), parts, its end.
  void begin(HttpReply reply);
  void write(std::string part);
  void finish();
  // The stream ends in its middle: the client sees that it is not whole.
  void abort();

  bool answered() const { return begun_; }
  // The client has closed the connection, or does not read.
  bool gone() const { return gone_.load(std::memory_order_acquire); }
  // Called once the client is gone before it has its whole answer, on the server's thread or here; quick.
  void on_gone(std::function<void()> call);

  // For the access log.
  std::chrono::steady_clock::time_point begin_time() const { return begin_time_; }
  int status() const { return status_; }
  size_t bytes() const { return bytes_; }
  Fields& notes() { return notes_; }  // what handlers want in the line
  const Fields& notes() const { return notes_; }

 private:
  friend class Connection;
  void client_gone();
  void forget_call();

  std::shared_ptr<Connection> connection_;
  HttpRequest request_;
  std::chrono::steady_clock::time_point begin_time_ = std::chrono::steady_clock::now();
  bool begun_ = false, finished_ = false;
  int status_ = 0;
  size_t bytes_ = 0;
  Fields notes_, headers_;
  std::atomic<bool> gone_{false};
  std::atomic<size_t> unsent_{0};
  struct Gone;
  std::shared_ptr<Gone> call_;
};

class HttpServer {
 public:
  using Handler = std::function<void(std::shared_ptr<HttpExchange>)>;  // quick; it may answer later, from elsewhere
  using OnDone = std::function<void(const HttpExchange&)>;             // the exchange has its answer

  // Where listen.h says.
  static Result<std::unique_ptr<HttpServer>> listen(const std::string& host, int port, const HttpLimits& limits,
                                                    Handler handler, OnDone on_done);
  ~HttpServer();

  const std::string& url() const;  // "http://127.0.0.1:8080", "unix:/run/kvass.sock"
  void start();
  void stop_accepting();  // and connections end after their answer
  int64_t open_exchanges() const;
  int64_t open_connections() const;
  void stop();  // closes everything

  struct Impl;

 private:
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

std::string percent_decoded(std::string_view text);  // %41 as A
std::string lower(std::string_view text);            // ASCII

std::string_view status_text(int status);

}  // namespace kvass::serve
