// The text of every token in one block of bytes, as it appears in decoded text: spaces are spaces (not U+2581) and a
// byte token is its byte. Owned by the Tokenizer; immutable once filled.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kvass {

class PieceTable {
 public:
  static constexpr size_t kMaxBytes = UINT32_MAX;

  void reserve(size_t tokens, size_t bytes) {
    ends_.reserve(tokens + 1);
    bytes_.reserve(bytes);
  }
  void extend(std::string_view part) { bytes_.append(part); }  // adds to the piece that the next append completes
  void append(std::string_view piece) {
    bytes_.append(piece);
    ends_.push_back(static_cast<uint32_t>(bytes_.size()));
  }
  int32_t size() const { return static_cast<int32_t>(ends_.size() - 1); }  // tokens
  std::string_view operator[](int32_t id) const { return {bytes_.data() + ends_[id], ends_[id + 1] - ends_[id]}; }

 private:
  std::string bytes_;
  std::vector<uint32_t> ends_{0};  // [tokens + 1]; piece i is bytes [ends_[i], ends_[i + 1])
};

}  // namespace kvass
