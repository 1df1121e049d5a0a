// Forms: a line of Content-Type, then a body.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "serve/multipart.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t line = std::min(text.find('\n'), text.size());
  const auto parts = kvass::serve::parse_form(text.substr(0, line), text.substr(std::min(line + 1, text.size())));
  if (!parts.ok()) return 0;
  for (const auto& part : parts.value()) {
    if (!part.body.empty() &&
        (part.body.data() < text.data() || part.body.data() + part.body.size() > text.data() + size))
      __builtin_trap();
  }
  return 0;
}
