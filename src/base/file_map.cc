#include "base/file_map.h"

#include <cerrno>
#include <mutex>
#include <new>
#include <utility>

#include "base/os_error.h"
#include "base/platform.h"

namespace kvass {

// One for each map, in a list that only grows: the handler walks it at any time. A map that ends leaves its entry to a
// later one.
struct FileMap::Watch {
  static constexpr int64_t kNone = -1;
  std::atomic<const uint8_t*> data{nullptr};
  std::atomic<size_t> bytes{0};         // 0: of no map
  std::atomic<int64_t> missing{kNone};  // the offset of the first byte that was read and is not there
  std::atomic<bool> changed{false};     // check() has found another size or time
  Watch* next = nullptr;

  static std::mutex mutex;  // of the list and the handler; the handler itself takes no lock
  static std::atomic<Watch*> first;
  static size_t used;
  static_assert(std::atomic<Watch*>::is_always_lock_free && std::atomic<int64_t>::is_always_lock_free);
};

std::mutex FileMap::Watch::mutex;
std::atomic<FileMap::Watch*> FileMap::Watch::first{nullptr};
size_t FileMap::Watch::used = 0;

bool FileMap::on_fault(const void* address) {
  const auto* at = static_cast<const uint8_t*>(address);
  for (Watch* watch = Watch::first.load(std::memory_order_acquire); watch != nullptr; watch = watch->next) {
    const size_t bytes = watch->bytes.load(std::memory_order_acquire);
    const uint8_t* data = watch->data.load(std::memory_order_acquire);
    if (bytes == 0 || bytes != watch->bytes.load(std::memory_order_acquire)) continue;  // an entry that changes owners
    if (at < data || at >= data + bytes) continue;
    int64_t none = Watch::kNone;
    watch->missing.compare_exchange_strong(none, at - data);
    const auto offset = static_cast<size_t>(at - data);
    const size_t page = offset - offset % platform::page_bytes();
    return platform::put_zeros(data + page, bytes - page);  // to the end: what comes after is mostly missing too
  }
  return false;
}

FileMap::Watch* FileMap::watch(const uint8_t* data, size_t bytes) {
  const std::lock_guard lock(Watch::mutex);
  Watch* entry = Watch::first.load(std::memory_order_relaxed);
  while (entry != nullptr && entry->bytes.load(std::memory_order_relaxed) != 0) entry = entry->next;
  if (entry == nullptr) {
    entry = new (std::nothrow) Watch;
    if (entry == nullptr) return nullptr;
    entry->next = Watch::first.load(std::memory_order_relaxed);
    Watch::first.store(entry, std::memory_order_release);
  }
  entry->missing.store(Watch::kNone);
  entry->changed.store(false);
  entry->data.store(data, std::memory_order_release);
  entry->bytes.store(bytes, std::memory_order_release);
  if (Watch::used++ == 0) platform::catch_page_faults(&FileMap::on_fault);
  return entry;
}

void FileMap::unwatch(Watch* watch) {
  const std::lock_guard lock(Watch::mutex);
  watch->bytes.store(0, std::memory_order_release);
  if (--Watch::used == 0) platform::leave_page_faults();
}

Result<FileMap> FileMap::open(const std::string& path) {
  FileMap map;
  map.path_ = path;
  map.file_ = platform::open_to_read(path);
  if (map.file_ < 0) return os_error(path, "a readable file", errno);
  const platform::FileInfo info = platform::file_info(map.file_);
  if (info.kind == platform::FileKind::none) return os_error(path, "a readable file", errno);
  if (info.kind != platform::FileKind::file) {
    return bad_input(path, "a regular file", info.kind == platform::FileKind::folder ? "a folder" : "a special file");
  }
  if (info.bytes == 0) return bad_input(path, "a file with content", "an empty file");
  const void* data = platform::map_file(map.file_, info.bytes);
  if (data == nullptr) return os_error(path, "a file that can be mapped", errno);
  map.data_ = static_cast<const uint8_t*>(data);
  map.size_ = info.bytes;
  map.modified_ = info.modified;
  map.watch_ = watch(map.data_, map.size_);
  if (map.watch_ == nullptr) return os_error(path, "a file that can be mapped", ENOMEM);
  return map;
}

FileMap::FileMap(FileMap&& other) noexcept { *this = std::move(other); }

FileMap& FileMap::operator=(FileMap&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(file_, other.file_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(modified_, other.modified_);
  std::swap(watch_, other.watch_);
  return *this;
}

FileMap::~FileMap() {
  if (watch_ != nullptr) unwatch(watch_);
  if (data_ != nullptr) platform::unmap(data_, size_);
  if (file_ >= 0) platform::close_file(file_);
}

void FileMap::release(size_t offset, size_t length) const {
  const size_t page = platform::page_bytes();
  const size_t begin = (offset + page - 1) / page * page;
  const size_t end = (offset + length) / page * page;
  if (end > begin) platform::drop_pages(data_ + begin, end - begin);
}

Status FileMap::check() const {
  const int64_t missing = watch_->missing.load();
  const platform::FileInfo now = platform::file_info(file_);
  const bool same = now.bytes == size_ && now.modified == modified_;
  if (missing == Watch::kNone && same && !watch_->changed.load()) return {};
  watch_->changed.store(true);
  const auto failed = [this](std::string_view expected, std::string_view got) {
    return Status::error(StatusCode::io, expected_message(path_, expected, got));
  };
  if (now.bytes < size_) {
    return failed("all of its " + std::to_string(size_) + " bytes while they are in use",
                  "a file that was cut off at offset " + std::to_string(now.bytes));
  }
  if (missing != Watch::kNone) {
    return failed("bytes at offset " + std::to_string(missing), "none that can be read");
  }
  return failed("a file that nobody changes while it is in use", "one that was written to");
}

}  // namespace kvass
