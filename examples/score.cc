// How likely texts are, and how each goes on, all of them at once: score MODEL TEXT...
#include <kvass/generate.h>
#include <kvass/score.h>

#include <cstdio>
#include <vector>

static kvass::Status run(int count, char** texts, const char* path) {
  KVASS_ASSIGN_OR_RETURN(const kvass::Model model, kvass::Model::load(path));
  kvass::StreamOptions options;
  options.logit_rows = 16;  // scores 16 tokens at once
  KVASS_ASSIGN_OR_RETURN(kvass::Stream stream, kvass::Stream::open(model, options));
  std::vector<std::vector<int32_t>> prompts;
  for (int i = 0; i < count; ++i) {
    KVASS_ASSIGN_OR_RETURN(std::vector<int32_t> ids, model.encode(texts[i]));
    KVASS_RETURN_IF_ERROR(stream.clear());
    KVASS_ASSIGN_OR_RETURN(const kvass::ScoreResult score, kvass::score(stream, ids));
    std::printf("%d: %zu tokens, perplexity %.3f\n", i, ids.size(), score.perplexity());
    prompts.push_back(std::move(ids));
  }
  options.sequences = 4;  // prompts that advance together
  kvass::GenerateOptions generation;
  generation.max_tokens = 8;
  const auto print = [](size_t i, const kvass::GenerateResult& result) {
    std::printf("%zu: %s\n", i, result.text.c_str());
    return true;
  };
  return kvass::generate_batch(model, prompts, options, generation, print).status();
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const kvass::Status status = run(argc - 2, argv + 2, argv[1]);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
