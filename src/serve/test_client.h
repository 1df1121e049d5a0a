// A blocking HTTP client for the server's tests: one connection, whole answers or a stream's parts as they come.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace kvass::testing {

using Json = nlohmann::ordered_json;

struct Answer {
  int status = 0;                              // 0: none came
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  bool whole = false;
  Json json() const { return Json::parse(body, nullptr, false); }
  std::string message() const {
    const Json parsed = json();
    return parsed.is_object() && parsed.contains("error") ? parsed["error"].value("message", "") : "";
  }
  // The events of a stream, without the last, "[DONE]".
  std::vector<Json> events() const {
    std::vector<Json> all;
    for (size_t at = body.find("data: "); at != body.npos; at = body.find("data: ", at + 1)) {
      const std::string line = body.substr(at + 6, body.find('\n', at) - at - 6);
      if (line != "[DONE]") all.push_back(Json::parse(line, nullptr, false));
    }
    return all;
  }
};

class Client {
 public:
  explicit Client(const std::string& url) {
    if (url.starts_with("unix:")) {
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      std::strncpy(address.sun_path, url.c_str() + 5, sizeof address.sun_path - 1);
      open(AF_UNIX, &address, sizeof address);
    } else {
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_port = htons(static_cast<uint16_t>(std::stoi(url.substr(url.rfind(':') + 1))));
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      open(AF_INET, &address, sizeof address);
    }
  }
  ~Client() { close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void close() {
    if (file_ >= 0) ::close(std::exchange(file_, -1));
  }
  bool send(std::string_view text) {
    while (!text.empty()) {
      const ssize_t sent = ::send(file_, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      text.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  static std::string request(const std::string& method, const std::string& path, const std::string& body = "",
                             const std::string& headers = "") {
    std::string text = method + " " + path + " HTTP/1.1\r\nHost: localhost\r\n" + headers;
    if (!body.empty() || method == "POST") {
      if (headers.find("Content-Type") == headers.npos) text += "Content-Type: application/json\r\n";
      text += "Content-Length: " + std::to_string(body.size()) + "\r\n";
    }
    return text + "\r\n" + body;
  }
  Answer ask(const std::string& method, const std::string& path, const std::string& body = "",
             const std::string& headers = "") {
    send(request(method, path, body, headers));
    return receive(method == "HEAD");
  }
  Answer post(const std::string& path, const Json& body, const std::string& headers = "") {
    return ask("POST", path, body.dump(), headers);
  }
  Answer get(const std::string& path, const std::string& headers = "") { return ask("GET", path, "", headers); }

  // `on_part`: sees what came of the body so far; false ends it there.
  Answer receive(bool head_only = false, const std::function<bool(const std::string&)>& on_part = {}) {
    Answer answer;
    size_t end;
    while ((end = buffer_.find("\r\n\r\n")) == buffer_.npos) {
      if (!more()) return answer;
    }
    std::string head = buffer_.substr(0, end + 2);
    buffer_.erase(0, end + 4);
    answer.status = std::atoi(head.c_str() + 9);
    for (size_t at = head.find("\r\n") + 2; at < head.size();) {
      const size_t stop = head.find("\r\n", at), colon = head.find(": ", at);
      std::string name = head.substr(at, colon - at);
      for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      answer.headers[name] = head.substr(colon + 2, stop - colon - 2);
      at = stop + 2;
    }
    if (answer.status == 100) return receive(head_only, on_part);
    if (head_only || answer.status == 204) {
      answer.whole = true;
    } else if (answer.headers.contains("content-length")) {
      const auto size = static_cast<size_t>(std::stoull(answer.headers["content-length"]));
      while (buffer_.size() < size && more()) {
      }
      answer.whole = buffer_.size() >= size;
      answer.body = buffer_.substr(0, size);
      buffer_.erase(0, size);
    } else if (answer.headers["transfer-encoding"] == "chunked") {
      while (chunk(answer)) {
        if (on_part && !on_part(answer.body)) return answer;
      }
    } else {
      while (more()) {
      }
      answer.body = std::exchange(buffer_, {});
      answer.whole = true;
    }
    return answer;
  }

 private:
  template <class Address>
  void open(int family, const Address* address, socklen_t length) {
    file_ = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const timeval patience{120, 0};
    ::setsockopt(file_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (::connect(file_, reinterpret_cast<const sockaddr*>(address), length) != 0) close();
  }
  bool more() {
    char bytes[4096];
    const ssize_t got = file_ < 0 ? -1 : ::recv(file_, bytes, sizeof bytes, 0);
    if (got <= 0) return false;
    buffer_.append(bytes, static_cast<size_t>(got));
    return true;
  }
  bool chunk(Answer& answer) {  // false: the last, or no more came
    size_t end;
    while ((end = buffer_.find("\r\n")) == buffer_.npos) {
      if (!more()) return false;
    }
    const auto size = static_cast<size_t>(std::stoull(buffer_.substr(0, end), nullptr, 16));
    while (buffer_.size() < end + 2 + size + 2) {
      if (!more()) return false;
    }
    answer.body += buffer_.substr(end + 2, size);
    buffer_.erase(0, end + 2 + size + 2);
    answer.whole = size == 0;
    return size != 0;
  }

  int file_ = -1;
  std::string buffer_;
};

}  // namespace kvass::testing
