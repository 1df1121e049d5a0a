// A file that appears under its name complete or not at all. It is written as `<path>.tmp-<pid>-<n>` and renamed when
// everything is on the disk: a crash at any instant leaves the old file or the new one. The destructor removes a file
// that was not committed. A killed process leaves its temporary file, which is never read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "kvass/status.h"

namespace kvass {

class NewFile {
 public:
  static Result<NewFile> create(const std::string& path);
  NewFile(NewFile&& other) noexcept;
  NewFile& operator=(NewFile&&) = delete;
  ~NewFile();

  Status write(size_t offset, std::span<const uint8_t> bytes);
  // Syncs the file, renames it, syncs the folder. If only the last step fails, the new file is in place but may be lost
  // if the machine crashes.
  Status commit();

 private:
  NewFile() = default;
  Status failed(const char* what) const;  // the message has errno's text
  std::string path_;
  std::string temporary_;  // path; empty: none
  int file_ = -1;
};

// Checks, without creating anything, that a file can be written at `path`: the folder exists and is writable, and
// `path` is free or a regular file.
Status check_new_file(const std::string& path);

}  // namespace kvass
