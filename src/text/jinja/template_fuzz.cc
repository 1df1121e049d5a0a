// Any template with any variables: parsing and rendering end within their limits, in an error or a text. Input: the
// template, a zero byte, and JSON variables (none: an object with a conversation).
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "text/jinja/jinja.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\0'), input.size());
  const std::string_view variables =
      end < input.size()
          ? input.substr(end + 1)
          : R"({"messages":[{"role":"user","content":"hi <x>"},{"role":"assistant","content":null}],"tools":null})";
  const kvass::Result<kvass::jinja::Template> made = kvass::jinja::Template::parse(input.substr(0, end));
  if (!made.ok()) {
    if (made.status().message().empty()) std::abort();
    return 0;
  }
  kvass::jinja::RenderOptions options;
  options.now.tm_year = 126;
  options.now.tm_mday = 30;
  options.most_steps = 20'000;
  options.most_bytes = size_t{4} << 20;
  options.most_output = size_t{1} << 20;
  const kvass::Result<kvass::jinja::Rendered> rendered = made.value().render(variables, {"bos_token"}, options);
  if (!rendered.ok()) return 0;
  const std::vector<kvass::jinja::Piece>& pieces = rendered.value().pieces;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].text.empty() || (i > 0 && pieces[i].outside == pieces[i - 1].outside)) std::abort();
  }
  return 0;
}
