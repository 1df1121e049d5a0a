// Long calls: without the GIL, and with Ctrl-C. The job asks now and then whether there was one and ends as cancelled;
// the call then raises what Python's handler did.
#pragma once

#include <nanobind/nanobind.h>

#include <atomic>
#include <utility>

#include "errors.h"
#include "gil.h"

namespace kvass::python {

class Interrupt {
 public:
  // Without the GIL, on the thread of the call.
  void poll() {
    if (raised_) return;
    const GilHeld gil;
    if (PyErr_CheckSignals() != 0) {
      raised_ = true;
      cancel_.store(true, std::memory_order_relaxed);
    }
  }
  const std::atomic<bool>* flag() const { return &cancel_; }
  // With the GIL, after the job.
  void rethrow() const {
    if (raised_) throw nanobind::python_error();
  }

 private:
  std::atomic<bool> cancel_{false};
  bool raised_ = false;
};

// body() -> Status or Result, without the GIL; errors are exceptions (errors.h).
template <class Body>
auto without_gil(const Interrupt& interrupt, Body&& body) {
  auto result = [&] {
    const GilReleased released;
    return body();
  }();
  interrupt.rethrow();
  return value_of(std::move(result));
}
template <class Body>
auto without_gil(Body&& body) {
  return without_gil(Interrupt(), std::forward<Body>(body));
}

}  // namespace kvass::python
