// Any vocabulary of any kind, any text: creating, encoding, decoding and streaming stay in bounds, and text -> ids
// -> text is the identity if the vocabulary has every byte. Input: flags, a byte that chooses the pre-tokenizer of a
// byte-level vocabulary, token count, then for each token a byte of length (0 to 7), a byte of type, a byte of score
// and the piece. In a byte-level vocabulary the score says where a normal piece is divided into the two pieces that
// merge into it. The rest is the text.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "text/byte_alphabet.h"
#include "text/stream_decoder.h"
#include "text/test_vocabulary.h"
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
  const bool spm = !(flags & 16);
  constexpr const char* kPre[] = {"",       "llama-bpe", "qwen2",          "qwen35",       "gpt-2",
                                  "tekken", "gpt-4o",    "deepseek-coder", "deepseek-v3",  "smollm",
                                  "falcon", "superbpe",  "kimi-k2",        "deepseek-llm", "chameleon"};
  vocabulary.pre = kPre[byte() % std::size(kPre)];
  const bool unigram = spm && flags & 32;
  vocabulary.kind = unigram ? kvass::VocabularyKind::unigram
                    : spm   ? kvass::VocabularyKind::spm
                            : kvass::VocabularyKind::bpe;
  vocabulary.add_space_prefix = spm && flags & 2;
  vocabulary.nfc = flags & 64;
  vocabulary.remove_extra_whitespaces = unigram && flags & 128;
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
    if (spm || type != kvass::TokenType::normal) {
      add(std::string(piece), score, type);
      continue;
    }
    const auto in_alphabet = [](std::string_view bytes) {
      std::string text;
      for (const char c : bytes) text += kvass::utf8(kvass::byte_alphabet()[static_cast<uint8_t>(c)]);
      return text;
    };
    const size_t cut = piece.empty() ? 0 : static_cast<size_t>(score) % piece.size();
    add(in_alphabet(piece), 0, type);
    // A merge of missing tokens is an error: scores above 252 try that.
    const auto there = [&](std::string_view part) {
      const auto& pieces = vocabulary.pieces;
      return part.size() == 1 || std::find(pieces.begin(), pieces.end(), in_alphabet(part)) != pieces.end();
    };
    if (cut > 0 && ((there(piece.substr(0, cut)) && there(piece.substr(cut))) || score > 252)) {
      vocabulary.merges.push_back(in_alphabet(piece.substr(0, cut)) + ' ' + in_alphabet(piece.substr(cut)));
    }
  }
  constexpr char kHex[] = "0123456789ABCDEF";
  for (int i = 0; all_bytes && i < 256; ++i) {
    if (spm) {
      add(std::string("<0x") + kHex[i / 16] + kHex[i % 16] + '>', 0, kvass::TokenType::byte);
    } else {
      add(kvass::utf8(kvass::byte_alphabet()[i]), 0, kvass::TokenType::normal);
    }
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
    const bool has_space_mark = spm && input.find("\u2581") != std::string_view::npos;
    const bool bos_speaks = tokenizer->bos() >= 0 && !tokenizer->is_control(tokenizer->bos());
    const bool kept = !vocabulary.nfc && !vocabulary.remove_extra_whitespaces;
    if (all_bytes && kept && !parse_special && !has_space_mark && !bos_speaks) require(text == input);
  }
  // A text in two parts of the same kind has the ids of the whole text. Parts of different kinds must stay in bounds.
  const std::string_view head = input.substr(0, flags % (input.size() + 1)), tail = input.substr(head.size());
  for (const bool parse_special : {false, true}) {
    const kvass::TextPart parts[] = {{head, parse_special}, {tail, false}};
    const std::vector<int32_t> ids = tokenizer->encode_parts(parts, /*bos=*/false, /*continued=*/false);
    for (const int32_t id : ids) require(tokenizer->is_token(id));
    if (!parse_special) require(ids == tokenizer->encode(input));
  }
  return 0;
}
