#include "net/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "kvass/version.h"

namespace kvass {
namespace {

// Where systems keep the certificates of authorities; the library has the path of one of them compiled in.
constexpr const char* kCertificates[] = {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                                         "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"};

std::string certificates() {
  for (const char* variable : {"SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"}) {
    if (const char* path = std::getenv(variable); path != nullptr && *path != '\0') return path;
  }
  std::error_code error;
  for (const char* path : kCertificates) {
    if (std::filesystem::exists(path, error)) return path;
  }
  return "";
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\r' || text.back() == '\n')) text.remove_suffix(1);
  return text;
}

int64_t number(std::string_view text, int64_t otherwise) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end != text.data() && value >= 0 ? value : otherwise;
}

// The address of `Link: <address>; rel="next"`.
std::string next_link(std::string_view value) {
  while (!value.empty()) {
    const size_t open = value.find('<'), close = value.find('>');
    if (open == std::string_view::npos || close == std::string_view::npos || close < open) return "";
    const std::string_view address = value.substr(open + 1, close - open - 1);
    const std::string_view rest = value.substr(close + 1);
    const size_t end = std::min(rest.find(','), rest.size());
    if (rest.substr(0, end).find("rel=\"next\"") != std::string_view::npos) return std::string(address);
    value = rest.substr(end);
  }
  return "";
}

// One transfer.
struct Transfer {
  const HttpClient::OnBytes& on_bytes;
  const std::atomic<bool>& cancel;
  HttpAnswer answer = {};
  Status status = {};  // of on_bytes
};

size_t on_header(char* data, size_t, size_t count, void* user) {
  HttpAnswer& answer = static_cast<Transfer*>(user)->answer;
  const std::string_view line = trimmed({data, count});
  if (line.starts_with("HTTP/")) {  // of this answer, after one that redirected
    answer.bytes = -1;
    answer.begin = 0;
    answer.version.clear();
    answer.next.clear();
    answer.retry_after = 0;
    answer.status = static_cast<int>(number(trimmed(line.substr(std::min(line.find(' '), line.size()))), 0));
    return count;
  }
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return count;
  std::string name(line.substr(0, colon));
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  const std::string_view value = trimmed(line.substr(colon + 1));
  if (name == "content-length") answer.bytes = number(value, -1);
  if (name == "content-range" && value.starts_with("bytes ")) answer.begin = number(value.substr(6), 0);
  if (name == "etag") answer.version = value;
  if (name == "last-modified" && answer.version.empty()) answer.version = value;
  if (name == "link") answer.next = next_link(value);
  if (name == "x-linked-etag") answer.linked_tag = value;
  if (name == "x-linked-size") answer.linked_bytes = number(value, -1);
  if (name == "retry-after") answer.retry_after = number(value, 0);
  return count;
}

size_t on_body(char* data, size_t, size_t count, void* user) {
  Transfer& transfer = *static_cast<Transfer*>(user);
  if (!transfer.answer.ok() || !transfer.on_bytes) return count;
  transfer.status = transfer.on_bytes(transfer.answer, {reinterpret_cast<const uint8_t*>(data), count});
  return transfer.status.ok() ? count : CURL_WRITEFUNC_ERROR;
}

int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<Transfer*>(user)->cancel.load() ? 1 : 0;
}

}  // namespace

struct HttpClient::State {
  CURL* handle;
  const std::atomic<bool>& cancel;
  std::string certificates;
  ~State() { curl_easy_cleanup(handle); }
};

HttpClient::HttpClient(std::unique_ptr<State> state) : state_(std::move(state)) {}
HttpClient::HttpClient(HttpClient&&) noexcept = default;
HttpClient::~HttpClient() = default;
const std::atomic<bool>& HttpClient::cancel() const { return state_->cancel; }

Result<HttpClient> HttpClient::create(const std::atomic<bool>& cancel) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  CURL* handle = ready == CURLE_OK ? curl_easy_init() : nullptr;
  if (handle == nullptr) return Status::error(StatusCode::io, "network: expected libcurl to start, got a failure");
  return HttpClient(std::unique_ptr<State>(new State{handle, cancel, kvass::certificates()}));
}

Result<HttpAnswer> HttpClient::request(const HttpRequest& request, const OnBytes& on_bytes) {
  CURL* const handle = state_->handle;
  Transfer transfer{on_bytes, state_->cancel};
  char error[CURL_ERROR_SIZE] = "";
  curl_easy_reset(handle);
  curl_easy_setopt(handle, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(handle, CURLOPT_REDIR_PROTOCOLS_STR, request.url.starts_with("https:") ? "https" : "http,https");
  curl_easy_setopt(handle, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(handle, CURLOPT_MAXREDIRS, 10L);
  curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT, 20L);
  curl_easy_setopt(handle, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(handle, CURLOPT_LOW_SPEED_TIME, 30L);
  curl_easy_setopt(handle, CURLOPT_USERAGENT, "kvass/" KVASS_VERSION);
  curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, error);
  curl_easy_setopt(handle, CURLOPT_NOBODY, request.head_only ? 1L : 0L);
  curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(handle, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(handle, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(handle, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(handle, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(handle, CURLOPT_XFERINFODATA, &transfer);
  if (!state_->certificates.empty()) curl_easy_setopt(handle, CURLOPT_CAINFO, state_->certificates.c_str());
  if (!request.token.empty()) {
    curl_easy_setopt(handle, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
    curl_easy_setopt(handle, CURLOPT_XOAUTH2_BEARER, request.token.c_str());
  }
  curl_slist* headers = nullptr;
  if (request.begin > 0) {
    headers = curl_slist_append(headers, ("Range: bytes=" + std::to_string(request.begin) + "-").c_str());
    if (!request.version.empty()) headers = curl_slist_append(headers, ("If-Range: " + request.version).c_str());
  }
  curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers);
  const CURLcode code = curl_easy_perform(handle);
  curl_slist_free_all(headers);

  if (!transfer.status.ok()) return transfer.status;
  if (code == CURLE_ABORTED_BY_CALLBACK) return Status::error(StatusCode::cancelled, request.url + ": cancelled");
  if (code != CURLE_OK) {
    const bool never = code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL;
    return Status::error(never ? StatusCode::bad_input : StatusCode::io,
                         expected_message(request.url, never ? "an http or https address" : "the whole answer",
                                          *error != '\0' ? error : curl_easy_strerror(code)));
  }
  const char* url = nullptr;
  curl_easy_getinfo(handle, CURLINFO_EFFECTIVE_URL, &url);
  if (url != nullptr) transfer.answer.url = url;
  return transfer.answer;
}

}  // namespace kvass
