// The scheduler: one thread that steps the session, and what waits for it. Each step brings a token of every text that
// decodes, and as much of the prompts as fits a target of time; how a prompt is cut changes no bit. Texts join and
// leave between steps. Nothing else touches sequences: what has to be done with one between steps is a call().
//
// Waiting texts are served in the order in which they came, but for those that wait for something of their own (a
// session that is busy, a prefix that another text is reading).
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "app/decode_loop.h"
#include "kvass/status.h"
#include "serve/metrics.h"

namespace kvass::serve {

using Clock = std::chrono::steady_clock;

// A text. All but cancel() is called on the scheduler's thread.
class Job {
 public:
  virtual ~Job() = default;
  virtual bool ready() { return true; }  // it may begin now
  virtual Result<DecodeRequest> begin() = 0;
  virtual void progress() {}  // some of its prompt has run, and there is more
  virtual void read() {}      // its prompt is in the caches, and nothing has been chosen yet
  virtual void event(const DecodeEvent& event) = 0;
  // Once, also where begin() has failed (its status) or the text was cancelled or too late before it began.
  virtual void end(Result<DecodeResult> result) = 0;

  // The text ends that many seconds after it came; none: it has no limit.
  void limit(std::optional<double> seconds);
  // Any thread: the text ends within a step.
  void cancel() { cancelled_.store(true, std::memory_order_release); }
  bool cancelled() const { return cancelled_.load(std::memory_order_acquire); }

  std::vector<TokenLogprobs> prompt_logprobs;  // at end(), where they were asked for
  Clock::time_point came = Clock::now();
  std::optional<Clock::time_point> deadline;

 private:
  friend class Scheduler;
  std::atomic<bool> cancelled_{false};
  int64_t id_ = -1;  // in the loop
  bool reads_ = true;
  bool first_ = true;
  Clock::time_point last_token_;
};

struct SchedulerOptions {
  double target_ms = 100.0;  // of a step in which texts decode
  int64_t most_waiting = 256;
};

class Scheduler {
 public:
  Scheduler(Session& session, const Tokenizer& tokenizer, const SchedulerOptions& options, Metrics& metrics);
  ~Scheduler();

  void start();
  // Texts that wait or run are cancelled; calls that are there are made.
  void stop();

  // busy where as many texts wait as may, or the server ends; the message has the numbers.
  Status submit(std::shared_ptr<Job> job);
  void call(std::function<void()> call);
  // From now on submit() refuses. What is there goes on.
  void close();
  void cancel_all();  // texts that wait and run; they end within a step
  bool idle() const;

  int64_t most() const { return options_.most_waiting + loop_.capacity(); }  // texts that run and wait
  double seconds_per_text() const { return seconds_per_text_.load(); }       // about; what Retry-After is made of

 private:
  void run();
  bool take_new();
  void admit();
  void step();
  int64_t prompt_room() const;
  void learn(double seconds, int64_t prompt_rows, bool decoded);
  void end(size_t active, Result<DecodeResult> result);
  Job* find(int64_t id);

  Session& session_;
  DecodeLoop loop_;
  SchedulerOptions options_;
  Metrics& metrics_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Job>> submitted_;  // under the mutex, as what follows
  std::deque<std::function<void()>> calls_;
  bool closed_ = false, stopping_ = false;
  std::atomic<bool> cancel_all_{false};
  int64_t held_ = 0;                          // jobs that have not ended
  std::deque<std::shared_ptr<Job>> waiting_;  // of the thread, as what follows
  std::vector<std::shared_ptr<Job>> active_;
  double decode_seconds_ = 0.0, row_seconds_ = 0.0;
  std::atomic<double> seconds_per_text_{1.0};
  std::thread thread_;
};

}  // namespace kvass::serve
