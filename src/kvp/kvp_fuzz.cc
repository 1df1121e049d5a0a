// Whatever the bytes are, a .kvp is refused in one line or its program runs inside its buffers. The hash of the table,
// which no mutation would hit, is put right in a second try.
#include <array>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "kvp/kvp.h"
#include "model/speech.h"
#include "session/session.h"
#include "text/speech_tokenizer.h"
#include "text/tokenizer.h"
#include "tiny_kvp.h"

namespace {

using namespace kvass;  // NOLINT: one file, one program

constexpr size_t kMostBytes = size_t{64} << 20;  // more memory than this is not worth a try
constexpr int64_t kMostSource = 4096;            // nor are more source rows, all of which see each other

void require(bool condition) {
  if (!condition) std::abort();
}

void step(Session& session, Sequence& sequence, int64_t rows, int32_t token) {
  const std::vector<int32_t> tokens(static_cast<size_t>(rows), token);
  const Run run{&sequence, sequence.length(), tokens};
  if (!session.step({std::span(&run, 1)}).ok()) return;
  const auto last = static_cast<int32_t>(rows - 1);
  require(session.step({.logits = std::span(&last, 1), .argmax = std::span(&last, 1)}).ok());
}

// Logits or not: an input of the shape that the program says is taken.
void encode(Session& session, Sequence& sequence) {
  const Program& program = session.engine().program();
  const Value& value = program.values[static_cast<size_t>(program.input()->outputs[0])];
  const int64_t most = value.extent == Extent::frames ? program.source.frames : program.source.rows;
  const std::array<int64_t, 2> shape = {value.width, std::min<int64_t>(most, 5)};
  const std::vector<float> input(static_cast<size_t>(shape[0] * shape[1]), 0.5f);
  if (shape[1] >= 1) require(session.encode(sequence, {input.data(), DType::f32, shape}).ok());
}

void try_to_run(std::span<const uint8_t> bytes) {
  Result<KvpFile> file = KvpFile::parse(bytes, "fuzz");
  if (!file.ok()) {
    require(file.status().message().find('\n') == std::string::npos);
    return;
  }
  const KvpModel model = file->model();
  if (model.speech) {
    (void)SpeechTokenizer::create(file->speech_vocabulary().value());
    (void)speech_shape(model.program);
  } else {
    (void)Tokenizer::create(file->vocabulary().value());
  }
  WeightStore weights;
  weights.matrices = file->matrices();
  weights.vectors = file->vectors();
  const Result<std::shared_ptr<const Engine>> engine =
      Engine::create(model.program, std::move(weights), {model.math, Isa::scalar});
  if (!engine.ok() || model.program.source.rows > kMostSource) return;
  const MethodPlan& longest = model.methods.front();
  SessionOptions options;
  options.rows = longest.rows;
  options.head_rows = longest.head_rows;
  options.sequences = longest.sequences;
  options.threads = 1;
  options.decode_method = model.methods.size() > 1;
  const Result<size_t> planned = plan_session_bytes(model.program, model.math, options);
  if (!planned.ok() || planned.value() > kMostBytes || longest.arena.bytes > kMostBytes ||
      file->cache_plan().bytes > kMostBytes || model.caches.context > 1 << 20) {
    return;
  }
  if (model.program.has_encoder()) {
    const Result<size_t> crosses = CrossCache::plan_bytes(model.program, model.caches.dtype);
    if (!crosses.ok() || crosses.value() > kMostBytes) return;
  }
  Result<std::unique_ptr<Session>> session = Session::create(engine.value(), options, model.methods);
  Result<std::unique_ptr<Sequence>> sequence = Sequence::create(engine.value(), model.caches);
  if (!session.ok() || !sequence.ok()) return;
  if (model.program.has_encoder()) encode(*session.value(), *sequence.value());
  step(*session.value(), *sequence.value(), std::min<int64_t>(options.rows, 3), 1);
  step(*session.value(), *sequence.value(), 1, static_cast<int32_t>(model.program.vocabulary() - 1));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  kvass::testing::AlignedBytes bytes({data, size});
  try_to_run(bytes.span());
  kvass::testing::rehash_kvp(bytes.span());
  try_to_run(bytes.span());
  return 0;
}
