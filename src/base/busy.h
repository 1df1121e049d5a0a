// One caller at a time: a claim on an object. A second caller sees that the object is taken (`mine()` is false) instead
// of racing for it. Not a lock and not a queue: the second caller does not wait and changes nothing.
#pragma once

#include <atomic>

namespace kvass {

class Busy {
 public:
  explicit Busy(std::atomic<bool>& flag) : flag_(flag), mine_(!flag.exchange(true, std::memory_order_acquire)) {}
  ~Busy() {
    if (mine_) flag_.store(false, std::memory_order_release);
  }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;
  bool mine() const { return mine_; }

 private:
  std::atomic<bool>& flag_;
  bool mine_;
};

}  // namespace kvass
