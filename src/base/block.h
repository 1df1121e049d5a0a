// A block of zeroed, page-aligned anonymous memory, mapped once and never grown. It holds weights, caches or the arena.
// Blocks of 2 MiB and more ask for transparent huge pages. Owns the mapping.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "kvass/status.h"

namespace kvass {

class Block {
 public:
  Block() = default;
  // bytes may be 0. `what` it is for begins the message of an error.
  static Result<Block> map(size_t bytes, std::string_view what = "memory");
  Block(Block&& other) noexcept;
  Block& operator=(Block&& other) noexcept;
  ~Block();

  uint8_t* data() { return data_; }
  const uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }  // as requested; the mapping is rounded up to whole pages

 private:
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace kvass
