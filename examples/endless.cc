// Text without end in memory of fixed size: endless MODEL PROMPT [TOKENS]. Four sink tokens and the latest 508 are
// kept.
#include <kvass/generate.h>

#include <cstdio>
#include <cstdlib>

static kvass::Status run(const char* path, const char* prompt, int64_t tokens) {
  KVASS_ASSIGN_OR_RETURN(const kvass::Model model, kvass::Model::load(path));
  kvass::StreamOptions options;
  options.attention_sink = kvass::AttentionSink{4, 508};
  KVASS_ASSIGN_OR_RETURN(kvass::Stream stream, kvass::Stream::open(model, options));
  std::fprintf(stderr, "%s\n", kvass::plan_text(stream.plan()).c_str());
  kvass::GenerateOptions generation;
  generation.ignore_eos = true;
  generation.max_tokens = tokens;
  generation.collect = false;  // an endless text is not kept
  const auto print = [](std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    return std::fflush(stdout) == 0;
  };
  return kvass::generate(stream, prompt, generation, print).status();
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const kvass::Status status = run(argv[1], argv[2], argc > 3 ? std::atoll(argv[3]) : INT64_MAX);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
