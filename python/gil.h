// The GIL, let go and taken back. All of the binding does it here.
//
// A thread that wants the GIL while the interpreter ends, a daemon thread in an operator say, never gets it: Python
// (before 3.14) unwinds the thread's stack, and C++ ends the process where that meets a destructor. Here the thread
// stays where it is until the process has ended, as Python 3.14 does it.
#pragma once

#include <nanobind/nanobind.h>
#include <unistd.h>

namespace kvass::python {

// take() takes the GIL.
template <class Take>
void take_gil(Take&& take) {
  try {
    take();
  } catch (...) {  // only the end of the thread; who leaves here ends the process
    for (;;) pause();
  }
}

class GilReleased {
 public:
  GilReleased() : state_(PyEval_SaveThread()) {}
  ~GilReleased() {
    take_gil([this] { PyEval_RestoreThread(state_); });
  }
  GilReleased(const GilReleased&) = delete;

 private:
  PyThreadState* state_;
};

class GilHeld {
 public:
  GilHeld() {
    take_gil([this] { state_ = PyGILState_Ensure(); });
  }
  ~GilHeld() { PyGILState_Release(state_); }
  GilHeld(const GilHeld&) = delete;

 private:
  PyGILState_STATE state_{};
};

}  // namespace kvass::python
