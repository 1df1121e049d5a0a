#include "base/block.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/os_error.h"

namespace kvass {

Result<Block> Block::map(size_t bytes, std::string_view what) {
  Block block;
  if (bytes == 0) return block;
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    return out_of_memory(what, bytes, "memory", std::strerror(errno));
  }
  if (bytes >= (size_t{2} << 20)) ::madvise(data, bytes, MADV_HUGEPAGE);
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
  if (data_) ::munmap(data_, bytes_);
}

}  // namespace kvass
