#include "base/file_map.h"

#include <cerrno>
#include <utility>

#include "base/os_error.h"
#include "base/platform.h"

namespace kvass {

Result<FileMap> FileMap::open(const std::string& path) {
  const int file = platform::open_to_read(path);
  if (file < 0) return os_error(path, "a readable file", errno);
  const platform::FileInfo info = platform::file_info(file);
  FileMap map;
  Status status;
  if (info.kind == platform::FileKind::none) {
    status = os_error(path, "a readable file", errno);
  } else if (info.kind != platform::FileKind::file) {
    status = bad_input(path, "a regular file", info.kind == platform::FileKind::folder ? "a folder" : "a special file");
  } else if (info.bytes == 0) {
    status = bad_input(path, "a file with content", "an empty file");
  } else {
    const void* data = platform::map_file(file, info.bytes);
    if (data == nullptr) {
      status = os_error(path, "a file that can be mapped", errno);
    } else {
      map.data_ = static_cast<const uint8_t*>(data);
      map.size_ = info.bytes;
    }
  }
  platform::close_file(file);
  if (!status.ok()) return status;
  return map;
}

FileMap::FileMap(FileMap&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

FileMap& FileMap::operator=(FileMap&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

FileMap::~FileMap() {
  if (data_) platform::unmap(data_, size_);
}

void FileMap::release(size_t offset, size_t length) const {
  const size_t page = platform::page_bytes();
  const size_t begin = (offset + page - 1) / page * page;
  const size_t end = (offset + length) / page * page;
  if (end > begin) platform::drop_pages(data_ + begin, end - begin);
}

}  // namespace kvass
