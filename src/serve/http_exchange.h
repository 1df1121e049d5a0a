// One HTTP request and its answer, for those who answer it. http_server.h brings it.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

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

class HttpExchange;

// The connection that an exchange came over, as the exchange sees it. Any thread; what is sent goes out in that order.
class HttpChannel {
 public:
  virtual ~HttpChannel() = default;
  virtual void send_reply(HttpReply reply, bool stream) = 0;  // whole, or the beginning of a stream
  virtual void send_part(std::string part) = 0;
  virtual void send_end() = 0;
  virtual void drop() = 0;                                       // closes the connection
  virtual size_t most_unsent() const = 0;                        // bytes that a client may leave unread
  virtual void exchange_ends(const HttpExchange& exchange) = 0;  // once
};

// One request and its answer. Any thread may answer, one at a time. An exchange that is let go without an answer is
// answered with 500.
class HttpExchange {
 public:
  HttpExchange(std::shared_ptr<HttpChannel> channel, HttpRequest request);
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

  // Of the connection: so many bytes of a stream went out; the client is gone.
  void sent(size_t bytes) { unsent_ -= std::min(unsent_.load(), bytes); }
  void client_gone();

 private:
  void forget_call();

  std::shared_ptr<HttpChannel> channel_;
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

std::string percent_decoded(std::string_view text);  // %41 as A
std::string lower(std::string_view text);            // ASCII

}  // namespace kvass::serve
