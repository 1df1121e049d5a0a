// A library for LD_PRELOAD that makes the n-th call of a kind fail, once or from then on: faults.h has how it is told.
// The failing call does nothing and sets errno. stderr is left alone: it is where a failure is reported.
//
// It stands before the C library, and before the allocator of a sanitizer (KVASS_FAULTS_NEW: that one has operators new
// of its own). The calls of the C library to itself are not seen: so streams of stdio have functions here too.
#include "faults.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

using namespace kvass::faults;

namespace {

FaultState g_unused{};
FaultState* g_state = &g_unused;
int g_kind = -1;
uint64_t g_call = 0;
bool g_ever = false;

// Runs after the libraries of the program have begun and before its own first constructor: from there on calls count.
__attribute__((constructor)) void begin() {
  const char* text = ::getenv("KVASS_FAULT");
  char kind[16] = "", mode[8] = "", path[4096] = "";
  unsigned long long call = 0;
  if (text == nullptr || std::sscanf(text, "%15[^,],%llu,%7[^,],%4095s", kind, &call, mode, path) != 4) return;
  const long file = ::syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
  if (file < 0) return;
  void* data = reinterpret_cast<void*>(
      ::syscall(SYS_mmap, nullptr, sizeof(FaultState), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
  ::syscall(SYS_close, file);
  if (data == MAP_FAILED) return;
  g_call = call;
  g_ever = std::strcmp(mode, "ever") == 0;
  for (int i = 0; i < kKinds; ++i) {
    if (std::strcmp(kind, kKindNames[i]) == 0) g_kind = i;
  }
  g_state = static_cast<FaultState*>(data);
}

bool fails(Kind kind, int error) {
  if (g_state == &g_unused) return false;
  const int index = static_cast<int>(kind);
  const uint64_t call = std::atomic_ref(g_state->calls[index]).fetch_add(1) + 1;
  if (index != g_kind || !(g_ever ? call >= g_call : call == g_call)) return false;
  std::atomic_ref(g_state->failed).fetch_add(1);
  errno = error;
  return true;
}

void note_opening() {
  if (g_state->before_opening == 0) g_state->before_opening = g_state->calls[static_cast<int>(Kind::memory)];
}

template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

int mode_of(int flags, va_list& arguments) {
  return (flags & (O_CREAT | __O_TMPFILE)) != 0 ? va_arg(arguments, int) : 0;
}

int open_at(int folder, const char* path, int flags, int mode) {
  note_opening();
  if (fails(Kind::open, EMFILE)) return -1;
  return static_cast<int>(::syscall(SYS_openat, folder, path, flags, mode));
}

bool refuses(std::FILE* stream, Kind kind, int error) {
  if (stream == stderr || !fails(kind, error)) return false;
  stream->_flags |= 0x20;  // what ferror() sees
  return true;
}

// Instead of the pages of a file that has none: who reads them gets SIGBUS, as from a disk that fails.
void take_pages(char* data, size_t bytes) {
  constexpr size_t kPage = 4096;
  const size_t from = g_ever ? 0 : bytes / 2 / kPage * kPage;
  const long file = ::syscall(SYS_memfd_create, "", 0);
  ::syscall(SYS_mmap, data + from, bytes - from, PROT_READ, MAP_PRIVATE | MAP_FIXED, file, 0);
  ::syscall(SYS_close, file);
}

void* map(void* data, size_t bytes, int protection, int flags, int file, off_t offset) {
  if (fails(Kind::map, ENOMEM)) return MAP_FAILED;
  void* made = reinterpret_cast<void*>(::syscall(SYS_mmap, data, bytes, protection, flags, file, offset));
  if (made != MAP_FAILED && file >= 0 && fails(Kind::page, 0)) take_pages(static_cast<char*>(made), bytes);
  return made;
}

}  // namespace

#if defined(KVASS_FAULTS_NEW)

// dlsym may allocate before the sanitizer is ready: the functions are looked up at their first use. calloc and realloc
// are left alone: a sanitizer's own start of a thread takes them, and ends the process where they fail.
extern "C" void* malloc(size_t bytes) {
  if (fails(Kind::memory, ENOMEM)) return nullptr;
  static auto* const function = next<void*(size_t)>("malloc");
  return function(bytes);
}
extern "C" void* aligned_alloc(size_t alignment, size_t bytes) {
  if (fails(Kind::memory, ENOMEM)) return nullptr;
  static auto* const function = next<void*(size_t, size_t)>("aligned_alloc");
  return function(alignment, bytes);
}
extern "C" int posix_memalign(void** data, size_t alignment, size_t bytes) {
  if (fails(Kind::memory, ENOMEM)) return ENOMEM;
  static auto* const function = next<int(void**, size_t, size_t)>("posix_memalign");
  return function(data, alignment, bytes);
}
void* operator new(size_t bytes, std::align_val_t alignment) {
  if (fails(Kind::memory, ENOMEM)) throw std::bad_alloc();
  static auto* const function = next<void*(size_t, std::align_val_t)>("_ZnwmSt11align_val_t");
  return function(bytes, alignment);
}
void* operator new[](size_t bytes, std::align_val_t alignment) {
  if (fails(Kind::memory, ENOMEM)) throw std::bad_alloc();
  static auto* const function = next<void*(size_t, std::align_val_t)>("_ZnamSt11align_val_t");
  return function(bytes, alignment);
}
void* operator new(size_t bytes) {
  if (fails(Kind::memory, ENOMEM)) throw std::bad_alloc();
  static auto* const function = next<void*(size_t)>("_Znwm");
  return function(bytes);
}
void* operator new[](size_t bytes) {
  if (fails(Kind::memory, ENOMEM)) throw std::bad_alloc();
  static auto* const function = next<void*(size_t)>("_Znam");
  return function(bytes);
}
void* operator new(size_t bytes, const std::nothrow_t& tag) noexcept {
  if (fails(Kind::memory, ENOMEM)) return nullptr;
  static auto* const function = next<void*(size_t, const std::nothrow_t&)>("_ZnwmRKSt9nothrow_t");
  return function(bytes, tag);
}

#else

extern "C" void* __libc_malloc(size_t bytes);
extern "C" void* __libc_calloc(size_t count, size_t bytes);
extern "C" void* __libc_realloc(void* data, size_t bytes);
extern "C" void* __libc_memalign(size_t alignment, size_t bytes);

extern "C" void* malloc(size_t bytes) { return fails(Kind::memory, ENOMEM) ? nullptr : __libc_malloc(bytes); }
extern "C" void* calloc(size_t count, size_t bytes) {
  return fails(Kind::memory, ENOMEM) ? nullptr : __libc_calloc(count, bytes);
}
extern "C" void* realloc(void* data, size_t bytes) {
  return fails(Kind::memory, ENOMEM) ? nullptr : __libc_realloc(data, bytes);
}
extern "C" void* memalign(size_t alignment, size_t bytes) {
  return fails(Kind::memory, ENOMEM) ? nullptr : __libc_memalign(alignment, bytes);
}
extern "C" void* aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }
extern "C" int posix_memalign(void** data, size_t alignment, size_t bytes) {
  void* made = memalign(alignment, bytes);
  if (made == nullptr) return ENOMEM;
  *data = made;
  return 0;
}

#endif

extern "C" void* mmap(void* data, size_t bytes, int protection, int flags, int file, off_t offset) {
  return map(data, bytes, protection, flags, file, offset);
}
extern "C" void* mmap64(void* data, size_t bytes, int protection, int flags, int file, off_t offset) {
  return map(data, bytes, protection, flags, file, offset);
}

#define KVASS_OPEN(name)                                  \
  extern "C" int name(const char* path, int flags, ...) { \
    va_list arguments;                                    \
    va_start(arguments, flags);                           \
    const int mode = mode_of(flags, arguments);           \
    va_end(arguments);                                    \
    return open_at(AT_FDCWD, path, flags, mode);          \
  }
KVASS_OPEN(open)
KVASS_OPEN(open64)
#define KVASS_OPENAT(name)                                            \
  extern "C" int name(int folder, const char* path, int flags, ...) { \
    va_list arguments;                                                \
    va_start(arguments, flags);                                       \
    const int mode = mode_of(flags, arguments);                       \
    va_end(arguments);                                                \
    return open_at(folder, path, flags, mode);                        \
  }
KVASS_OPENAT(openat)
KVASS_OPENAT(openat64)
extern "C" std::FILE* fopen(const char* path, const char* mode) {
  note_opening();
  if (fails(Kind::open, EMFILE)) return nullptr;
  static auto* const function = next<std::FILE*(const char*, const char*)>("fopen");
  return function(path, mode);
}
extern "C" std::FILE* fopen64(const char* path, const char* mode) { return fopen(path, mode); }

extern "C" ssize_t read(int file, void* to, size_t bytes) {
  return fails(Kind::read, EIO) ? -1 : ::syscall(SYS_read, file, to, bytes);
}
extern "C" ssize_t pread(int file, void* to, size_t bytes, off_t offset) {
  return fails(Kind::read, EIO) ? -1 : ::syscall(SYS_pread64, file, to, bytes, offset);
}
extern "C" ssize_t pread64(int file, void* to, size_t bytes, off_t offset) { return pread(file, to, bytes, offset); }
extern "C" size_t fread(void* to, size_t bytes, size_t count, std::FILE* stream) {
  if (refuses(stream, Kind::read, EIO)) return 0;
  static auto* const function = next<size_t(void*, size_t, size_t, std::FILE*)>("fread");
  return function(to, bytes, count, stream);
}

extern "C" ssize_t write(int file, const void* from, size_t bytes) {
  return file != STDERR_FILENO && fails(Kind::write, ENOSPC) ? -1 : ::syscall(SYS_write, file, from, bytes);
}
extern "C" ssize_t writev(int file, const iovec* parts, int count) {
  return file != STDERR_FILENO && fails(Kind::write, ENOSPC) ? -1 : ::syscall(SYS_writev, file, parts, count);
}
extern "C" ssize_t pwrite(int file, const void* from, size_t bytes, off_t offset) {
  return fails(Kind::write, ENOSPC) ? -1 : ::syscall(SYS_pwrite64, file, from, bytes, offset);
}
extern "C" ssize_t pwrite64(int file, const void* from, size_t bytes, off_t offset) {
  return pwrite(file, from, bytes, offset);
}
extern "C" size_t fwrite(const void* from, size_t bytes, size_t count, std::FILE* stream) {
  if (refuses(stream, Kind::write, ENOSPC)) return 0;
  static auto* const function = next<size_t(const void*, size_t, size_t, std::FILE*)>("fwrite");
  return function(from, bytes, count, stream);
}
extern "C" int fflush(std::FILE* stream) {
  if (stream != nullptr && refuses(stream, Kind::write, ENOSPC)) return EOF;
  static auto* const function = next<int(std::FILE*)>("fflush");
  return function(stream);
}

extern "C" int fsync(int file) { return fails(Kind::sync, EIO) ? -1 : static_cast<int>(::syscall(SYS_fsync, file)); }
extern "C" int fdatasync(int file) {
  return fails(Kind::sync, EIO) ? -1 : static_cast<int>(::syscall(SYS_fdatasync, file));
}
extern "C" int rename(const char* from, const char* to) {
  if (fails(Kind::rename, EIO)) return -1;
  return static_cast<int>(::syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}
extern "C" int linkat(int from_folder, const char* from, int to_folder, const char* to, int flags) {
  if (fails(Kind::rename, EIO)) return -1;
  return static_cast<int>(::syscall(SYS_linkat, from_folder, from, to_folder, to, flags));
}
extern "C" int link(const char* from, const char* to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*body)(void*),
                              void* argument) {
  if (fails(Kind::thread, EAGAIN)) return EAGAIN;
  static auto* const function = next<int(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*)>("pthread_create");
  return function(thread, attributes, body, argument);
}
