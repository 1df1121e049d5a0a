// Any tokenizer.json, tokenizer_config.json, generation_config.json and config.json, one after the other with a zero
// byte between: their translation is a GGUF file that is read, or a one-line error; and any tokenizer that comes of it
// encodes and decodes.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "text/folder_tokenizer.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void require_line(const kvass::Status& status) { require(status.message().find('\n') == std::string::npos); }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto next = [&] {
    const std::string_view text = input.substr(0, input.find('\0'));
    input.remove_prefix(std::min(input.size(), text.size() + 1));
    return kvass::JsonTree(text.begin(), text.end());
  };
  const kvass::JsonTree tokenizer = next(), settings = next(), generation = next(), config = next();
  kvass::GgufWriter writer;
  const kvass::Status status = kvass::translate_tokenizer(
      {kvass::JsonFields(tokenizer.root(), "tokenizer.json"),
       kvass::JsonFields(settings.root(), "tokenizer_config.json"),
       kvass::JsonFields(generation.root(), "generation_config.json"), kvass::JsonFields(config.root(), "config.json")},
      300, writer);
  require_line(status);
  if (!status.ok()) return 0;
  const std::vector<uint8_t> bytes = writer.finish();
  const kvass::Result<kvass::Gguf> file = kvass::Gguf::parse(bytes, "fuzz");
  if (!file.ok()) return require_line(file.status()), 0;
  const kvass::Result<kvass::Vocabulary> vocabulary = kvass::read_vocabulary(file.value());
  if (!vocabulary.ok()) return require_line(vocabulary.status()), 0;
  const kvass::Result<kvass::Tokenizer> made = kvass::Tokenizer::create(vocabulary.value());
  if (!made.ok()) return require_line(made.status()), 0;
  const std::vector<int32_t> ids = made->encode("the \u2581 and</s>\n a\xff", {.bos = true, .parse_special = true});
  for (const int32_t id : ids) require(made->is_token(id));
  (void)made->decode(ids);
  return 0;
}
