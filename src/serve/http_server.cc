#include "serve/http_server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <deque>
#include <optional>
#include <sstream>
#include <thread>

#include "serve/listen.h"

namespace kvass::serve {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using Error = boost::system::error_code;
using Socket = asio::generic::stream_protocol::socket;
using Acceptor = asio::basic_socket_acceptor<asio::generic::stream_protocol>;

class Connection;

struct HttpServer::Impl {
  Impl(const HttpLimits& given, Handler handle, OnDone done)
      : limits(given), handler(std::move(handle)), on_done(std::move(done)) {}

  void accept();
  void close_all();

  HttpLimits limits;
  Handler handler;
  OnDone on_done;
  asio::io_context io{1};
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work{asio::make_work_guard(io)};
  Acceptor acceptor{io};
  asio::steady_timer pause{io};  // after an accept that failed for want of descriptors
  std::string url;
  bool local = false;
  std::string path;  // of a UNIX socket, which is removed at the end
  std::vector<std::weak_ptr<Connection>> connections;
  std::atomic<int64_t> exchanges{0}, open{0};
  bool draining = false;
  std::thread thread;
};

namespace {

std::string json_error(std::string_view message) {
  return "{\"error\":{\"message\":\"" + std::string(message) + "\",\"type\":\"invalid_request_error\",\"param\":null," +
         "\"code\":null}}";
}

}  // namespace

// One client. All of it but the channel runs on the server's thread.
class Connection final : public HttpChannel, public std::enable_shared_from_this<Connection> {
 public:
  Connection(HttpServer::Impl& server, Socket socket) : server_(server), socket_(std::move(socket)), timer_(server.io) {
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    const int file = socket_.native_handle();
    if (::getpeername(file, reinterpret_cast<sockaddr*>(&address), &length) == 0) {
      peer_ = address_text(reinterpret_cast<sockaddr*>(&address), length);
    }
    const int on = 1;  // parts of a stream go out as they come; a UNIX socket refuses it, and needs it not
    (void)::setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ++server_.open;
  }
  ~Connection() override { --server_.open; }

  void send_reply(HttpReply reply, bool stream) override {
    post([reply = std::move(reply), stream](Connection& self) { self.begin_reply(reply, stream); });
  }
  void send_part(std::string part) override {
    post([part = std::move(part)](Connection& self) { self.write_part(part); });
  }
  void send_end() override {
    post([](Connection& self) { self.finish(); });
  }
  void drop() override {
    post([](Connection& self) { self.close(); });
  }
  size_t most_unsent() const override { return server_.limits.unsent_bytes; }
  void exchange_ends(const HttpExchange& exchange) override {
    if (server_.on_done) server_.on_done(exchange);
    --server_.exchanges;
  }

  void wait_for_request() {
    if (server_.draining) return close();
    if (buffer_.size() > 0) return read_header();
    idle_ = true;
    set_deadline(server_.limits.idle_time, /*status=*/0);
    socket_.async_wait(Socket::wait_read, [self = shared_from_this()](Error error) {
      self->idle_ = false;
      if (error) return self->close();
      self->read_header();
    });
  }

  void refuse(int status, std::string_view message) {  // and close
    keep_alive_ = false;
    version_ = 11;
    HttpReply reply{status, "application/json", json_error(message), {}};
    send(head(reply, /*stream=*/false) + reply.body, /*last=*/true);
  }

  void close() {
    if (closed_) return;
    closed_ = true;
    Error ignored;
    timer_.cancel(ignored);
    socket_.shutdown(Socket::shutdown_both, ignored);
    socket_.close(ignored);
    if (const std::shared_ptr<HttpExchange> exchange = exchange_.lock()) exchange->client_gone();
  }
  void close_if_idle() {
    if (idle_) close();
  }

 private:
  template <class Call>
  void post(Call call) {
    asio::post(server_.io, [self = shared_from_this(), call = std::move(call)] { call(*self); });
  }

  void begin_reply(const HttpReply& reply, bool stream) {
    chunked_ = stream && version_ == 11;
    if (stream && !chunked_) keep_alive_ = false;
    std::string text = head(reply, stream);
    if (!head_only_ && !reply.body.empty()) text += stream ? part(reply.body) : reply.body;
    send(std::move(text), /*last=*/!stream);
  }
  void write_part(const std::string& text) { send(head_only_ ? std::string() : part(text), /*last=*/false); }
  void finish() { send(chunked_ && !head_only_ ? "0\r\n\r\n" : "", /*last=*/true); }

  void set_deadline(std::chrono::seconds time, int status) {
    if (closed_) return;
    timer_.expires_after(time);
    timer_.async_wait([self = shared_from_this(), status](Error error) {
      if (error || self->closed_) return;
      if (status == 0) return self->close();
      self->timed_out_ = true;
      self->refuse(status, "the request did not arrive in time");
    });
  }

  void read_header() {
    set_deadline(server_.limits.header_time, 408);
    parser_.emplace();
    parser_->header_limit(static_cast<uint32_t>(server_.limits.header_bytes));
    parser_->body_limit(server_.limits.body_bytes);
    http::async_read_header(socket_, buffer_, *parser_, [self = shared_from_this()](Error error, size_t) {
      if (self->timed_out_ || self->closed_) return;
      if (error) return self->bad_request(error);
      self->read_body();
    });
  }

  void read_body() {
    set_deadline(server_.limits.body_time, 408);
    const bool waits = lower(std::string(parser_->get()[http::field::expect])) == "100-continue";
    if (!waits || parser_->is_done()) return read_rest();
    auto go_on = std::make_shared<std::string>("HTTP/1.1 100 Continue\r\n\r\n");
    asio::async_write(socket_, asio::buffer(*go_on), [self = shared_from_this(), go_on](Error error, size_t) {
      if (error) return self->close();
      self->read_rest();
    });
  }

  void read_rest() {
    http::async_read(socket_, buffer_, *parser_, [self = shared_from_this()](Error error, size_t) {
      if (self->timed_out_ || self->closed_) return;
      if (error) return self->bad_request(error);
      self->handle();
    });
  }

  void bad_request(Error error) {
    if (error == http::error::end_of_stream || error == asio::error::eof || error == http::error::partial_message ||
        error.category() == asio::error::get_system_category()) {
      return close();
    }
    if (error == http::error::body_limit) {
      return refuse(413, "the body is larger than " + std::to_string(server_.limits.body_bytes) + " bytes");
    }
    if (error == http::error::header_limit || error == http::error::buffer_overflow) {
      return refuse(431, "the header is larger than " + std::to_string(server_.limits.header_bytes) + " bytes");
    }
    refuse(400, "this is no HTTP/1.1 request");
  }

  void handle() {
    Error ignored;
    timer_.cancel(ignored);
    http::request<http::string_body> message = parser_->release();
    parser_.reset();
    version_ = message.version();
    keep_alive_ = message.keep_alive();
    if (version_ == 11 && message.find(http::field::host) == message.end()) {
      return refuse(400, "HTTP/1.1 asks for a Host header");
    }
    HttpRequest request;
    request.method = std::string(message.method_string());
    head_only_ = request.method == "HEAD";
    std::string target(message.target());
    if (target.starts_with("http://")) target.erase(0, std::min(target.find('/', 7), target.size()));  // absolute form
    const size_t mark = std::min(target.find('?'), target.size());
    request.path = percent_decoded(std::string_view(target).substr(0, mark));
    request.query = target.substr(std::min(mark + 1, target.size()));
    for (const auto& field : message) {
      request.headers.emplace_back(lower(std::string(field.name_string())), std::string(field.value()));
    }
    request.body = std::move(message.body());
    request.peer = peer_;
    ++server_.exchanges;
    auto exchange = std::make_shared<HttpExchange>(shared_from_this(), std::move(request));
    exchange_ = exchange;
    answering_ = true;
    watch();
    server_.handler(std::move(exchange));
  }

  // Notices that the client goes away while its answer is computed. What it sends meanwhile waits.
  void watch() {
    socket_.async_wait(Socket::wait_read, [self = shared_from_this()](Error error) {
      if (error || self->closed_ || !self->answering_) return;
      char byte;
      const ssize_t got = ::recv(self->socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
      if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return self->close();
      if (got < 0) self->watch();
    });
  }

  std::string head(const HttpReply& reply, bool stream) {
    http::response<http::empty_body> message(static_cast<http::status>(reply.status), version_);
    message.reason(http::obsolete_reason(message.result()));
    message.set(http::field::server, "kvass");
    for (const auto& [name, value] : reply.headers) message.set(name, value);
    if (!reply.type.empty()) message.set(http::field::content_type, reply.type);
    if (chunked_ && stream) {
      message.set(http::field::transfer_encoding, "chunked");
    } else if (!stream && reply.status != 204) {
      message.set(http::field::content_length, std::to_string(reply.body.size()));
    }
    if (server_.draining) keep_alive_ = false;
    message.keep_alive(keep_alive_);
    std::ostringstream text;
    text << message.base();
    return text.str();
  }

  std::string part(const std::string& text) const {
    if (!chunked_) return text;
    char size[24];
    const int digits = std::snprintf(size, sizeof size, "%zx\r\n", text.size());
    return std::string(size, static_cast<size_t>(digits)) + text + "\r\n";
  }

  void send(std::string text, bool last) {
    if (closed_) return;
    if (!text.empty()) out_.push_back(std::move(text));
    last_ = last_ || last;
    write_more();
  }

  void write_more() {
    if (writing_ || closed_) return;
    if (out_.empty()) {
      if (last_) reply_is_out();
      return;
    }
    writing_ = true;
    set_deadline(server_.limits.write_time, /*status=*/0);
    asio::async_write(socket_, asio::buffer(out_.front()), [self = shared_from_this()](Error error, size_t) {
      self->writing_ = false;
      if (error || self->closed_) return self->close();
      Error ignored;
      self->timer_.cancel(ignored);
      if (const std::shared_ptr<HttpExchange> exchange = self->exchange_.lock()) {
        exchange->sent(self->out_.front().size());
      }
      self->out_.pop_front();
      self->write_more();
    });
  }

  void reply_is_out() {
    last_ = chunked_ = answering_ = false;
    exchange_.reset();
    Error ignored;
    socket_.cancel(ignored);  // the watch
    if (keep_alive_ && !timed_out_) return wait_for_request();
    linger();
  }

  // What the client still sends is read for a moment, so that it gets the answer before it learns of the end.
  void linger() {
    Error ignored;
    socket_.shutdown(Socket::shutdown_send, ignored);
    set_deadline(std::chrono::seconds(2), /*status=*/0);
    drain();
  }
  void drain() {
    rest_.resize(size_t{16} << 10);
    socket_.async_read_some(asio::buffer(rest_), [self = shared_from_this()](Error error, size_t) {
      if (error || self->closed_) return self->close();
      self->drain();
    });
  }

  HttpServer::Impl& server_;
  Socket socket_;
  asio::steady_timer timer_;
  boost::beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  std::weak_ptr<HttpExchange> exchange_;
  std::deque<std::string> out_;
  std::string rest_, peer_ = "unknown";
  unsigned version_ = 11;
  bool keep_alive_ = false, head_only_ = false, chunked_ = false;
  bool idle_ = false, answering_ = false, writing_ = false, last_ = false, closed_ = false, timed_out_ = false;
};

void HttpServer::Impl::accept() {
  acceptor.async_accept([this](Error error, Socket socket) {
    if (!acceptor.is_open()) return;
    if (error) {  // no descriptors are left, often: not at once again
      pause.expires_after(std::chrono::milliseconds(100));
      pause.async_wait([this](Error stopped) {
        if (!stopped && acceptor.is_open()) accept();
      });
      return;
    }
    const bool full = open.load() >= limits.connections;
    auto connection = std::make_shared<Connection>(*this, std::move(socket));
    std::erase_if(connections, [](const auto& one) { return one.expired(); });
    connections.push_back(connection);
    if (full) {
      connection->refuse(503, "all " + std::to_string(limits.connections) + " connections are in use");
    } else {
      connection->wait_for_request();
    }
    accept();
  });
}

void HttpServer::Impl::close_all() {
  for (const auto& one : connections) {
    if (const std::shared_ptr<Connection> connection = one.lock()) connection->close();
  }
}

Result<std::unique_ptr<HttpServer>> HttpServer::listen(const std::string& host, int port, const HttpLimits& limits,
                                                       Handler handler, OnDone on_done) {
  KVASS_ASSIGN_OR_RETURN(const Listening listening, serve::listen(host, port));
  auto impl = std::make_unique<Impl>(limits, std::move(handler), std::move(on_done));
  impl->url = listening.url;
  impl->local = listening.local;
  impl->path = listening.path;
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  ::getsockname(listening.file, reinterpret_cast<sockaddr*>(&address), &length);
  Error error;
  impl->acceptor.assign(asio::generic::stream_protocol(address.ss_family, 0), listening.file, error);
  if (error) return bad_input("ServeOptions.host", "a socket that accepts connections", error.message());
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() { stop(); }

const std::string& HttpServer::url() const { return impl_->url; }
bool HttpServer::is_local() const { return impl_->local; }
int64_t HttpServer::open_exchanges() const { return impl_->exchanges.load(); }

void HttpServer::start() {
  impl_->accept();
  impl_->thread = std::thread([this] { impl_->io.run(); });
}

void HttpServer::stop_accepting() {
  asio::post(impl_->io, [impl = impl_.get()] {
    impl->draining = true;
    Error ignored;
    impl->acceptor.close(ignored);
    for (const auto& one : impl->connections) {
      if (const std::shared_ptr<Connection> connection = one.lock()) connection->close_if_idle();
    }
  });
}

void HttpServer::stop() {
  if (impl_->thread.joinable()) {
    stop_accepting();
    asio::post(impl_->io, [impl = impl_.get()] { impl->close_all(); });
    impl_->work.reset();
    impl_->pause.cancel();
    impl_->thread.join();
  }
  if (!impl_->path.empty()) ::unlink(std::exchange(impl_->path, {}).c_str());
}

}  // namespace kvass::serve
