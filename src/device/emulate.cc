#include "device/emulate.h"

#include <setjmp.h>
#include <ucontext.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "base/float_env.h"
#include "base/platform.h"
#include "device/runtime.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace kvass::emulated {
namespace {

constexpr size_t kStackBytes = size_t{256} << 10;

enum class State : uint8_t { ready, at_barrier, at_meeting, done };

struct Copy {
  void* to;
  const void* from;
};

// A fiber: one thread of the block.
struct Fiber {
  ucontext_t context{};
  jmp_buf at;
  bool begun = false;
  State state = State::ready;
  Meeting meeting = Meeting::shuffle;
  uint8_t turn = 0;  // the half of `left` that the last meeting used
  Place place;
  std::vector<Copy> copies;
  std::vector<size_t> groups;  // ends of committed groups, in `copies`
  alignas(16) uint8_t left[2][kExchangeBytes];
  void* stack = nullptr;

  Fiber() = default;
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  ~Fiber() {
    if (stack) platform::unmap(stack, kStackBytes);
  }
};

[[noreturn]] void stop(const char* what) {
  std::fprintf(stderr, "device code: %s\n", what);
  std::abort();
}

class Machine {
 public:
  void run(void (*thread)(const void*), const void* params, Grid grid, int threads, size_t shared);
  __attribute__((noinline)) void yield(State state);
  Fiber& fiber() { return *running_; }
  Fiber& lane(int index) { return *fibers_[static_cast<size_t>(running_->place.thread / 32 * 32 + index)]; }

 private:
  __attribute__((noinline)) static void prepare(Fiber& fiber, const Place& place);
  void run_block(int threads);
  bool let_go(int threads);
  __attribute__((noinline)) void resume(Fiber& fiber);
  static void begin();
  [[noreturn]] void leave();

  std::vector<std::unique_ptr<Fiber>> fibers_;
  Fiber* running_ = nullptr;
  void (*thread_)(const void*) = nullptr;
  const void* params_ = nullptr;
  uint32_t rounds_ = 0;
  jmp_buf scheduler_;
#if defined(__SANITIZE_ADDRESS__)
  ucontext_t scheduler_context_;
#endif
};
thread_local Machine machine;

#if defined(__SANITIZE_ADDRESS__)
// The sanitizer must see every change of stacks: it knows swapcontext, and the calls below announce the stacks.
thread_local const void* scheduler_stack;
thread_local size_t scheduler_stack_bytes;

void Machine::begin() {
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_bytes);
  machine.thread_(machine.params_);
  machine.leave();
}
void Machine::resume(Fiber& fiber) {
  running_ = &fiber;
  void* fake = nullptr;
  fiber.begun = true;
  __sanitizer_start_switch_fiber(&fake, fiber.stack, kStackBytes);
  ::swapcontext(&scheduler_context_, &fiber.context);
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
}
void Machine::yield(State state) {
  Fiber& self = *running_;
  self.state = state;
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, scheduler_stack, scheduler_stack_bytes);
  ::swapcontext(&self.context, &scheduler_context_);
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
}
void Machine::leave() {
  running_->state = State::done;
  __sanitizer_start_switch_fiber(nullptr, scheduler_stack, scheduler_stack_bytes);
  ::setcontext(&scheduler_context_);
  std::abort();
}
#else
// A longjmp changes stacks without the system call for the signal mask that swapcontext makes.
void Machine::begin() {
  machine.thread_(machine.params_);
  machine.leave();
}
void Machine::resume(Fiber& fiber) {
  running_ = &fiber;
  if (_setjmp(scheduler_) != 0) return;
  if (fiber.begun) _longjmp(fiber.at, 1);
  fiber.begun = true;
  ::setcontext(&fiber.context);
}
void Machine::yield(State state) {
  Fiber& self = *running_;
  self.state = state;
  if (_setjmp(self.at) == 0) _longjmp(scheduler_, 1);
}
void Machine::leave() {
  running_->state = State::done;
  _longjmp(scheduler_, 1);
}
#endif

// Makes every fiber ready whose barrier or meeting is complete. False: there is none.
bool Machine::let_go(int threads) {
  bool some = false;
  int waiting = 0, done = 0;
  for (int warp = 0; warp < threads; warp += 32) {
    int meeting = 0;
    for (int i = warp; i < warp + 32; ++i) {
      const Fiber& fiber = *fibers_[static_cast<size_t>(i)];
      waiting += fiber.state == State::at_barrier;
      done += fiber.state == State::done;
      meeting += fiber.state == State::at_meeting;
      if (fiber.state == State::at_meeting && fiber.meeting != fibers_[static_cast<size_t>(warp)]->meeting) {
        stop("lanes of a warp met for different things");
      }
    }
    if (meeting == 0) continue;
    if (meeting != 32) stop("not every lane of a warp came to an exchange");
    for (int i = warp; i < warp + 32; ++i) fibers_[static_cast<size_t>(i)]->state = State::ready;
    some = true;
  }
  if (some || waiting == 0) return some;
  if (waiting != threads)
    stop(done > 0 ? "a thread ended where others wait at a barrier" : "a barrier was not reached");
  for (int i = 0; i < threads; ++i) fibers_[static_cast<size_t>(i)]->state = State::ready;
  return true;
}

void Machine::run_block(int threads) {
  do {
    // Forwards or backwards, from any warp: code that relies on an order without a barrier fails.
    rounds_ = rounds_ * 1664525u + 1013904223u;
    const int first = static_cast<int>((rounds_ >> 8) % static_cast<uint32_t>(threads / 32)) * 32;
    const bool backwards = (rounds_ >> 30 & 1u) != 0;
    for (int i = 0; i < threads; ++i) {
      const int at = (first + i) % threads;
      Fiber& fiber = *fibers_[static_cast<size_t>(backwards ? threads - 1 - at : at)];
      if (fiber.state == State::ready) resume(fiber);
    }
  } while (let_go(threads));
}

void Machine::prepare(Fiber& fiber, const Place& place) {
  fiber.begun = false;
  fiber.state = State::ready;
  fiber.copies.clear();
  fiber.groups.clear();
  fiber.place = place;
  ::getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = kStackBytes;
  fiber.context.uc_link = nullptr;
  ::makecontext(&fiber.context, &Machine::begin, 0);
}

void Machine::run(void (*thread)(const void*), const void* params, Grid grid, int threads, size_t shared) {
  const FloatEnvironment environment;
  thread_ = thread;
  params_ = params;
  while (fibers_.size() < static_cast<size_t>(threads)) {
    auto fiber = std::make_unique<Fiber>();
    fiber->stack = platform::map_memory(kStackBytes);
    if (!fiber->stack) stop("no memory for a stack");
    fibers_.push_back(std::move(fiber));
  }
  std::unique_ptr<uint8_t[], void (*)(uint8_t*)> memory(
      static_cast<uint8_t*>(operator new[](shared + 1, std::align_val_t(128))),
      [](uint8_t* p) { operator delete[](p, std::align_val_t(128)); });
  for (int64_t block = 0; block < grid.x * grid.y * grid.z; ++block) {
    std::memset(memory.get(), 0xff, shared);
    for (int i = 0; i < threads; ++i) {
      prepare(*fibers_[static_cast<size_t>(i)],
              {i, threads, {block % grid.x, block / grid.x % grid.y, block / grid.x / grid.y}, grid, memory.get()});
    }
    run_block(threads);
  }
}

}  // namespace

const Place& place() { return machine.fiber().place; }

void barrier() { machine.yield(State::at_barrier); }

void exchange(Meeting meeting, const void* from, size_t bytes) {
  Fiber& self = machine.fiber();
  self.meeting = meeting;
  self.turn ^= 1;  // a lane may reach the next meeting while another lane still reads its data from this one
  if (bytes > kExchangeBytes) stop("more is exchanged than there is room for");
  if (bytes > 0) std::memcpy(self.left[self.turn], from, bytes);
  machine.yield(State::at_meeting);
}

const void* exchanged(int lane) { return machine.lane(lane).left[machine.fiber().turn]; }

void copy_async(void* to_shared, const void* from_global) {
  if (reinterpret_cast<uintptr_t>(to_shared) % 16 != 0 || reinterpret_cast<uintptr_t>(from_global) % 16 != 0) {
    stop("an asynchronous copy that is not aligned to 16 bytes");
  }
  machine.fiber().copies.push_back({to_shared, from_global});
}

void copy_commit() { machine.fiber().groups.push_back(machine.fiber().copies.size()); }

void wait_for_copies(int left) {
  Fiber& self = machine.fiber();
  if (self.groups.size() <= static_cast<size_t>(left)) return;
  const size_t groups = self.groups.size() - static_cast<size_t>(left);
  const size_t count = self.groups[groups - 1];
  for (size_t i = 0; i < count; ++i) std::memcpy(self.copies[i].to, self.copies[i].from, 16);
  self.copies.erase(self.copies.begin(), self.copies.begin() + static_cast<std::ptrdiff_t>(count));
  self.groups.erase(self.groups.begin(), self.groups.begin() + static_cast<std::ptrdiff_t>(groups));
  for (size_t& end : self.groups) end -= count;
}

void run_grid(void (*thread)(const void* params), const void* params, Grid grid, int threads, size_t shared) {
  machine.run(thread, params, grid, threads, shared);
}

namespace {

using Clock = std::chrono::steady_clock;

Status available() { return {}; }
Result<DeviceProperties> properties() {
  DeviceProperties result;
  result.name = "emulation on the CPU";
  result.processors = 4;
  result.shared_bytes = 160 << 10;
  result.memory_bytes = size_t{1} << 30;
  return result;
}
Result<void*> allocate(size_t bytes) {
  void* memory = operator new(bytes, std::align_val_t(256), std::nothrow);
  if (!memory) return Status::error(StatusCode::out_of_memory, "emulated device: no memory");
  std::memset(memory, 0xff, bytes);
  return memory;
}
void release(void* memory) { operator delete(memory, std::align_val_t(256)); }
Status copy(void* to, const void* from, size_t bytes, CopyKind, DeviceStream) {
  if (bytes > 0) std::memcpy(to, from, bytes);
  return {};
}
Status fill(void* to, uint8_t byte, size_t bytes, DeviceStream) {
  if (bytes > 0) std::memset(to, byte, bytes);
  return {};
}
Status upload(void* to, const void* from, size_t bytes, DeviceStream stream) {
  return copy(to, from, bytes, CopyKind::to_device, stream);
}
Result<DeviceStream> create_stream() { return DeviceStream(new char); }
void destroy_stream(DeviceStream stream) { delete static_cast<char*>(stream); }
Status synchronise(DeviceStream) { return {}; }
Result<bool> capturing(DeviceStream) { return false; }
Result<DeviceEvent> create_event() { return DeviceEvent(new Clock::time_point()); }
void destroy_event(DeviceEvent event) { delete static_cast<Clock::time_point*>(event); }
Status record(DeviceEvent event, DeviceStream) {
  *static_cast<Clock::time_point*>(event) = Clock::now();
  return {};
}
Status wait(DeviceStream, DeviceEvent) { return {}; }
Result<double> seconds(DeviceEvent begin, DeviceEvent end) {
  return std::chrono::duration<double>(*static_cast<Clock::time_point*>(end) - *static_cast<Clock::time_point*>(begin))
      .count();
}

}  // namespace

constinit const DeviceRuntime device_runtime = {
    Device::cuda, "emulated",    &available,     &properties, &allocate,      &release,        &allocate,
    &release,     &copy,         &fill,          &upload,     &create_stream, &destroy_stream, &synchronise,
    &capturing,   &create_event, &destroy_event, &record,     &wait,          &seconds,
};

}  // namespace kvass::emulated
