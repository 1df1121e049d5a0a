// What an operator counts, in the text format of Prometheus (exposition format 0.0.4). Any thread counts; nothing is
// allocated after the beginning.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

namespace kvass::serve {

class Counter {
 public:
  void add(int64_t count = 1) { value_.fetch_add(count, std::memory_order_relaxed); }
  void set(int64_t value) { value_.store(value, std::memory_order_relaxed); }
  int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_{0};
};

// Of seconds.
class Histogram {
 public:
  static constexpr std::array<double, 15> kBounds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,  0.25,
                                                     0.5,   1.0,    2.5,   5.0,  10.0,  30.0, 120.0};
  void add(double seconds);
  std::string text(const char* name, const char* help) const;

 private:
  std::array<std::atomic<int64_t>, kBounds.size() + 1> counts_{};
  std::atomic<int64_t> microseconds_{0};
};

struct Metrics {
  Counter requests, refused, failed, cancelled;        // answers of 4xx, of 5xx; clients that went away
  Counter prompt_evaluated, prompt_reused, generated;  // tokens
  Counter waiting, running;                            // texts, now
  Counter bytes_planned;
  Counter sessions_in_memory, sessions_on_disk, snapshots;
  Counter audio_seconds;
  Histogram first_token, between_tokens, step, snapshot;

  std::string text() const;
};

}  // namespace kvass::serve
