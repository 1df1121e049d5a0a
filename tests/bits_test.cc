// The bits that this numerics version promises on every machine, as checksums in data/bits.txt: whole tiny models of
// every family, with every kind of arithmetic, cache type and layout. Each fast instruction set of this machine must
// give them; x86-64 and AArch64 use the same file. After a change of the numerics, KVASS_WRITE_BITS=<folder> writes the
// new data/bits.txt and data/bits.kvp.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <span>
#include <sstream>
#include <string>

#include "base/hash.h"
#include "kvp/kvp.h"
#include "streams.h"
#include "tiny_kvp.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

using Checksums = std::map<std::string, std::string>;  // case -> hash of all logits

Checksums promised(const std::string& folder) {
  Checksums checksums;
  std::ifstream file(folder + "/bits.txt");
  for (std::string line; std::getline(file, line);) {
    std::istringstream fields(line);
    std::string name, hash;
    if (fields >> name >> hash && name[0] != '#') checksums[name] = hash;
  }
  return checksums;
}

std::string hash_of(const std::vector<float>& logits) {
  return hash_text(
      hash_bytes(std::span(reinterpret_cast<const uint8_t*>(logits.data()), logits.size() * sizeof(float))));
}

// A chunk, single tokens, another chunk: both prefill and decode kernels run.
std::string stream_hash(const EnginePtr& engine, const CacheOptions& caches, std::span<const int32_t> tokens) {
  const int64_t chunk = caches.chunk;
  return hash_of(run_stream(engine, caches, tokens, {chunk, 1, 1, chunk / 2, chunk}));
}

// The hash for bits.kvp, a static program that one machine has exported.
std::string program_hash(const std::string& folder, Isa isa) {
  Result<KvpFile> file = KvpFile::open(folder + "/bits.kvp");
  EXPECT_TRUE(file.ok()) << file.status().message();
  if (!file.ok()) return "none";
  Program program = file->model().program;
  const CacheOptions caches = file->model().caches;
  const Math math = file->model().math;
  const EnginePtr engine =
      Engine::create(std::move(program), std::move(file.value()).take_weights(), {math, isa}).value();
  return stream_hash(engine, caches, TinyModel().tokens(60));
}

Checksums checksums_of(const std::string& folder, Isa isa) {
  Checksums checksums;
  checksums["kvp/gemma3"] = program_hash(folder, isa);
  const TinyModel gemma;
  for (const Math math : {Math::f32, Math::a16, Math::a8}) {
    const EnginePtr engine = tiny_engine(gemma, math, isa);
    const std::string name = "gemma3/" + std::string(math_name(math)) + "/";
    const std::vector<int32_t> tokens = gemma.tokens(90);
    for (const DType dtype : kDTypes) {
      checksums[name + std::string(dtype_name(dtype))] = stream_hash(engine, flat_caches(90, 40, dtype), tokens);
    }
    checksums[name + "sinks"] = stream_hash(engine, sink_caches(4, 20, 16), tokens);
  }
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    TinyConfig config = tiny_llama(architecture);
    config.head_dim = 32;
    config.heads = 3;
    config.kv_heads = 1;
    const TinyModel model(config);
    const EnginePtr engine = tiny_engine(model, Math::a16, isa);
    checksums[std::string(architecture) + "/a16/f16"] = stream_hash(engine, flat_caches(70, 32), model.tokens(70));
  }
  for (const GgmlType type : kFileTypes) {
    const TinyModel model(tiny_of({type}));
    for (const Math math : {Math::f32, Math::a16, Math::a8}) {
      const std::string name = std::string(ggml_type_name(type)) + "/" + std::string(math_name(math));
      checksums[name] = stream_hash(tiny_engine(model, math, isa), flat_caches(30, 20), model.tokens(30));
    }
  }
  return checksums;
}

TEST(Bits, AreThoseOfEveryOtherMachine) {
  std::string folder = KVASS_TEST_DATA_DIR;
  if (const char* path = std::getenv("KVASS_WRITE_BITS")) {
    folder = path;
    TinyConfig config;
    config.layers = 3;
    ASSERT_TRUE(KvpParts(config).write(folder + "/bits.kvp").ok());
    const Checksums checksums = checksums_of(folder, Isa::scalar);
    std::ofstream file(folder + "/bits.txt");
    file << "# Written by bits_test.cc, compared on every machine: case, XXH3-128 of all logits as little-endian "
            "float32.\n";
    for (const auto& [name, hash] : checksums) file << name << " " << hash << "\n";
  }
  const Checksums expected = promised(folder);
  ASSERT_FALSE(expected.empty());
  for (const Isa isa : available_isas()) {
    if (isa == Isa::scalar && isa != best_isa()) continue;  // slow, and other tests compare scalar with the other sets
    EXPECT_EQ(checksums_of(folder, isa), expected) << isa_name(isa);
  }
}

}  // namespace
}  // namespace kvass
