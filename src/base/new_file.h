// Files that appear under their name complete or not at all, and the lock that keeps two writers of one name apart.
//
// A new file is written as `<path>.tmp-<32 random digits>`, which nobody else has, and renamed when everything is on
// the disk: a crash at any instant leaves the old file or the new one. What was not committed is removed. A killed
// process leaves its temporary, which is never read; the next writer of that path removes it, once the lock of the
// temporary says that its writer is gone.
//
// Where `path` is a link, the file that it leads to is replaced, not the link. Owner, group and mode stay those of the
// old file as far as the process may give them; attributes and access lists beyond them do not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvass/status.h"

namespace kvass {

// The name of a file that is to be gone unless somebody keeps it: removed by the destructor, or by
// remove_unfinished_files() where a signal ends the process.
class UnfinishedFile {
 public:
  UnfinishedFile() = default;
  explicit UnfinishedFile(const std::string& path);  // nothing is removed before arm()
  UnfinishedFile(UnfinishedFile&& other) noexcept = default;
  UnfinishedFile& operator=(UnfinishedFile&& other) noexcept;
  ~UnfinishedFile() { remove(); }

  void arm();  // the file is there, and ours
  void keep();
  void remove();
  const std::string& path() const { return *path_; }

 private:
  std::unique_ptr<const std::string> path_;  // at one address for the signal handler; null: none
  int slot_ = -1;                            // in the table of names; -1: none
  bool armed_ = false;
};

// Removes every file that is armed. For signal handlers, before they end the process.
void remove_unfinished_files();

// Whoever has it is the only writer of a path, in any process: `<path>.lock` holds a lock of the operating system,
// which ends with the process, and names the holder. A second one is refused with StatusCode::busy. A long job takes it
// before it begins.
class FileLock {
 public:
  // Also removes the temporaries that dead writers of the path have left.
  static Result<FileLock> acquire(const std::string& path);
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

  const std::string& path() const { return path_; }      // as it was asked for
  const std::string& target() const { return target_; }  // what it leads to
  // What cannot be promised here; empty: nothing.
  const std::string& warning() const { return warning_; }

 private:
  FileLock() = default;
  Status open();
  std::string path_, target_, warning_;
  UnfinishedFile name_;
  int file_ = -1;
};

class NewFile {
 public:
  // `held`: the lock of this path, which the caller has; null: it is taken until the file is done.
  static Result<NewFile> create(const std::string& path, const FileLock* held = nullptr);
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
  std::optional<FileLock> own_;
  std::string path_, target_;
  UnfinishedFile temporary_;
  int file_ = -1;
};

// A new file with this text, or the one that was there.
Status write_new_file(const std::string& path, std::string_view text, const FileLock* held = nullptr);

// Checks, without creating anything, that a file can be written at `path`: the folder exists and is writable, and
// `path` is free, a regular file, or a link to one.
Status check_new_file(const std::string& path);

// Checks the same, and that what is there is empty or begins with `magic`: what another program made is not replaced.
// `kind` names such files.
Status check_replaceable(const std::string& path, std::string_view magic, std::string_view kind);

// Whether the file at `path` begins with these bytes.
bool begins_with(const std::string& path, std::string_view magic);

// The temporaries of `path`: those of dead writers are removed, the others stay.
struct Temporaries {
  std::vector<std::string> removed, kept;
};
Result<Temporaries> remove_temporaries(const std::string& path);

// The folder that a path's file is in; ".": that of the process.
std::string folder_of(const std::string& path);

// 32 random hexadecimal digits, which no other process on any machine has.
Result<std::string> random_name();

}  // namespace kvass
