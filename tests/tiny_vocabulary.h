// The vocabulary of the tiny models, as metadata of a GGUF file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "file/gguf_writer.h"
#include "text/byte_alphabet.h"

namespace kvass::testing {

// 4 special tokens, 256 bytes, and normal pieces that merge into words.
inline void write_tiny_vocabulary(int64_t size, GgufWriter& writer) {
  std::vector<std::string> pieces = {"<pad>", "<eos>", "<bos>", "<unk>"};
  std::vector<int32_t> types = {3, 3, 3, 2};
  constexpr char kHex[] = "0123456789ABCDEF";
  for (int i = 0; i < 256; ++i) {
    pieces.push_back(std::string("<0x") + kHex[i / 16] + kHex[i % 16] + '>');
    types.push_back(6);
  }
  for (const char* piece :
       {"\u2581", "t", "h", "e", "th", "the", "\u2581the", "a", "n", "d", "an", "and", "\u2581and"}) {
    pieces.emplace_back(piece);
    types.push_back(1);
  }
  while (static_cast<int64_t>(pieces.size()) < size) {
    pieces.push_back("w" + std::to_string(pieces.size()));
    types.push_back(1);
  }
  std::vector<float> scores;
  for (size_t i = 0; i < pieces.size(); ++i) scores.push_back(types[i] == 1 ? static_cast<float>(i) - 1000.0f : 0.0f);
  writer.str("tokenizer.ggml.model", "llama");
  writer.strs("tokenizer.ggml.tokens", pieces);
  writer.f32s("tokenizer.ggml.scores", scores);
  writer.i32s("tokenizer.ggml.token_type", types);
  writer.u32("tokenizer.ggml.bos_token_id", 2);
  writer.u32("tokenizer.ggml.eos_token_id", 1);
  writer.u32("tokenizer.ggml.unknown_token_id", 3);
}

// 256 bytes in GPT-2's alphabet, pieces that merge into words, and the control tokens of ChatML.
inline void write_tiny_byte_vocabulary(int64_t size, GgufWriter& writer) {
  std::vector<std::string> pieces = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  std::vector<int32_t> types = {3, 3, 3};
  for (int byte = 0; byte < 256; ++byte) {
    pieces.push_back(piece_of_bytes(std::string(1, static_cast<char>(byte))));
    types.push_back(1);
  }
  const std::vector<std::string> merges = {"t h", "th e", "\u0120 the", "a n", "an d", "\u0120 and"};
  for (std::string merge : merges) {
    merge.erase(merge.find(' '), 1);
    pieces.push_back(merge);
    types.push_back(1);
  }
  while (static_cast<int64_t>(pieces.size()) < size) {
    pieces.push_back("<unused" + std::to_string(pieces.size()) + ">");
    types.push_back(5);
  }
  writer.str("tokenizer.ggml.model", "gpt2");
  writer.str("tokenizer.ggml.pre", "qwen2");
  writer.strs("tokenizer.ggml.tokens", pieces);
  writer.i32s("tokenizer.ggml.token_type", types);
  writer.strs("tokenizer.ggml.merges", merges);
  writer.u32("tokenizer.ggml.bos_token_id", 0);
  writer.u32("tokenizer.ggml.eos_token_id", 2);
  writer.boolean("tokenizer.ggml.add_bos_token", false);
}

}  // namespace kvass::testing
