#include "base/platform.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <new>
#include <string_view>
#include <vector>

namespace kvass::platform {
namespace {

FileInfo info_of(const struct stat& about) {
  const FileKind kind = S_ISREG(about.st_mode)   ? FileKind::file
                        : S_ISDIR(about.st_mode) ? FileKind::folder
                                                 : FileKind::special;
  const int64_t modified = int64_t{about.st_mtim.tv_sec} * 1'000'000'000 + about.st_mtim.tv_nsec;
  return {kind, static_cast<size_t>(about.st_size), modified};
}

void* mapping(void* data) { return data == MAP_FAILED ? nullptr : data; }

// What follows `key` and `separator` in the first line of a text file that begins with `key`; empty: none.
std::string value_in(const char* path, std::string_view key, char separator) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const size_t at = line.find(separator, key.size());
    const size_t begin = at == std::string::npos ? at : line.find_first_not_of(" \t\"", at + 1);
    if (begin == std::string::npos) return {};
    return line.substr(begin, line.find_last_not_of(" \t\"") + 1 - begin);
  }
  return {};
}

// A number at the beginning of a file; 0: none ("max").
size_t number_in(const char* path) {
  size_t number = 0;
  std::ifstream file(path);
  return file >> number ? number : 0;
}

// Page faults. Both are set before the signal handler is.
std::atomic<PageFault> g_page_fault{nullptr};
struct sigaction g_before_page_faults;  // the handler that the process had
bool g_page_faults_taken = false;       // the process has set another handler after ours, which may call ours

// As the system would treat a signal that we do not want.
void pass_on(int number, siginfo_t* info, void* context) {
  const struct sigaction& before = g_before_page_faults;
  const bool from_kernel = info->si_code > 0;
  if (before.sa_handler == SIG_IGN && !from_kernel) return;
  if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
    if ((before.sa_flags & SA_SIGINFO) != 0) return before.sa_sigaction(number, info, context);
    return before.sa_handler(number);
  }
  ::signal(number, SIG_DFL);  // a fault comes again when this returns
  if (!from_kernel) ::raise(number);
}

void on_page_fault(int number, siginfo_t* info, void* context) {
  const int error = errno;
  const PageFault handler = g_page_fault.load(std::memory_order_acquire);
  const bool handled = info->si_code > 0 && handler != nullptr && handler(info->si_addr);
  errno = error;
  if (!handled) pass_on(number, info, context);
}

bool is_ours(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == on_page_fault;
}

}  // namespace

size_t page_bytes() { return static_cast<size_t>(::sysconf(_SC_PAGESIZE)); }

void* map_memory(size_t bytes) {
  return mapping(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

void ask_for_huge_pages(void* data, size_t bytes) { ::madvise(data, bytes, MADV_HUGEPAGE); }

void unmap(const void* data, size_t bytes) { ::munmap(const_cast<void*>(data), bytes); }

FileInfo file_info(const std::string& path) {
  struct stat about {};
  return ::stat(path.c_str(), &about) == 0 ? info_of(about) : FileInfo();
}

FileInfo file_info(int file) {
  struct stat about {};
  return ::fstat(file, &about) == 0 ? info_of(about) : FileInfo();
}

bool may_read(const std::string& path) { return ::access(path.c_str(), R_OK) == 0; }

int open_to_read(const std::string& path) { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); }

int64_t read_at(int file, size_t offset, void* to, size_t bytes) {
  return ::pread(file, to, bytes, static_cast<off_t>(offset));
}

const void* map_file(int file, size_t bytes) {
  return mapping(::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file, 0));
}

void drop_pages(const void* data, size_t bytes) { ::madvise(const_cast<void*>(data), bytes, MADV_DONTNEED); }

void catch_page_faults(PageFault handler) {
  g_page_fault.store(handler, std::memory_order_release);
  struct sigaction now {};
  // A handler that came after ours may have ours to go on with: each would call the other.
  if (::sigaction(SIGBUS, nullptr, &now) != 0 || is_ours(now) || g_page_faults_taken) return;
  g_before_page_faults = now;
  struct sigaction action {};
  action.sa_sigaction = on_page_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigaction(SIGBUS, &action, nullptr);
}

void leave_page_faults() {
  struct sigaction now {};
  if (::sigaction(SIGBUS, nullptr, &now) != 0) return;
  if (is_ours(now)) {
    ::sigaction(SIGBUS, &g_before_page_faults, nullptr);
  } else {
    g_page_faults_taken = true;
  }
}

bool put_zeros(const void* data, size_t bytes) {
  return ::mmap(const_cast<void*>(data), bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
         MAP_FAILED;
}

int64_t read_standard_input(void* to, size_t bytes) {
  // Not read() alone: a signal just before it would set its flag, and read() would then wait all the same.
  constexpr int kMilliseconds = 100;
  pollfd input{STDIN_FILENO, POLLIN, 0};
  const int ready = ::poll(&input, 1, kMilliseconds);
  if (ready == 0) errno = EINTR;
  if (ready == 0 || (ready < 0 && errno == EINTR)) return -1;
  const ssize_t count = ::read(STDIN_FILENO, to, bytes);
  if (count < 0 && errno == EAGAIN) errno = EINTR;  // somebody else has read what was there
  return count;
}

bool list_folder(const std::string& folder, std::vector<std::string>& names) {
  struct Close {
    void operator()(DIR* open) const { ::closedir(open); }
  };
  const std::unique_ptr<DIR, Close> open(::opendir(folder.c_str()));
  if (!open) return false;
  for (;;) {
    errno = 0;
    const dirent* const entry = ::readdir(open.get());
    if (entry == nullptr) return errno == 0;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
}

bool may_create_in(const std::string& folder) { return ::access(folder.c_str(), W_OK | X_OK) == 0; }

int open_to_write(const std::string& path) { return ::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW); }
int create_file(const std::string& path) { return ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); }

void copy_owner_and_mode(const std::string& from, int file) {
  struct stat about {};
  if (::stat(from.c_str(), &about) != 0) return;
  // The owner first: giving a file away clears bits of its mode.
  const bool owner = ::fchown(file, about.st_uid, static_cast<gid_t>(-1)) == 0;
  const bool group = ::fchown(file, static_cast<uid_t>(-1), about.st_gid) == 0;
  mode_t mode = about.st_mode & 07777;
  if (!owner || !group) mode &= 0777;  // not with the rights of somebody else
  if (!group) mode &= ~static_cast<mode_t>(070) | (mode & 07) << 3;
  (void)::fchmod(file, mode);
}

bool may_keep_owner(const std::string& of) {
  struct stat about {};
  if (::stat(of.c_str(), &about) != 0 || ::geteuid() == 0) return true;
  if (about.st_uid != ::geteuid()) return false;
  if (about.st_gid == ::getegid()) return true;
  std::vector<gid_t> groups(static_cast<size_t>(std::max(::getgroups(0, nullptr), 0)));
  const int count = ::getgroups(static_cast<int>(groups.size()), groups.data());
  return count > 0 && std::find(groups.begin(), groups.begin() + count, about.st_gid) != groups.begin() + count;
}

bool is_link(const std::string& path) {
  struct stat about {};
  return ::lstat(path.c_str(), &about) == 0 && S_ISLNK(about.st_mode);
}

std::string real_path(const std::string& path) {
  char* const found = ::realpath(path.c_str(), nullptr);
  if (found == nullptr) return {};
  std::string real = found;
  std::free(found);
  return real;
}

int64_t write_at(int file, size_t offset, const void* from, size_t bytes) {
  return ::pwrite(file, from, bytes, static_cast<off_t>(offset));
}

bool sync_file(int file) {
  int result = 0;
  do result = ::fsync(file);
  while (result != 0 && errno == EINTR);
  return result == 0;
}

bool sync_folder(const std::string& folder) {
  const int file = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file < 0) return false;
  const bool done = sync_file(file) || errno == EINVAL;  // EINVAL: a file system that cannot sync folders
  const int error = errno;
  ::close(file);
  errno = error;
  return done;
}

// Linux has closed the file when a signal interrupts the call.
bool close_file(int file) { return ::close(file) == 0 || errno == EINTR; }

bool remove_file(const char* path) { return ::unlink(path) == 0; }

int open_to_lock(const std::string& path, bool create) {
  constexpr int kFlags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  const int file = ::open(path.c_str(), O_RDWR | kFlags | (create ? O_CREAT : 0), 0666);
  // Of another user it can still be locked, though not written.
  return file < 0 && errno == EACCES ? ::open(path.c_str(), O_RDONLY | kFlags) : file;
}

Lock lock_file(int file) {
  int result = 0;
  do result = ::flock(file, LOCK_EX | LOCK_NB);
  while (result != 0 && errno == EINTR);
  return result == 0 ? Lock::taken : errno == EWOULDBLOCK ? Lock::busy : Lock::unsupported;
}

bool is_at(int file, const std::string& path) {
  struct stat open {
  }, named{};
  return ::fstat(file, &open) == 0 && ::lstat(path.c_str(), &named) == 0 && open.st_dev == named.st_dev &&
         open.st_ino == named.st_ino;
}

int64_t process_id() { return ::getpid(); }

std::string host_name() {
  char name[HOST_NAME_MAX + 1] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "this host";
}

bool random_bytes(void* to, size_t bytes) { return ::getrandom(to, bytes, 0) == static_cast<ssize_t>(bytes); }

size_t peak_rss_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<size_t>(usage.ru_maxrss) * 1024;
}

std::string system_name() {
  utsname kernel{};
  const bool known = ::uname(&kernel) == 0;
  const std::string name = value_in("/etc/os-release", "PRETTY_NAME", '=');
  const std::string what = known ? std::string(kernel.sysname) + " " + kernel.release + " " + kernel.machine : "";
  return name.empty() ? what : name + ", " + what;
}

std::string cpu_name() { return value_in("/proc/cpuinfo", "model name", ':'); }

MemoryInfo memory_info() {
  const auto kilobytes = [](const char* key) {
    return static_cast<size_t>(std::strtoull(value_in("/proc/meminfo", key, ':').c_str(), nullptr, 10)) * 1024;
  };
  MemoryInfo memory;
  memory.bytes = kilobytes("MemTotal");
  memory.available = kilobytes("MemAvailable");
  const auto at_most = [&](size_t limit) {
    constexpr size_t kNoLimit = size_t{1} << 60;  // what groups without one say is about 2^63
    if (limit == 0 || limit >= (memory.bytes == 0 ? kNoLimit : memory.bytes)) return;
    memory.limit = memory.limit == 0 ? limit : std::min(memory.limit, limit);
  };
  at_most(number_in("/sys/fs/cgroup/memory.max"));
  at_most(number_in("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
  rlimit addresses{};
  if (::getrlimit(RLIMIT_AS, &addresses) == 0 && addresses.rlim_cur != RLIM_INFINITY) at_most(addresses.rlim_cur);
  std::ifstream pages("/sys/kernel/mm/transparent_hugepage/enabled");
  std::getline(pages, memory.huge_pages);
  return memory;
}

CpuFeatures cpu_features() {
  CpuFeatures features;
#if defined(__x86_64__)
  __builtin_cpu_init();  // the compiler's runtime library checks CPUID and XGETBV
  uint32_t a = 0, b = 0, c = 0, d = 0;
  const bool f16c = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;  // Clang's library does not report it
  features.avx2 = f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  features.avx512vnni = features.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512vnni");
#elif defined(__aarch64__)
  features = aarch64_features(getauxval(AT_HWCAP), getauxval(AT_HWCAP2));
#endif
  return features;
}

int usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  const int count = CPU_COUNT(&set);
  return count > 0 ? count : 1;
}

void pin_to_cpu(int index) {
  cpu_set_t usable;
  if (sched_getaffinity(0, sizeof usable, &usable) != 0) return;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &usable) || index-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
    return;
  }
}

size_t last_level_cache_bytes() { return static_cast<size_t>(std::max(::sysconf(_SC_LEVEL3_CACHE_SIZE), 0L)); }

NoSignals::NoSignals() {
  static_assert(sizeof(sigset_t) <= sizeof before_);
  sigset_t all;
  sigfillset(&all);
  for (const int fault : {SIGBUS, SIGSEGV, SIGILL, SIGFPE}) sigdelset(&all, fault);  // blocked, they end the process
  pthread_sigmask(SIG_SETMASK, &all, new (before_) sigset_t);
}

NoSignals::~NoSignals() {
  pthread_sigmask(SIG_SETMASK, std::launder(reinterpret_cast<const sigset_t*>(before_)), nullptr);
}

}  // namespace kvass::platform
