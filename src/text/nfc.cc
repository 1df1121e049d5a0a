// to_nfc of normalizer.h: the one call of utf8proc.
#include <utf8proc.h>

#include <cstdlib>
#include <memory>
#include <new>

#include "text/normalizer.h"
#include "text/utf8.h"

namespace kvass {
namespace {

// Characters below U+0300, whose first byte is below this, are their own form C, and none of them joins another.
constexpr uint8_t kFirstByteOfMarks = 0xcc;

bool may_change(std::string_view text) {
  for (const char c : text) {
    if (static_cast<uint8_t>(c) >= kFirstByteOfMarks) return true;
  }
  return false;
}

// The length in bytes of the valid UTF-8 at the beginning of `text`.
size_t valid_length(std::string_view text) {
  size_t length = 0;
  while (length < text.size()) {
    const Utf8Step step = utf8_step(text.substr(length));
    if (step.state != Utf8Step::valid) break;
    length += step.length;
  }
  return length;
}

void append_nfc(std::string_view text, std::string& out) {
  utf8proc_uint8_t* composed = nullptr;
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &composed, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owned(composed, std::free);
  if (length < 0) throw std::bad_alloc();  // the text is valid: only memory can be missing
  out.append(reinterpret_cast<const char*>(composed), static_cast<size_t>(length));
}

}  // namespace

std::string_view to_nfc(std::string_view text, std::string& scratch) {
  if (!may_change(text)) return text;
  scratch.clear();
  while (!text.empty()) {
    if (const size_t length = valid_length(text); length > 0) {
      append_nfc(text.substr(0, length), scratch);
      text.remove_prefix(length);
    } else {
      scratch += text.front();
      text.remove_prefix(1);
    }
  }
  return scratch;
}

}  // namespace kvass
