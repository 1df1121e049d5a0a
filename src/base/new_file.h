// A file that appears under its name whole or not at all. It is written beside its place, as `<path>.tmp-<pid>-<n>`,
// and takes the name when everything is on the disk: a crash at any instant leaves the old file or the new one. What is
// not committed is removed with the object; a process that is killed leaves its temporary behind, which nobody reads.
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
  // Syncs the file, gives it the name, syncs the folder. After an error in the last of these the new file is there, but
  // may not outlast a crash of the machine.
  Status commit();

 private:
  NewFile() = default;
  Status failed(const char* what) const;  // with errno
  std::string path_;
  std::string temporary_;  // empty: there is none
  int file_ = -1;
};

// Whether a file can be made at `path` as far as can be said without doing so: its folder is there and takes files, and
// what is there under the name is a file.
Status check_new_file(const std::string& path);

}  // namespace kvass
