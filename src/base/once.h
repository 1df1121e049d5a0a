// Something that is made at its first use, by the thread that comes first; others wait for it. Where making it throws,
// it is not made, and the next use tries again: so make() changes nothing before it can fail.
//
// Not std::call_once: an exception leaves that through the C library, which then loads its unwinder, and ends the
// process where there is no memory to load it with.
#pragma once

#include <atomic>
#include <mutex>

namespace kvass {

class Once {
 public:
  template <class Make>
  void call(Make&& make) {
    if (made_.load(std::memory_order_acquire)) return;
    const std::lock_guard lock(mutex_);
    if (made_.load(std::memory_order_relaxed)) return;
    make();
    made_.store(true, std::memory_order_release);
  }

 private:
  std::atomic<bool> made_{false};
  std::mutex mutex_;
};

}  // namespace kvass
