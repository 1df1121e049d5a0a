// A file mapped read-only. Owns the mapping; views into it live as long as it does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "kvass/status.h"

namespace kvass {

class FileMap {
 public:
  static Result<FileMap> open(const std::string& path);
  FileMap(FileMap&& other) noexcept;
  FileMap& operator=(FileMap&& other) noexcept;
  ~FileMap();

  std::span<const uint8_t> bytes() const { return {data_, size_}; }
  // Releases the resident pages that lie wholly inside [offset, offset + length). A later access reads them again.
  void release(size_t offset, size_t length) const;

 private:
  FileMap() = default;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace kvass
