#include "base/block.h"

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "base/platform.h"

namespace kvass {

Result<Block> Block::map(size_t bytes) {
  Block block;
  if (bytes == 0) return block;
  void* data = platform::map_memory(bytes);
  if (data == nullptr) {
    return bad_input("memory", std::to_string(bytes) + " bytes to map", std::strerror(errno));
  }
  if (bytes >= (size_t{2} << 20)) platform::ask_for_huge_pages(data, bytes);
  block.data_ = static_cast<uint8_t*>(data);
  block.bytes_ = bytes;
  return block;
}

Block::Block(Block&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Block& Block::operator=(Block&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Block::~Block() {
  if (data_) platform::unmap(data_, bytes_);
}

}  // namespace kvass
