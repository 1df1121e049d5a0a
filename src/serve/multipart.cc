#include "serve/multipart.h"

#include <algorithm>
#include <cctype>

namespace kvass::serve {
namespace {

constexpr size_t kMostParts = 256;
constexpr size_t kMostHeader = size_t{8} << 10;
constexpr size_t kMostBoundary = 70;

bool same_letters(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](unsigned char x, unsigned char y) {
           return std::tolower(x) == std::tolower(y);
         });
}

std::string_view trimmed(std::string_view text) {
  const auto space = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && space(text.front())) text.remove_prefix(1);
  while (!text.empty() && space(text.back())) text.remove_suffix(1);
  return text;
}

// The value of a parameter in `form-data; name="file"; filename="a \"b\".wav"`; empty: none.
std::string parameter(std::string_view field, std::string_view name) {
  bool quoted = false;
  size_t begin = 0;
  for (size_t i = 0; i <= field.size(); ++i) {
    if (i < field.size() && quoted && field[i] == '\\') {
      ++i;
      continue;
    }
    if (i < field.size() && field[i] == '"') quoted = !quoted;
    if (i < field.size() && (field[i] != ';' || quoted)) continue;
    const std::string_view one = trimmed(field.substr(begin, i - begin));
    begin = i + 1;
    const size_t equals = one.find('=');
    if (equals == one.npos || !same_letters(trimmed(one.substr(0, equals)), name)) continue;
    std::string_view value = trimmed(one.substr(equals + 1));
    if (value.size() < 2 || value.front() != '"' || value.back() != '"') return std::string(value);
    value = value.substr(1, value.size() - 2);
    std::string plain;
    for (size_t at = 0; at < value.size(); ++at) {
      if (value[at] == '\\' && at + 1 < value.size()) ++at;
      plain += value[at];
    }
    return plain;
  }
  return {};
}

Status malformed(std::string_view got) { return bad_input("body", "multipart/form-data as RFC 7578 has it", got); }

}  // namespace

Result<std::vector<FormPart>> parse_form(std::string_view type, std::string_view body) {
  if (!same_letters(trimmed(type.substr(0, type.find(';'))), "multipart/form-data")) {
    return bad_input("Content-Type", "multipart/form-data", type.empty() ? "none" : "another");
  }
  const std::string boundary = parameter(type, "boundary");
  if (boundary.empty() || boundary.size() > kMostBoundary) return malformed("no boundary of 1 to 70 bytes");
  const std::string first = "--" + boundary, next = "\r\n--" + boundary;
  size_t at = body.starts_with(first) ? first.size() : body.find(next);
  if (at == body.npos) return malformed("no part");
  if (!body.starts_with(first)) at += next.size();
  std::vector<FormPart> parts;
  for (;;) {
    const std::string_view rest = body.substr(at);
    if (rest.starts_with("--")) return parts;
    const size_t line = rest.find("\r\n");
    if (line == rest.npos || !trimmed(rest.substr(0, line)).empty())
      return malformed("a boundary that no line end follows");
    at += line + 2;
    const size_t end = body.find(next, at >= 2 ? at - 2 : at);
    if (end == body.npos) return malformed("a part without an end");
    // An empty header is an empty line at once.
    const size_t header_end = body.substr(at).starts_with("\r\n") ? at : body.find("\r\n\r\n", at);
    const bool empty_header = header_end == at;
    const size_t content = header_end == body.npos ? body.npos : header_end + (empty_header ? 2 : 4);
    if (content == body.npos || content > end + 2 || header_end - at > kMostHeader)
      return malformed("a part without a header of at most 8 KiB");
    FormPart part;
    std::string_view header = body.substr(at, header_end - at);
    while (!header.empty()) {
      const size_t stop = std::min(header.find("\r\n"), header.size());
      const std::string_view field = header.substr(0, stop);
      header.remove_prefix(std::min(stop + 2, header.size()));
      const size_t colon = field.find(':');
      if (colon == field.npos || !same_letters(trimmed(field.substr(0, colon)), "content-disposition")) continue;
      part.name = parameter(field.substr(colon + 1), "name");
      part.file = parameter(field.substr(colon + 1), "filename");
    }
    if (part.name.empty()) return malformed("a part without a name");
    part.body = content > end ? std::string_view() : body.substr(content, end - content);
    parts.push_back(std::move(part));
    if (parts.size() > kMostParts) return malformed("more than 256 parts");
    at = end + next.size();
  }
}

}  // namespace kvass::serve
