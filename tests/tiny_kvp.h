// A small model as a .kvp file. Its parts can be changed before they are written, so that tests can make each of them
// wrong.
#pragma once

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/hash.h"
#include "kvp/kvp.h"
#include "model/model.h"
#include "session/session.h"
#include "tiny_model.h"

namespace kvass::testing {

struct KvpParts {
  KvpModel model;
  Vocabulary vocabulary;
  WeightStore weights;
  std::vector<int64_t> cache_lens;

  KvpParts() : KvpParts(plain(), false) {}
  explicit KvpParts(const TinyConfig& config, bool decode_method = false)
      : KvpParts(TinyModel(config).gguf(), decode_method) {}

  // Plans methods and cache lengths for the current program and caches.
  void plan(bool decode_method = false) {
    SessionOptions options;
    options.rows = model.caches.chunk;
    options.decode_method = decode_method;
    model.methods = plan_methods(model.program, model.math, options).value();
    std::vector<CacheShape> shapes;
    for (const CacheState& state : model.program.states) {
      shapes.push_back({state.kv_heads, state.head_dim, state.window});
    }
    cache_lens = kvass::cache_lens(shapes, model.caches).value();
  }

  Status write(const std::string& path) const {
    return write_kvp(path, model, vocabulary, weights, cache_lens).status();
  }

 private:
  // The file of the default configuration, made once.
  static const std::vector<uint8_t>& plain() {
    static const std::vector<uint8_t> bytes = TinyModel().gguf();
    return bytes;
  }
  KvpParts(std::vector<uint8_t> gguf, bool decode_method) : gguf_(std::move(gguf)) {
    const Gguf file = Gguf::parse(gguf_, "tiny").value();
    ModelProgram built = build_program(file).value();
    ThreadPool pool(1);
    weights = load_weights(file, built, pool).value();
    vocabulary = read_vocabulary(file).value();
    model.producer = "test";
    model.family = built.family;
    model.trained_context = built.trained_context;
    model.program = std::move(built.program);
    model.caches.context = 64;
    model.caches.chunk = 8;
    plan(decode_method);
  }

  std::vector<uint8_t> gguf_;
};

// Bytes at an address that is a multiple of 64.
class AlignedBytes {
 public:
  explicit AlignedBytes(std::span<const uint8_t> bytes) : memory_(bytes.size() + 64), size_(bytes.size()) {
    data_ = memory_.data() + (64 - reinterpret_cast<uintptr_t>(memory_.data()) % 64) % 64;
    std::copy(bytes.begin(), bytes.end(), data_);
  }
  AlignedBytes(const AlignedBytes&) = delete;
  uint8_t* data() { return data_; }
  std::span<uint8_t> span() { return {data_, size_}; }

 private:
  std::vector<uint8_t> memory_;
  size_t size_;
  uint8_t* data_;
};

// Corrects the table's hash after the table was changed. The header must still have the place of the table.
inline void rehash_kvp(std::span<uint8_t> bytes) {
  uint64_t offset = 0, size = 0;
  if (bytes.size() < kKvpHeaderBytes) return;
  std::memcpy(&offset, bytes.data() + 16, 8);
  std::memcpy(&size, bytes.data() + 24, 8);
  if (offset > bytes.size() || size > bytes.size() - offset) return;
  const Hash128 hash = hash_bytes(bytes.subspan(offset, size));
  std::memcpy(bytes.data() + 40, &hash.low, 8);
  std::memcpy(bytes.data() + 48, &hash.high, 8);
}

inline std::vector<uint8_t> bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::string temporary_path(const std::string& name) {
  return (std::filesystem::temp_directory_path() / ("kvass_" + std::to_string(::getpid()) + "_" + name)).string();
}

}  // namespace kvass::testing
