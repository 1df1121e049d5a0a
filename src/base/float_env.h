// The float environment of docs/numerics.md, 1: round to nearest even, denormals kept, exceptions masked. Every public
// entry and every worker thread holds one of these while it computes. The destructor restores the caller's control
// register.
#pragma once

#include <cstdint>

namespace kvass {

class FloatEnvironment {
 public:
  FloatEnvironment();
  ~FloatEnvironment();
  FloatEnvironment(const FloatEnvironment&) = delete;
  FloatEnvironment& operator=(const FloatEnvironment&) = delete;

 private:
  uint64_t saved_;
};

}  // namespace kvass
