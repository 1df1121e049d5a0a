// Ctrl-C in long calls: the job asks now and then, and ends as cancelled; the call then raises what Python's handler
// did.
#pragma once

#include <nanobind/nanobind.h>

#include <atomic>

namespace kvass::python {

class Interrupt {
 public:
  // Without the GIL, on the thread of the call.
  void poll() {
    if (raised_) return;
    nanobind::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) {
      raised_ = true;
      cancel_.store(true, std::memory_order_relaxed);
    }
  }
  const std::atomic<bool>& flag() const { return cancel_; }
  // With the GIL, after the job.
  void rethrow() const {
    if (raised_) throw nanobind::python_error();
  }

 private:
  std::atomic<bool> cancel_{false};
  bool raised_ = false;
};

}  // namespace kvass::python
