#include "serve/http_exchange.h"

#include <cctype>
#include <iterator>
#include <mutex>

namespace kvass::serve {

// What is called once the client is gone; either side may come first.
struct HttpExchange::Gone {
  std::mutex mutex;
  bool gone = false, answered = false;
  std::function<void()> call;
};

HttpExchange::HttpExchange(std::shared_ptr<HttpChannel> channel, HttpRequest request)
    : channel_(std::move(channel)), request_(std::move(request)), call_(std::make_shared<Gone>()) {}

HttpExchange::~HttpExchange() {
  if (!begun_) {
    answer({500, "application/json", R"({"error":{"message":"the request was dropped","type":"server_error"}})", {}});
  } else if (!finished_) {
    abort();
  }
  channel_->exchange_ends(*this);
}

void HttpExchange::add_headers(Fields headers) {
  std::move(headers.begin(), headers.end(), std::back_inserter(headers_));
}

void HttpExchange::answer(HttpReply reply) {
  if (begun_) return;
  std::move(headers_.begin(), headers_.end(), std::back_inserter(reply.headers));
  begun_ = finished_ = true;
  forget_call();
  status_ = reply.status;
  bytes_ = reply.body.size();
  channel_->send_reply(std::move(reply), /*stream=*/false);
}

void HttpExchange::begin(HttpReply reply) {
  if (begun_) return;
  std::move(headers_.begin(), headers_.end(), std::back_inserter(reply.headers));
  begun_ = true;
  status_ = reply.status;
  bytes_ = reply.body.size();
  unsent_ += reply.body.size();
  channel_->send_reply(std::move(reply), /*stream=*/true);
}

void HttpExchange::write(std::string part) {
  if (!begun_ || finished_ || gone() || part.empty()) return;
  bytes_ += part.size();
  if (unsent_ += part.size(); unsent_ > channel_->most_unsent()) {
    channel_->drop();
    return client_gone();
  }
  channel_->send_part(std::move(part));
}

void HttpExchange::finish() {
  if (!begun_ || std::exchange(finished_, true)) return;
  forget_call();
  channel_->send_end();
}

void HttpExchange::abort() {
  if (std::exchange(finished_, true)) return;
  forget_call();
  channel_->drop();
}

void HttpExchange::client_gone() {
  gone_.store(true, std::memory_order_release);
  std::function<void()> call;
  {
    const std::lock_guard lock(call_->mutex);
    call_->gone = true;
    call = std::exchange(call_->call, {});
  }
  if (call) call();
}

// Those who wait to hear of it hold the exchange, and it holds them, until it has its answer.
void HttpExchange::forget_call() {
  std::function<void()> call;  // destroyed after the lock is
  const std::lock_guard lock(call_->mutex);
  call_->answered = true;
  std::swap(call, call_->call);
}

void HttpExchange::on_gone(std::function<void()> call) {
  {
    const std::lock_guard lock(call_->mutex);
    if (!call_->gone) {
      if (!call_->answered) call_->call = std::move(call);
      return;
    }
  }
  call();
}

const std::string* HttpRequest::header(std::string_view name) const {
  for (const auto& [one, value] : headers) {
    if (one == name) return &value;
  }
  return nullptr;
}

std::string lower(std::string_view text) {
  std::string small(text);
  std::transform(small.begin(), small.end(), small.begin(), [](unsigned char c) { return std::tolower(c); });
  return small;
}

std::string percent_decoded(std::string_view text) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 && digit(text[i + 2]) >= 0) {
      plain += static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2]));
      i += 2;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

}  // namespace kvass::serve
