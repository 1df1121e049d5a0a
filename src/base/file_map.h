// A file mapped read-only. Owns the mapping; views into it live as long as it does.
//
// Nobody can keep another process from changing a file that is mapped here. Where it is cut short, or the disk fails,
// the system would end this process with SIGBUS at the next read. So while there are maps, a handler of that signal
// stands: it puts zeros where the bytes are missing and marks the map. Whoever has read bytes asks check() before it
// uses what it made of them: it finds missing bytes, another size, and another time of the last change. A map that has
// once been found changed stays so.
//
// The handler is for faults inside these maps. It hands every other one to the handler that the process had before, is
// gone with the last map, and gives way to a handler that the process sets later: that one may hand faults on to it.
// Only memory that is not mapped from a file (Pages::huge) is safe from others; check() is then not needed.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "kvass/status.h"

namespace kvass {

class FileMap {
 public:
  static Result<FileMap> open(const std::string& path);
  FileMap(FileMap&& other) noexcept;
  FileMap& operator=(FileMap&& other) noexcept;
  ~FileMap();

  const std::string& path() const { return path_; }
  std::span<const uint8_t> bytes() const { return {data_, size_}; }
  // Releases the resident pages that lie wholly inside [offset, offset + length). A later access reads them again.
  void release(size_t offset, size_t length) const;

  // An error (io) with the file's name and the offset once the bytes are not those that were mapped. One call of the
  // system; no allocation unless there is an error.
  Status check() const;
  // What was made of the bytes; an error of check() stands in its place.
  template <class T>
  Result<T> checked(Result<T> made) const {
    KVASS_RETURN_IF_ERROR(check());
    return made;
  }

 private:
  struct Watch;                                            // what the signal handler sees of a map
  static Watch* watch(const uint8_t* data, size_t bytes);  // null: no memory
  static void unwatch(Watch* watch);
  static bool on_fault(const void* address);
  FileMap() = default;

  std::string path_;
  int file_ = -1;  // for check()
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  int64_t modified_ = 0;
  Watch* watch_ = nullptr;
};

}  // namespace kvass
