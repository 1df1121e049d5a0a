// HTTP requests of what reads files from a network: through libcurl, which has the proxies, certificates and redirects
// of the machine. A header of authorisation goes to the host that was asked for and to no other. Knows no hub.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "kvass/status.h"

namespace kvass {

struct HttpRequest {
  std::string url;
  std::string token{};     // of the bearer; empty: none
  bool head_only = false;  // the headers without the body
  int64_t begin = 0;       // the body from this byte on, where the server can, and
  std::string version{};   // while it is still this one (an entity tag); empty: whatever it is
};

struct HttpAnswer {
  int status = 0;
  std::string url{};         // after redirects
  int64_t bytes = -1;        // of this body; -1: not said
  int64_t begin = 0;         // the byte of the whole that the body begins with
  std::string version{};     // entity tag, else the time of the last change; empty: not said
  std::string next{};        // Link with rel="next"
  std::string linked_tag{};  // x-linked-etag of a hub: the hash of what it redirects to
  int64_t linked_bytes = -1;
  int64_t retry_after = 0;  // seconds
  bool ok() const { return status >= 200 && status < 300; }
};

class HttpClient {
 public:
  // `cancel` ends a transfer within a second, with the code cancelled; it outlives the client.
  static Result<HttpClient> create(const std::atomic<bool>& cancel);
  HttpClient(HttpClient&&) noexcept;
  HttpClient& operator=(HttpClient&&) = delete;
  ~HttpClient();

  // `on_bytes` gets the body of an answer that is ok(), piece by piece, with the answer's headers; an error from it
  // ends the transfer and is the result. Failures of the network have the code io. Any status of HTTP is an answer.
  using OnBytes = std::function<Status(const HttpAnswer&, std::span<const uint8_t>)>;
  Result<HttpAnswer> request(const HttpRequest& request, const OnBytes& on_bytes = {});

  const std::atomic<bool>& cancel() const;

 private:
  struct State;
  explicit HttpClient(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kvass
