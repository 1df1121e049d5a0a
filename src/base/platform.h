// Everything that the library asks of the operating system, and how it detects a CPU: a port replaces platform.cc,
// which is for Linux on x86-64 and AArch64. A test finds system headers anywhere else in the library.
//
// Thin calls that decide nothing. Where one fails it returns null, -1 or false, and errno has the reason. Not here: the
// terminal and the signals of the command line (src/cli), and the fibers of emulated devices (src/device/emulate.cc).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/cpu.h"

namespace kvass::platform {

// Memory in whole pages.
size_t page_bytes();
void* map_memory(size_t bytes);  // zeroed
void ask_for_huge_pages(void* data, size_t bytes);
void unmap(const void* data, size_t bytes);

// What a path or an open file is; links are followed.
enum class FileKind : uint8_t { none, file, folder, special };  // none: the call failed
struct FileInfo {
  FileKind kind = FileKind::none;
  size_t bytes = 0;
  int64_t modified = 0;  // when its bytes last changed, in nanoseconds
};
FileInfo file_info(const std::string& path);
FileInfo file_info(int file);

// Files that are read.
bool may_read(const std::string& path);
int open_to_read(const std::string& path);                         // does not wait for the writer of a pipe
int64_t read_at(int file, size_t offset, void* to, size_t bytes);  // bytes read, which may be fewer; 0: the end
const void* map_file(int file, size_t bytes);     // read-only; unmap() ends it, closing the file does not
void drop_pages(const void* data, size_t bytes);  // whole pages of a mapped file leave memory; they can be read again
// A thread that reads a mapped page whose bytes the file has no more, or the disk does not give, gets a signal. From
// catch_page_faults to leave_page_faults `handler` is asked first, in that thread and as part of its signal: true means
// that the read can go on. Other faults go to the handler that the process had before. Where the process has set one of
// its own in between, that one stays, and gets the signals.
using PageFault = bool (*)(const void* address);
void catch_page_faults(PageFault handler);
void leave_page_faults();
bool put_zeros(const void* data, size_t bytes);  // whole pages, instead of what is mapped there; for such a handler too
int64_t read_standard_input(void* to, size_t bytes);  // bytes read; 0: the end; EINTR, too, if none came in 0.1 s

// Files that are written.
bool may_create_in(const std::string& folder);
// Adds the names of what is in a folder, in no order, without . and ..; false: the call failed.
bool list_folder(const std::string& folder, std::vector<std::string>& names);
int create_file(const std::string& path);    // an error where there is one of that name
int open_to_write(const std::string& path);  // one that is there, not through a link; nothing of it changes yet
// The file gets the owner, group and mode of the one at `from`, as far as the process may give them away; nobody gets
// more rights than before. Where there is no such file nothing happens.
void copy_owner_and_mode(const std::string& from, int file);
bool may_keep_owner(const std::string& of);  // whether copy_owner_and_mode keeps owner and group; no file: yes
bool is_link(const std::string& path);
std::string real_path(const std::string& path);                             // without links; empty: the call failed
int64_t write_at(int file, size_t offset, const void* from, size_t bytes);  // bytes written, which may be fewer
bool sync_file(int file);                                                   // to the disk
bool sync_folder(const std::string& folder);  // its names; true where it has no need of it
bool close_file(int file);
bool remove_file(const char* path);  // the name, of a link itself; may be called in a signal handler

// Locks between processes, of this host and, where the file system has it, of others. A lock is the open file's: it
// ends with it, however the process ends.
int open_to_lock(const std::string& path, bool create);  // neither a link nor what makes an open wait
enum class Lock : uint8_t { taken, busy, unsupported };  // unsupported: not on this file system
Lock lock_file(int file);
bool is_at(int file, const std::string& path);  // whether it still has this name

// The process.
int64_t process_id();
std::string host_name();
bool random_bytes(void* to, size_t bytes);  // at most 256; that nobody can guess
size_t peak_rss_bytes();                    // the most memory that it has had resident

// The machine, for people: "Debian GNU/Linux 12 (bookworm), Linux 6.1.0 x86_64"; "Intel(R) …", empty: not known.
std::string system_name();
std::string cpu_name();
struct MemoryInfo {
  size_t bytes = 0;        // that the machine has; 0: not known
  size_t available = 0;    // that programs can still have without swapping; 0 where `bytes` is
  size_t limit = 0;        // of this process and its group; 0: none
  std::string huge_pages;  // the system's own words: "always [madvise] never"; empty: not known
};
MemoryInfo memory_info();

// CPUs. base/cpu.h has what they mean.
CpuFeatures cpu_features();
int usable_cpus();
void pin_to_cpu(int index);
size_t last_level_cache_bytes();  // 0: not known

// While it lives, threads that the caller makes get no signals but those of their own faults, so that none interrupts
// them instead of the caller.
class NoSignals {
 public:
  NoSignals();
  ~NoSignals();
  NoSignals(const NoSignals&) = delete;
  NoSignals& operator=(const NoSignals&) = delete;

 private:
  alignas(16) unsigned char before_[128];
};

}  // namespace kvass::platform
