// What the endpoints that generate have in common: the parameters that each takes, and an answer of one or more texts,
// from the submission of its jobs to their end. A dialect says how its texts look.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "serve/answer.h"

namespace kvass::serve {

inline constexpr int64_t kMostTopLogprobs = 20;
inline constexpr size_t kMostStops = 64;
inline constexpr int64_t kMostChoices = 16;  // n

// The owner, sampling, penalties, ignore_eos and receipt.
TextRequest take_text(Params& params, const Service& service, const Exchange& exchange);
// tools and tool_choice that ask for calls.
void refuse_tools(Params& params);
// The type of an object like response_format, which must be text.
void take_text_format(Params& params, const char* name);

class TextAnswer : public std::enable_shared_from_this<TextAnswer> {
 public:
  TextAnswer(Service& service, Exchange exchange, const char* id_prefix);
  virtual ~TextAnswer() = default;

  // stream and stream_options.
  void take_stream(Params& params);
  bool streams() const { return streams_; }
  // A job for each text, which share the prompt's options; seeds follow each other.
  void start(TextRequest text, size_t count, const std::function<const std::vector<int32_t>&(size_t)>& prompt);

 protected:
  // All on the scheduler's thread. `result`: of a text that ended by itself, by its limit, or in a full cache.
  virtual void begin(size_t index) = 0;
  virtual void event(size_t index, const DecodeEvent& event) = 0;
  virtual void end(size_t index, TextResult& result) = 0;
  virtual void finish() = 0;  // all texts have ended
  virtual void fail(const ApiError& error) { serve::fail(exchange_, stream_, error); }

  Json base(const char* object) const;              // id, object, created, model, system_fingerprint
  void send(Json chunk);                            // an event of the stream
  void end_stream(const char* object, Json usage);  // with its usage, where that was asked for
  void answer(Json whole, Json usage);              // no stream
  static void add_receipt(Json& choice, const TextResult& result);

  Service& service_;
  Exchange exchange_;
  EventStream stream_;
  std::string id_;
  int64_t created_ = now_seconds();
  bool streams_ = false, wants_usage_ = false;
  uint64_t seed_ = 0;
  Fields headers_;

 private:
  void text_ended(size_t index, Result<TextResult> result);

  std::vector<std::shared_ptr<Job>> jobs_;  // which hold this, until they have ended
  size_t open_ = 0;
  bool failed_ = false;
};

}  // namespace kvass::serve
