// The OpContext that all operator calls of a process share, by count: a call holds the one that it began with until it
// is done, and a new one takes its place for the calls that come after. Plain C++, usable from any thread. Not for a
// child after a fork, which has none of its parent's threads: it takes a new SharedContext and leaves the old one
// alone.
#pragma once

#include <memory>
#include <mutex>
#include <utility>

#include "kvass/ops.h"

namespace kvass::python {

class SharedContext {
 public:
  // Made with the default options where there is none yet.
  Result<std::shared_ptr<OpContext>> get() {
    const std::lock_guard lock(mutex_);
    if (!context_) {
      KVASS_ASSIGN_OR_RETURN(OpContext made, OpContext::create());
      context_ = std::make_shared<OpContext>(std::move(made));
    }
    return context_;
  }
  // Calls that run keep the one that they have; the last of them ends its threads. Waits for nobody but those threads.
  void replace(OpContext with) {
    auto made = std::make_shared<OpContext>(std::move(with));  // after the swap the old one, destroyed without the lock
    const std::lock_guard lock(mutex_);
    context_.swap(made);
  }

 private:
  std::mutex mutex_;
  std::shared_ptr<OpContext> context_;
};

}  // namespace kvass::python
