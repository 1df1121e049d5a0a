#include "base/file_map.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/os_error.h"

namespace kvass {

Result<FileMap> FileMap::open(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a FIFO must not block
  if (file < 0) return os_error(path, "a readable file", errno);
  struct stat info {};
  FileMap map;
  Status status;
  if (::fstat(file, &info) != 0) {
    status = os_error(path, "a readable file", errno);
  } else if (!S_ISREG(info.st_mode)) {
    status = bad_input(path, "a regular file", S_ISDIR(info.st_mode) ? "a folder" : "a special file");
  } else if (info.st_size == 0) {
    status = bad_input(path, "a file with content", "an empty file");
  } else {
    void* data = ::mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_PRIVATE, file, 0);
    if (data == MAP_FAILED) {
      status = os_error(path, "a file that can be mapped", errno);
    } else {
      map.data_ = static_cast<const uint8_t*>(data);
      map.size_ = static_cast<size_t>(info.st_size);
    }
  }
  ::close(file);
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
  if (data_) ::munmap(const_cast<uint8_t*>(data_), size_);
}

void FileMap::release(size_t offset, size_t length) const {
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t begin = (offset + page - 1) / page * page;
  const size_t end = (offset + length) / page * page;
  if (end > begin) ::madvise(const_cast<uint8_t*>(data_) + begin, end - begin, MADV_DONTNEED);
}

}  // namespace kvass
