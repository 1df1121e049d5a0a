// A text of a request: from its prompt's ids to its end, on a sequence of the prefix store.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "app/receipt.h"
#include "serve/service.h"

namespace kvass::serve {

struct TextRequest {
  std::vector<int32_t> prompt;
  std::string owner;      // HttpRequest::owner
  DecodeOptions options;  // without its prompt
  OutputPenalties penalties = {};
  int64_t logprobs = -1;  // as DecodeRequest's
  bool receipt = false;
  bool score_prompt = false;  // then no prefix is reused: every row is computed
};

struct TextResult {
  DecodeResult result;
  int64_t prompt_tokens = 0, reused = 0;
  std::string detail;  // PrefixStore::Place::detail
  std::vector<TokenLogprobs> prompt_logprobs;
  std::optional<Receipt> receipt;  // where it was asked for
};

class TextJob final : public Job {
 public:
  using OnBegin = std::function<void(const PrefixStore::Place&)>;
  using OnEvent = std::function<void(const DecodeEvent&)>;
  using OnEnd = std::function<void(Result<TextResult>)>;
  // All are called on the scheduler's thread.
  TextJob(Service& service, TextRequest request, OnBegin on_begin, OnEvent on_event, OnEnd on_end);

  bool ready() override;
  Result<DecodeRequest> begin() override;
  void progress() override;
  void read() override;
  void event(const DecodeEvent& event) override { on_event_(event); }
  void end(Result<DecodeResult> result) override;

 private:
  Service& service_;
  TextRequest request_;
  OnBegin on_begin_;
  OnEvent on_event_;
  OnEnd on_end_;
  std::optional<Sampler> sampler_;  // has seen the prefix too
  PrefixStore::Place place_;
  bool placed_ = false;
  std::optional<Receipt> receipt_;
  int64_t kept_ = 0;  // position of the last checkpoint
};

}  // namespace kvass::serve
