#include "base/new_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <utility>

#include "base/os_error.h"

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
  const std::string temporary = path + ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(g_temporaries++);
  // Remove a temporary that an earlier process with the same id left. If it is a link, it must not be written through.
  ::unlink(temporary.c_str());
  made.file_ = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (made.file_ < 0) return made.failed("a folder that takes a new file");
  made.temporary_ = temporary;
  struct stat old {};
  if (::stat(path.c_str(), &old) == 0)
    (void)::fchmod(made.file_, old.st_mode & 07777);  // keep the old file's permissions
  return made;
}

NewFile::NewFile(NewFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      file_(std::exchange(other.file_, -1)) {}

NewFile::~NewFile() {
  if (file_ >= 0) ::close(file_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Status NewFile::write(size_t offset, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(file_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count == 0) errno = ENOSPC;
    if (count <= 0) return failed("room for a new file");
    offset += static_cast<size_t>(count);
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
  return {};
}

Status NewFile::commit() {
  if (::fsync(file_) != 0) return failed("a new file on the disk");
  const int closed = ::close(std::exchange(file_, -1));
  if (closed != 0 && errno != EINTR) return failed("a new file on the disk");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return failed("a name for the new file");
  temporary_.clear();
  const int folder = ::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return failed("a folder on the disk");
  Status status;
  // EINVAL: this file system cannot sync folders.
  if (::fsync(folder) != 0 && errno != EINVAL) status = failed("a folder on the disk");
  ::close(folder);
  return status;
}

Status check_new_file(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    return bad_input(path, "the name of a file", S_ISDIR(info.st_mode) ? "a folder" : "a special file");
  }
  const std::string folder = folder_of(path);
  if (::stat(folder.c_str(), &info) != 0) {
    return os_error(path, "a folder that takes a new file", errno);
  }
  if (!S_ISDIR(info.st_mode)) return bad_input(path, "a folder that takes a new file", folder + ", which is none");
  if (::access(folder.c_str(), W_OK | X_OK) != 0) {
    return os_error(path, "a folder that takes a new file", errno);
  }
  return {};
}

}  // namespace kvass
