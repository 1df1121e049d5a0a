// Reads the bytes of an untrusted file in order: every length is compared with the bytes left before it is used. The
// parsers of binary formats are built on it. Owns neither the bytes nor the name.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "kvass/status.h"

namespace kvass {

class ByteReader {
 protected:
  // `name` is the file's name in messages.
  ByteReader(std::span<const uint8_t> bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  Status fail(std::string_view field, std::string_view expected, std::string_view got) const {
    return bad_input(name_ + ": " + std::string(field), expected, got);
  }
  // The same of what a sound file may have and kvass does not read.
  Status cannot(std::string_view field, std::string_view expected, std::string_view got) const {
    return unsupported(name_ + ": " + std::string(field), expected, got);
  }
  size_t left() const { return bytes_.size() - at_; }
  Status need(std::string_view field, uint64_t bytes) const {
    if (bytes <= left()) return {};
    return fail(field, std::to_string(bytes) + " bytes", std::to_string(left()) + " before the end of the file");
  }
  // Error if `claimed` elements of at least `each` bytes cannot fit into the bytes left.
  Status count(std::string_view field, uint64_t claimed, size_t each) const {
    if (claimed <= left() / each) return {};
    return fail(field, "at most " + std::to_string(left() / each) + " (what the file can hold)",
                std::to_string(claimed));
  }
  template <class T>
  Status number(std::string_view field, T& value) {
    KVASS_RETURN_IF_ERROR(need(field, sizeof(T)));
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return {};
  }

  std::span<const uint8_t> bytes_;
  size_t at_ = 0;  // offset of the next byte

 private:
  const std::string& name_;
};

}  // namespace kvass
