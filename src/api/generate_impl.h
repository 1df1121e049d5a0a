// A generation on a public stream: the decode loop, and the stream's text state before and after it.
#pragma once

#include <atomic>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "api/stream_impl.h"
#include "app/generate.h"
#include "kvass/generate.h"

namespace kvass {

// One text on one stream; its caller has the stream's group to itself. Not moved: the loop points into it.
class StreamGeneration {
 public:
  StreamGeneration(OnText on_text, const std::atomic<bool>* cancel);
  StreamGeneration(const StreamGeneration&) = delete;

  // Runs the prompt. On an error the stream is as it was.
  Status begin(Stream::Impl& stream, std::span<const int32_t> prompt, const GenerateOptions& options);
  Result<bool> next(Stream::Impl& stream);
  // Puts the text state into the stream.
  Result<GenerateResult> end(Stream::Impl& stream);

  bool running() const { return loop_ != nullptr; }
  int32_t token() const { return token_; }
  std::string& text() { return shown_; }  // since it was cleared, with no on_text

 private:
  bool show(std::string_view text);
  bool show_progress(int64_t tokens);  // false: it threw

  GenerateOptions options_;
  OnText on_text_;
  const std::atomic<bool>* cancel_;  // null: none
  std::unique_ptr<TextGeneration> loop_;
  int64_t changes_ = 0;  // of the stream, when the latest call here ended
  int32_t token_ = -1;
  std::string shown_;
  bool enough_ = false;  // on_text said so
  std::exception_ptr thrown_;
};

// The prompt's ids as `kvass run` has them.
Result<std::vector<int32_t>> prompt_ids(Stream::Impl& stream, std::string_view text);

}  // namespace kvass
