// A speech model of whisper.cpp (ggml-*.bin), read only, under the tensor names of Hugging Face. Every length is
// checked before it is used. Not a model: sizes and pieces are those of the file, not interpreted. Owns the mapping
// when opened by path.
//
//   file      u32 magic 0x67676d6c, i32 sizes [11], mel filters (i32 rows, i32 columns, float32 [rows][columns]),
//             i32 n, n pieces (u32 length, bytes), tensors to the end of the file
//   sizes     vocabulary, audio positions, width, heads, layers, text positions, width, heads, layers, mel bins, type
//   tensor    i32 dimensions, i32 name length, i32 type, i32 size [dimensions] contiguous first, name, data
// Nothing is aligned. Types are those of GGUF.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_map.h"
#include "file/tensor_source.h"
#include "kvass/status.h"

namespace kvass {

struct GgmlSpeechSizes {
  int64_t vocabulary = 0;
  int64_t audio_positions = 0, audio_width = 0, audio_heads = 0, audio_layers = 0;
  int64_t text_positions = 0, text_width = 0, text_heads = 0, text_layers = 0;
  int64_t mel_bins = 0;
};

class GgmlSpeech final : public TensorSource {
 public:
  static Result<GgmlSpeech> open(FileMap file);
  // `bytes` must outlive the result; `name` is the file's name in messages.
  static Result<GgmlSpeech> parse(std::span<const uint8_t> bytes, std::string name);

  const std::string& name() const override { return name_; }
  bool has(std::string_view tensor) const override;
  Result<SourceTensor> tensor(std::string_view tensor) const override;
  std::vector<std::string> names() const override;
  Status check() const override { return map_ ? map_->check() : Status(); }
  void release(std::span<const uint8_t> bytes) const override;

  const GgmlSpeechSizes& sizes() const { return sizes_; }
  const std::vector<std::string>& pieces() const { return pieces_; }  // bytes; without the special tokens

 private:
  friend class GgmlSpeechParser;
  GgmlSpeech() = default;

  std::string name_;
  std::optional<FileMap> map_;
  GgmlSpeechSizes sizes_;
  std::vector<std::string> pieces_;
  std::map<std::string, SourceTensor, std::less<>> tensors_;  // keys: the file's own names
};

// True if a file of these bytes begins with the magic number of this format.
bool is_ggml_speech(std::span<const uint8_t> bytes);

}  // namespace kvass
