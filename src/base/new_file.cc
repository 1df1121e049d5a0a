#include "base/new_file.h"

#include <array>
#include <atomic>
#include <cassert>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/os_error.h"
#include "base/platform.h"

namespace kvass {
namespace {

constexpr size_t kRandomBytes = 16;
constexpr char kTemporaryMark[] = ".tmp-";
constexpr size_t kMostNameBytes = 255 - sizeof kTemporaryMark + 1 - 2 * kRandomBytes;  // of what file systems allow
constexpr char kLockMark[] = ".lock";
constexpr std::string_view kHolderBegin = "process ";  // of what a lock says
constexpr int kTries = 100;                            // of a name that somebody takes away at the same moment

// Names that a signal handler removes: pointers to the texts of armed files.
constexpr size_t kSlots = 64;
std::array<std::atomic<const char*>, kSlots> g_unfinished{};
static_assert(std::atomic<const char*>::is_always_lock_free, "a signal handler reads them");

// What `path` leads to, for a link; otherwise itself.
Result<std::string> target_of(const std::string& path) {
  if (!platform::is_link(path)) return path;
  const std::string real = platform::real_path(path);
  if (real.empty()) return os_error(path, "a file, or a link to one", errno);
  return real;
}

bool is_temporary_of(const std::string& name, const std::string& file) {
  const std::string begin = file + kTemporaryMark;
  return name.size() == begin.size() + 2 * kRandomBytes && name.starts_with(begin) &&
         name.find_first_not_of("0123456789abcdef", begin.size()) == std::string::npos;
}

// Whether a temporary had no writer any more, and is gone: a writer holds its lock for as long as it lives.
Result<bool> remove_if_dead(const std::string& path) {
  const int file = platform::open_to_lock(path, /*create=*/false);
  if (file < 0) return os_error(path, "a temporary that can be opened", errno);
  const bool dead = platform::lock_file(file) == platform::Lock::taken && platform::is_at(file, path);
  const bool removed = dead && platform::remove_file(path.c_str());
  platform::close_file(file);
  return removed;
}

// Whether a file begins with these bytes; an error where it cannot be read.
Result<bool> has_magic(const std::string& path, std::string_view magic) {
  std::string bytes(magic.size(), '\0');
  const int file = platform::open_to_read(path);
  if (file < 0) return os_error(path, "a file that can be read", errno);
  const bool is_file = platform::file_info(file).kind == platform::FileKind::file;
  const int64_t count = is_file ? platform::read_at(file, 0, bytes.data(), bytes.size()) : 0;
  const int error = errno;
  platform::close_file(file);
  if (count < 0) return os_error(path, "a file that can be read", error);
  return count == static_cast<int64_t>(bytes.size()) && bytes == magic;
}

// What a lock's file says: who holds it, or held it last. Empty: nothing yet.
std::string holder_of(int file) {
  char text[200];
  const int64_t count = platform::read_at(file, 0, text, sizeof text);
  const std::string holder(text, static_cast<size_t>(std::max<int64_t>(count, 0)));
  return holder.substr(0, holder.find('\n'));
}

}  // namespace

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

UnfinishedFile::UnfinishedFile(const std::string& path) : path_(std::make_unique<const std::string>(path)) {}

UnfinishedFile& UnfinishedFile::operator=(UnfinishedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(slot_, other.slot_);
  std::swap(armed_, other.armed_);
  return *this;
}

void UnfinishedFile::arm() {
  assert(path_ != nullptr);
  armed_ = true;
  for (size_t i = 0; i < kSlots; ++i) {
    const char* none = nullptr;
    if (!g_unfinished[i].compare_exchange_strong(none, path_->c_str())) continue;
    slot_ = static_cast<int>(i);
    return;
  }  // more than there is room for: the destructor knows them all
}

void UnfinishedFile::keep() {
  if (path_ == nullptr) return;
  armed_ = false;
  if (slot_ >= 0) g_unfinished[static_cast<size_t>(std::exchange(slot_, -1))].store(nullptr);
}

void UnfinishedFile::remove() {
  if (path_ == nullptr || !armed_) return;
  keep();  // first: once it is removed the name may be somebody else's
  (void)platform::remove_file(path_->c_str());
}

void remove_unfinished_files() {
  for (const auto& slot : g_unfinished) {
    if (const char* path = slot.load()) (void)platform::remove_file(path);
  }
}

Status FileLock::open() {
  for (int i = 0; i < kTries; ++i) {
    file_ = platform::open_to_lock(name_.path(), /*create=*/true);
    if (file_ < 0) return os_error(path_, "a folder that takes a new file", errno);
    const platform::Lock lock = platform::lock_file(file_);
    if (lock == platform::Lock::busy) {
      const std::string holder = holder_of(file_);
      return Status::error(
          StatusCode::busy,
          expected_message(path_, "one writer at a time",
                           "a second one while " + (holder.empty() ? "another process" : holder) + " writes it"));
    }
    if (const std::string holder = holder_of(file_); !holder.empty() && !holder.starts_with(kHolderBegin)) {
      return bad_input(name_.path(), "no file, or a lock that a writer of " + path_ + " left",
                       "another file, which stays as it is");
    }
    if (lock == platform::Lock::unsupported) {
      warning_ = path_ + ": no locks on this file system: nothing keeps a second writer away";
      return {};
    }
    // Its last holder may have removed the name between the two calls.
    if (platform::is_at(file_, name_.path())) return {};
    platform::close_file(std::exchange(file_, -1));
  }
  return Status::error(StatusCode::busy, expected_message(path_, "one writer at a time", "many"));
}

Result<FileLock> FileLock::acquire(const std::string& path) {
  FileLock lock;
  lock.path_ = path;
  KVASS_ASSIGN_OR_RETURN(lock.target_, target_of(path));
  lock.name_ = UnfinishedFile(lock.target_ + kLockMark);
  KVASS_RETURN_IF_ERROR(lock.open());
  lock.name_.arm();
  const std::string holder =
      std::string(kHolderBegin) + std::to_string(platform::process_id()) + " on " + platform::host_name() + "\n";
  (void)platform::write_at(lock.file_, 0, holder.data(), holder.size());  // for people; the lock holds without it
  if (lock.warning_.empty()) (void)remove_temporaries(lock.target_);
  if (lock.warning_.empty() && !platform::may_keep_owner(lock.target_)) {
    lock.warning_ = path + ": its owner or group changes, since this process may not keep them";
  }
  return lock;
}

FileLock::FileLock(FileLock&& other) noexcept
    : path_(std::move(other.path_)),
      target_(std::move(other.target_)),
      warning_(std::move(other.warning_)),
      name_(std::move(other.name_)),
      file_(std::exchange(other.file_, -1)) {}

FileLock::~FileLock() {
  name_.remove();  // while the lock is held
  if (file_ >= 0) platform::close_file(file_);
}

Status NewFile::failed(const char* what) const { return os_error(path_, what, errno); }

Result<NewFile> NewFile::create(const std::string& path, const FileLock* held) {
  NewFile made;
  if (held == nullptr) {
    KVASS_ASSIGN_OR_RETURN(FileLock lock, FileLock::acquire(path));
    made.own_.emplace(std::move(lock));
    held = &*made.own_;
  }
  made.path_ = path;
  made.target_ = held->target();
  for (int i = 0; i < kTries; ++i) {
    KVASS_ASSIGN_OR_RETURN(const std::string name, random_name());
    made.temporary_ = UnfinishedFile(made.target_ + kTemporaryMark + name);
    made.file_ = platform::create_file(made.temporary_.path());
    if (made.file_ < 0 && errno == EEXIST) continue;
    if (made.file_ < 0) return made.failed("a folder that takes a new file");
    made.temporary_.arm();
    // Until the lock is there, the file looks like one of a dead writer.
    if (platform::lock_file(made.file_) != platform::Lock::busy &&
        platform::is_at(made.file_, made.temporary_.path())) {
      platform::copy_owner_and_mode(made.target_, made.file_);  // its readers stay the same
      return made;
    }
    made.temporary_.keep();
    platform::close_file(std::exchange(made.file_, -1));
  }
  errno = EEXIST;
  return made.failed("a folder that takes a new file");
}

NewFile::NewFile(NewFile&& other) noexcept
    : own_(std::move(other.own_)),
      path_(std::move(other.path_)),
      target_(std::move(other.target_)),
      temporary_(std::move(other.temporary_)),
      file_(std::exchange(other.file_, -1)) {}

NewFile::~NewFile() {
  temporary_.remove();
  if (file_ >= 0) platform::close_file(file_);
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
  if (std::rename(temporary_.path().c_str(), target_.c_str()) != 0) return failed("a name for the new file");
  temporary_.keep();
  if (!platform::close_file(std::exchange(file_, -1))) return failed("a new file on the disk");
  if (!platform::sync_folder(folder_of(target_))) return failed("a folder on the disk");
  return {};
}

Status write_new_file(const std::string& path, std::string_view text, const FileLock* held) {
  KVASS_RETURN_IF_ERROR(check_new_file(path));
  KVASS_ASSIGN_OR_RETURN(NewFile file, NewFile::create(path, held));
  KVASS_RETURN_IF_ERROR(file.write(0, {reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
  return file.commit();
}

Status check_new_file(const std::string& path) {
  using platform::FileKind;
  if (path.empty()) return os_error(path, "the name of a file", ENOENT);
  KVASS_ASSIGN_OR_RETURN(const std::string target, target_of(path));
  const FileKind old = platform::file_info(target).kind;
  if (old == FileKind::folder || old == FileKind::special) {
    return bad_input(path, "the name of a file", old == FileKind::folder ? "a folder" : "a special file");
  }
  if (const size_t bytes = target.size() - (target.rfind('/') + 1); bytes > kMostNameBytes) {
    return bad_input(
        path, "a name of at most " + std::to_string(kMostNameBytes) + " bytes, as its temporary has a longer one",
        std::to_string(bytes) + " bytes");
  }
  const std::string folder = folder_of(target);
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

Status check_replaceable(const std::string& path, std::string_view magic, std::string_view kind) {
  KVASS_RETURN_IF_ERROR(check_new_file(path));
  const platform::FileInfo old = platform::file_info(path);
  if (old.kind == platform::FileKind::none || old.bytes == 0) return {};
  KVASS_ASSIGN_OR_RETURN(const bool replaceable, has_magic(path, magic));
  if (replaceable) return {};
  return bad_input(path, "no file, or " + std::string(kind) + " to replace", "another file, which stays as it is");
}

bool begins_with(const std::string& path, std::string_view magic) {
  const Result<bool> found = has_magic(path, magic);
  return found.ok() && found.value();
}

Result<Temporaries> remove_temporaries(const std::string& path) {
  Temporaries found;
  KVASS_ASSIGN_OR_RETURN(const std::string target, target_of(path));
  const std::string folder = folder_of(target);
  const std::string file = target.substr(target.rfind('/') + 1);
  std::vector<std::string> names;  // std::filesystem::directory_iterator ends the process where memory runs out
  if (!platform::list_folder(folder, names)) return os_error(folder, "a folder that can be read", errno);
  for (const std::string& name : names) {
    if (!is_temporary_of(name, file)) continue;
    const std::string temporary = folder + "/" + name;
    const Result<bool> removed = remove_if_dead(temporary);
    if (!removed.ok() && platform::file_info(temporary).kind == platform::FileKind::none) continue;  // gone meanwhile
    KVASS_RETURN_IF_ERROR(removed.status());
    (removed.value() ? found.removed : found.kept).push_back(temporary);
  }
  return found;
}

Result<std::string> random_name() {
  std::array<uint8_t, kRandomBytes> bytes;
  if (!platform::random_bytes(bytes.data(), bytes.size())) return os_error("random numbers", "some", errno);
  std::string name;
  for (const uint8_t byte : bytes) {
    for (const int digit : {byte >> 4, byte & 15}) name += "0123456789abcdef"[digit];
  }
  return name;
}

}  // namespace kvass
