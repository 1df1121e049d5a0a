#include "base/new_file.h"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "base/os_error.h"
#include "base/platform.h"

namespace kvass {
namespace {

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

std::atomic<unsigned> g_temporaries{0};

}  // namespace

Status NewFile::failed(const char* what) const { return os_error(path_, what, errno); }

Result<NewFile> NewFile::create(const std::string& path) {
  NewFile made;
  made.path_ = path;
  std::string temporary =
      path + ".tmp-" + std::to_string(platform::process_id()) + "-" + std::to_string(g_temporaries++);
  // One that a process of the same number has left; never written through, whatever it is now.
  std::remove(temporary.c_str());
  made.file_ = platform::create_file(temporary);
  if (made.file_ < 0) return made.failed("a folder that takes a new file");
  made.temporary_.swap(temporary);               // no copy: one that failed would leave the file
  platform::copy_permissions(path, made.file_);  // its readers stay the same
  return made;
}

NewFile::NewFile(NewFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      file_(std::exchange(other.file_, -1)) {}

NewFile::~NewFile() {
  if (file_ >= 0) platform::close_file(file_);
  if (!temporary_.empty()) std::remove(temporary_.c_str());
}

Status NewFile::write(size_t offset, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const int64_t count = platform::write_at(file_, offset, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count == 0) errno = ENOSPC;
    if (count <= 0) return failed("room for a new file");
    offset += static_cast<size_t>(count);
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
  return {};
}

Status NewFile::commit() {
  if (!platform::sync_file(file_)) return failed("a new file on the disk");
  if (!platform::close_file(std::exchange(file_, -1))) return failed("a new file on the disk");
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) return failed("a name for the new file");
  temporary_.clear();
  if (!platform::sync_folder(folder_of(path_))) return failed("a folder on the disk");
  return {};
}

Status check_new_file(const std::string& path) {
  using platform::FileKind;
  const FileKind old = platform::file_info(path).kind;
  if (old == FileKind::folder || old == FileKind::special) {
    return bad_input(path, "the name of a file", old == FileKind::folder ? "a folder" : "a special file");
  }
  const std::string folder = folder_of(path);
  const FileKind kind = platform::file_info(folder).kind;
  if (kind == FileKind::none) {
    return os_error(path, "a folder that takes a new file", errno);
  }
  if (kind != FileKind::folder) return bad_input(path, "a folder that takes a new file", folder + ", which is none");
  if (!platform::may_create_in(folder)) {
    return os_error(path, "a folder that takes a new file", errno);
  }
  return {};
}

}  // namespace kvass
