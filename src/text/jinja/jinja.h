// Chat templates as Hugging Face runs them: jinja2 in its immutable sandbox, with trim_blocks and lstrip_blocks, loop
// controls, `tojson`, `raise_exception`, `strftime_now` and `generation` blocks. Source: jinja2 3.1 and
// transformers.utils.chat_template_utils, whose results it gives byte for byte; what it does not have (include, import,
// extends, a few filters for HTML) is refused by name when the template is parsed.
//
// A template is immutable and may be rendered by any number of threads. A rendering has limits on steps, depth, memory
// and output, since templates come with model files from anywhere.
#pragma once

#include <cstddef>
#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kvass/status.h"

namespace kvass::jinja {

struct RenderOptions {
  std::tm now{};                        // of strftime_now
  size_t most_steps = 20'000'000;       // about a second; a simple expression is one, long operations are many
  size_t most_bytes = size_t{1} << 30;  // taken by all strings, lists and dicts together, the short-lived ones as well
  size_t most_output = size_t{64} << 20;
  int most_depth = 1000;  // of expressions, statements and macro calls in one another
};

// A stretch of the result. `outside`: it came with the variables (a message, a tool), so that it must never be read as
// a control token; otherwise the template wrote it.
struct Piece {
  std::string text;
  bool outside = false;
};
struct Rendered {
  std::vector<Piece> pieces;  // neighbours differ in `outside`, none is empty
  std::string text() const;
};

class Template {
 public:
  // An error names line and column.
  static Result<Template> parse(std::string_view source);
  // `variables` is a JSON object: messages, tools, add_generation_prompt, bos_token and whatever else a caller passes.
  // Names in `own` are the caller's own (bos_token): their text counts as the template's. What the template raises is a
  // bad_input with its message.
  Result<Rendered> render(std::string_view variables, const std::vector<std::string_view>& own,
                          const RenderOptions& options) const;

 private:
  struct Tree;
  explicit Template(std::shared_ptr<const Tree> tree) : tree_(std::move(tree)) {}
  std::shared_ptr<const Tree> tree_;
};

}  // namespace kvass::jinja
