// What a rendering may still spend: work and memory. Templates come with model files from anywhere, so whatever an
// operation does counts here, down to comparing two values and copying a text; a rendering that would spend more fails.
//
// The Budget that was made last on a thread is the one that counts. It is not handed to functions: that would put it in
// the signature of every operation on a value, and one that forgets it would run without a limit. Where there is none
// (while a template is parsed, while variables are read) nothing counts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

namespace kvass::jinja {

// A step is what a simple expression takes, some 50 nanoseconds; kStep units of work.
inline constexpr size_t kStep = 16;

class Budget {
 public:
  Budget(size_t most_steps, size_t most_bytes)
      : most_steps_(most_steps),
        most_bytes_(most_bytes),
        work_left_(product(most_steps, kStep)),
        bytes_left_(most_bytes),
        outer_(current_) {
    current_ = this;
  }
  ~Budget() { current_ = outer_; }
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  // A unit is about a byte that is looked at, or a few nanoseconds. Call it before the work.
  static void work(size_t units) {
    if (current_) current_->spend_work(units);
  }
  // Memory that will be taken, whether or not it is given back later. Writing it is work as well.
  static void bytes(size_t bytes) {
    if (current_) current_->spend_bytes(bytes);
  }
  static void bytes(size_t count, size_t size) { bytes(product(count, size)); }
  // Refuses what there is no memory for any more, and takes none of it.
  static void check(size_t count, size_t size) {
    if (current_ && product(count, size) > current_->bytes_left_) current_->out_of_bytes();
  }

 private:
  static constexpr size_t kBytesPerUnit = 32;

  static size_t product(size_t a, size_t b) {
    size_t result = 0;
    return __builtin_mul_overflow(a, b, &result) ? std::numeric_limits<size_t>::max() : result;
  }
  void spend_work(size_t units) {
    if (units > work_left_) out_of_steps();
    work_left_ -= units;
  }
  void spend_bytes(size_t bytes) {
    if (bytes > bytes_left_) out_of_bytes();
    bytes_left_ -= bytes;
    spend_work(bytes / kBytesPerUnit);
  }
  [[noreturn]] void out_of_steps() const;
  [[noreturn]] void out_of_bytes() const;

  const size_t most_steps_, most_bytes_;
  size_t work_left_, bytes_left_;
  Budget* const outer_;
  static constinit thread_local Budget* current_;
};

}  // namespace kvass::jinja
