// Whatever the bytes are, a snapshot is refused in one line or restored into a sequence that can go on. The checksums
// and the fingerprint, which no mutation would hit, are put right in a second try.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "model/model.h"
#include "session/session.h"
#include "session/snapshot.h"
#include "session/snapshot_header.h"
#include "tiny_encoder.h"
#include "tiny_model.h"

namespace {

using namespace kvass;  // NOLINT: one file, one program

void require(bool condition) {
  if (!condition) std::abort();
}

// A small model and a stream of it.
struct OpenStream {
  std::shared_ptr<const Engine> engine;
  std::unique_ptr<Session> session;
  std::unique_ptr<Sequence> sequence;

  OpenStream(std::shared_ptr<const Engine> made, const CacheOptions& caches) : engine(std::move(made)) {
    sequence = Sequence::create(engine, caches).value();
    SessionOptions options;
    options.rows = 8;
    session = Session::create(engine, options).value();
  }
};

// Three layers, with sinks.
OpenStream text_stream() {
  kvass::testing::TinyConfig config;
  config.layers = 3;
  const std::vector<uint8_t> bytes = kvass::testing::TinyModel(config).gguf();
  const Gguf file = Gguf::parse(bytes, "tiny").value();
  ModelProgram model = build_program(file).value();
  ThreadPool pool(1);
  WeightStore weights = load_weights(file, model, pool).value();
  CacheOptions caches;
  caches.context = 24;
  caches.chunk = 8;
  caches.sinks = true;
  caches.sink_tokens = 4;
  caches.sink_window = 20;
  return {Engine::create(std::move(model.program), std::move(weights), {Math::a16, Isa::scalar}).value(), caches};
}

// One layer each way, with a cross cache.
OpenStream encoder_stream() {
  kvass::testing::TinyEncoderConfig config;
  config.layers = 1;
  config.frames = 20;
  CacheOptions caches;
  caches.context = config.context;
  caches.chunk = 8;
  caches.dtype = DType::f32;
  return {kvass::testing::TinyEncoder(config).engine(Isa::scalar), caches};
}

void put(uint8_t* at, const Hash128& hash) {
  for (int i = 0; i < 8; ++i) at[i] = static_cast<uint8_t>(hash.low >> (8 * i));
  for (int i = 0; i < 8; ++i) at[8 + i] = static_cast<uint8_t>(hash.high >> (8 * i));
}

void try_to_restore(OpenStream& stream, std::span<const uint8_t> bytes) {
  const Result<Snapshot> snapshot = Snapshot::parse(bytes, "fuzz");
  const Status status = snapshot.ok() ? snapshot->restore(*stream.sequence) : snapshot.status();
  if (!status.ok()) {
    require(status.message().find('\n') == std::string::npos);
    return;
  }
  require(stream.sequence->length() == snapshot->info().length);
  const int32_t token = 5;
  const Run run{stream.sequence.get(), stream.sequence->length(), std::span(&token, 1)};
  const CrossCache* const cross = stream.sequence->cross();
  const bool hears = !stream.engine->program().has_encoder() || (cross != nullptr && cross->rows() > 0);
  const bool room = stream.sequence->endless() || stream.sequence->length() < stream.sequence->options().context;
  require(stream.session->step({std::span(&run, 1)}).ok() == (hears && room));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static OpenStream streams[] = {text_stream(), encoder_stream()};
  for (OpenStream& stream : streams) {
    try_to_restore(stream, {data, size});
    std::vector<uint8_t> bytes(data, data + size);
    uint64_t header = 0;
    if (size >= kSnapshotFixedBytes) {
      for (int i = 0; i < 8; ++i) header |= uint64_t{bytes[16 + static_cast<size_t>(i)]} << (8 * i);
    }
    if (header < kSnapshotFixedBytes + 16 || header > size) continue;
    const auto at = static_cast<size_t>(header);
    put(bytes.data() + 32, hash_bytes(std::span(bytes).subspan(at)));
    put(bytes.data() + 48, stream.engine->fingerprint());
    put(bytes.data() + at - 16, hash_bytes(std::span(bytes).first(at - 16)));
    try_to_restore(stream, bytes);
  }
  return 0;
}
