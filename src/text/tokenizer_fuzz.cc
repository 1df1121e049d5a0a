// Any vocabulary, any text: creating, encoding, decoding and streaming stay in bounds, and text -> ids -> text is the
// identity where the vocabulary has every byte. Input: flags, token count, then per token a byte of length (0 to 7), a
// byte of type, a byte of score and the piece; the rest is the text.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "text/stream_decoder.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

std::string stream(const kvass::Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  kvass::StreamDecoder decoder(tokenizer, {.at_start = true});
  std::string text;
  for (const int32_t id : ids) text += decoder.push(id);
  return text + decoder.finish();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto byte = [&]() -> uint8_t {
    if (input.empty()) return 0;
    const auto value = static_cast<uint8_t>(input.front());
    input.remove_prefix(1);
    return value;
  };

  kvass::Vocabulary vocabulary;
  const uint8_t flags = byte();
  const bool all_bytes = flags & 1;
  vocabulary.add_space_prefix = flags & 2;
  const auto add = [&](std::string piece, float score, kvass::TokenType type) {
    vocabulary.pieces.push_back(std::move(piece));
    vocabulary.scores.push_back(score);
    vocabulary.types.push_back(type);
  };
  const int tokens = byte();
  for (int i = 0; i < tokens; ++i) {
    const size_t length = byte() % 8;
    const auto type = static_cast<kvass::TokenType>(byte() % 8);
    const auto score = static_cast<float>(byte());
    const std::string_view piece = input.substr(0, length);
    input.remove_prefix(piece.size());
    add(std::string(piece), score, type);
  }
  constexpr char kHex[] = "0123456789ABCDEF";
  for (int i = 0; all_bytes && i < 256; ++i) {
    add(std::string("<0x") + kHex[i / 16] + kHex[i % 16] + '>', 0, kvass::TokenType::byte);
  }
  vocabulary.unknown = flags & 4 ? 0 : -1;
  vocabulary.bos = flags & 8 ? 1 : -1;

  const auto tokenizer = kvass::Tokenizer::create(vocabulary);
  if (!tokenizer.ok()) return 0;
  for (const bool parse_special : {false, true}) {
    const std::vector<int32_t> ids = tokenizer->encode(input, {.bos = true, .parse_special = parse_special});
    for (const int32_t id : ids) require(tokenizer->is_token(id));
    const std::string text = tokenizer->decode(ids);
    require(stream(tokenizer.value(), ids) == text);
    const bool has_space_mark = input.find("\u2581") != std::string_view::npos;
    const bool bos_speaks = tokenizer->bos() >= 0 && !tokenizer->is_control(tokenizer->bos());
    if (all_bytes && !parse_special && !has_space_mark && !bos_speaks) require(text == input);
  }
  return 0;
}
