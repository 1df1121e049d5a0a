// The server's side of HTTP/1.1, on Boost.Beast: it reads requests, hands them to one function, and writes what that
// answers, whole or as a stream. One thread waits for all connections, so that slow clients cost no thread, and a
// client that goes away is noticed while its answer is still computed.
//
// It keeps to limits (sizes, times, connections) and knows nothing of what is served.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "kvass/status.h"
#include "serve/http_exchange.h"

namespace kvass::serve {

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

class HttpServer {
 public:
  using Handler = std::function<void(std::shared_ptr<HttpExchange>)>;  // quick; it may answer later, from elsewhere
  using OnDone = std::function<void(const HttpExchange&)>;             // the exchange has its answer

  // Where listen.h says.
  static Result<std::unique_ptr<HttpServer>> listen(const std::string& host, int port, const HttpLimits& limits,
                                                    Handler handler, OnDone on_done);
  ~HttpServer();

  const std::string& url() const;  // "http://127.0.0.1:8080", "unix:/run/kvass.sock"
  bool is_local() const;           // only this machine can reach it
  void start();
  void stop_accepting();  // and connections end after their answer
  int64_t open_exchanges() const;
  void stop();  // closes everything

  struct Impl;

 private:
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvass::serve
