#include "serve/scheduler.h"

#include <algorithm>
#include <string>
#include <utility>

namespace kvass::serve {
namespace {

constexpr int64_t kFewRows = 8;                        // of prompts in a step, however short the target
constexpr int64_t kFirstRows = 32;                     // before a step has been measured
constexpr double kAloneSeconds = 0.5;                  // of a step beside which nothing decodes
constexpr auto kLook = std::chrono::milliseconds(20);  // for deadlines and cancelled texts that wait

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

Status cancelled_status() { return Status::error(StatusCode::cancelled, "the text was cancelled"); }
Status late_status() { return Status::error(StatusCode::cancelled, "the request took longer than its time limit"); }

}  // namespace

void Job::limit(std::optional<double> seconds) {
  if (seconds) deadline = came + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(*seconds));
}

Scheduler::Scheduler(Session& session, const Tokenizer& tokenizer, const SchedulerOptions& options, Metrics& metrics)
    : session_(session), loop_(session, tokenizer), options_(options), metrics_(metrics) {
  active_.reserve(static_cast<size_t>(loop_.capacity()));
}

Scheduler::~Scheduler() { stop(); }

void Scheduler::start() {
  thread_ = std::thread([this] { run(); });
}

void Scheduler::stop() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Scheduler::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
}

void Scheduler::cancel_all() {
  cancel_all_.store(true);
  changed_.notify_one();
}

bool Scheduler::idle() const {
  const std::lock_guard lock(mutex_);
  return held_ == 0 && calls_.empty();
}

Status Scheduler::submit(std::shared_ptr<Job> job) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return Status::error(StatusCode::busy, "the server is ending");
    if (held_ >= most()) {
      return Status::error(StatusCode::busy,
                           expected_message("requests",
                                            "at most " + std::to_string(options_.most_waiting) +
                                                " that wait for one of " + std::to_string(loop_.capacity()) + " places",
                                            "one more"));
    }
    ++held_;
    submitted_.push_back(std::move(job));
  }
  metrics_.waiting.add();
  changed_.notify_one();
  return {};
}

void Scheduler::call(std::function<void()> call) {
  {
    const std::lock_guard lock(mutex_);
    calls_.push_back(std::move(call));
  }
  changed_.notify_one();
}

// Everything that has come; false: it is to end.
bool Scheduler::take_new() {
  std::deque<std::function<void()>> calls;
  bool stopping;
  {
    std::unique_lock lock(mutex_);
    const auto something = [&] { return !submitted_.empty() || !calls_.empty() || stopping_; };
    if (active_.empty() && waiting_.empty()) {
      changed_.wait(lock, something);
    } else if (active_.empty()) {
      changed_.wait_for(lock, kLook, something);
    }
    std::move(submitted_.begin(), submitted_.end(), std::back_inserter(waiting_));
    submitted_.clear();
    std::swap(calls, calls_);
    stopping = stopping_;
  }
  for (const auto& one : calls) one();
  return !stopping;
}

void Scheduler::run() {
  while (take_new()) {
    if (cancel_all_.load()) {
      for (const auto& job : waiting_) job->cancel();
      for (const auto& job : active_) job->cancel();
    }
    admit();
    if (!active_.empty()) step();
  }
  while (!active_.empty()) {
    loop_.cancel(active_.back()->id_);
    Result<DecodeResult> result = loop_.remove(active_.back()->id_);
    end(active_.size() - 1, std::move(result));
  }
  for (const auto& job : std::exchange(waiting_, {})) {
    metrics_.waiting.add(-1);
    job->end(cancelled_status());
  }
  take_new();
}

void Scheduler::admit() {
  for (size_t i = 0; i < waiting_.size();) {
    const std::shared_ptr<Job> job = waiting_[i];
    const bool late = job->deadline && Clock::now() > *job->deadline;
    const bool begins = loop_.size() < loop_.capacity() && job->ready();
    if (!job->cancelled() && !late && !begins) {
      ++i;
      continue;
    }
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
    metrics_.waiting.add(-1);
    Status status = job->cancelled() ? cancelled_status() : late ? late_status() : Status();
    if (status.ok()) {
      Result<DecodeRequest> request = job->begin();
      status = request.status();
      if (request.ok()) {
        const Result<int64_t> id = loop_.add(std::move(request).value());
        status = id.status();
        if (id.ok()) {
          job->id_ = id.value();
          metrics_.running.add();
          active_.push_back(job);
          continue;
        }
      }
    }
    job->end(status);
    const std::lock_guard lock(mutex_);
    --held_;
  }
}

// Tokens of prompts that the next step has time for.
int64_t Scheduler::prompt_room() const {
  const bool decodes = std::any_of(active_.begin(), active_.end(), [](const auto& job) { return !job->reads_; });
  if (row_seconds_ == 0.0) return decodes ? kFirstRows : session_.options().rows;
  const double left = decodes ? options_.target_ms * 1e-3 - decode_seconds_ : kAloneSeconds;
  return std::clamp(static_cast<int64_t>(left / row_seconds_), kFewRows, session_.options().rows);
}

void Scheduler::learn(double seconds, int64_t prompt_rows, bool decoded) {
  const auto mix = [](double& mean, double value) { mean = mean == 0.0 ? value : 0.75 * mean + 0.25 * value; };
  if (prompt_rows == 0) {
    mix(decode_seconds_, seconds);
  } else if (prompt_rows >= kFewRows) {
    mix(row_seconds_,
        std::max(seconds - (decoded ? decode_seconds_ : 0.0), 0.25 * seconds) / static_cast<double>(prompt_rows));
  }
}

void Scheduler::step() {
  const Clock::time_point begin = Clock::now();
  for (const auto& job : active_) {
    if (job->cancelled() || (job->deadline && begin > *job->deadline)) loop_.cancel(job->id_);
  }
  const bool decoded = std::any_of(active_.begin(), active_.end(), [](const auto& job) { return !job->reads_; });
  loop_.set_prompt_rows(prompt_room());
  const Status advanced = loop_.advance();
  if (!advanced.ok()) {  // no text has moved, and none can
    while (!active_.empty()) {
      (void)loop_.remove(active_.back()->id_);
      end(active_.size() - 1, advanced);
    }
    return;
  }
  for (const auto& job : active_) {
    if (!job->reads_) continue;
    if (loop_.reading(job->id_)) {
      job->progress();
      continue;
    }
    job->reads_ = false;
    job->read();
  }
  const std::span<const DecodeEvent> events = loop_.sample();
  const double seconds = seconds_since(begin);
  metrics_.step.add(seconds);
  learn(seconds, loop_.prompt_rows(), decoded);
  const Clock::time_point now = Clock::now();
  std::vector<int64_t> ended;
  for (const DecodeEvent& event : events) {
    Job* const job = find(event.id);
    if (job == nullptr) continue;
    if (event.token >= 0) {
      metrics_.generated.add();
      const double since = std::chrono::duration<double>(now - (job->first_ ? job->came : job->last_token_)).count();
      (job->first_ ? metrics_.first_token : metrics_.between_tokens).add(since);
      job->first_ = false;
      job->last_token_ = now;
    }
    job->event(event);
    if (event.ended) ended.push_back(event.id);
  }
  for (const int64_t id : ended) {
    const auto at = std::find_if(active_.begin(), active_.end(), [&](const auto& job) { return job->id_ == id; });
    const std::span<const TokenLogprobs> prompt = loop_.prompt_logprobs(id);
    (*at)->prompt_logprobs.assign(prompt.begin(), prompt.end());
    const bool late = (*at)->deadline && now > *(*at)->deadline && !(*at)->cancelled();
    Result<DecodeResult> result = loop_.remove(id);
    if (late && result.ok() && result->reason == StopReason::cancelled) result->status = late_status();
    end(static_cast<size_t>(at - active_.begin()), std::move(result));
  }
}

void Scheduler::end(size_t active, Result<DecodeResult> result) {
  const std::shared_ptr<Job> job = std::move(active_[active]);
  active_.erase(active_.begin() + static_cast<std::ptrdiff_t>(active));
  metrics_.running.add(-1);
  if (result.ok()) {
    metrics_.prompt_evaluated.add(result->prompt_tokens);
    if (result->reason == StopReason::cancelled) metrics_.cancelled.add();
  }
  seconds_per_text_.store(0.8 * seconds_per_text_.load() + 0.2 * seconds_since(job->came));
  job->end(std::move(result));
  const std::lock_guard lock(mutex_);
  --held_;
}

Job* Scheduler::find(int64_t id) {
  for (const auto& job : active_) {
    if (job->id_ == id) return job.get();
  }
  return nullptr;
}

}  // namespace kvass::serve
