// One side of attention_torch.py: decodes over tensors in a file that another process has mapped too. Each line on
// stdin starts one call.
//
//     attention_operator FILE HEADS KV_HEADS HEAD_DIM DTYPE KEYS THREADS
//
// FILE: k, v [KV_HEADS][KEYS][HEAD_DIM], then q, out [HEADS][HEAD_DIM], all of DTYPE. A line of stdin is one call; the
// answer is its nanoseconds. "attention" is the operator on these tensors, "tiles" the same over a cache's tiles of
// DTYPE that hold copies of them (its float32 result, rounded, in out too); "read" only reads k and v.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "base/block.h"
#include "base/cpu.h"
#include "base/float16.h"
#include "kvass/ops.h"
#include "ops/attention/attention.h"
#include "ops/cache_write/cache_write.h"

namespace {

using kvass::DType;

std::atomic<uint64_t> sink{0};

void read_all(const uint8_t* data, size_t bytes, int threads) {
  std::vector<std::thread> workers;
  for (int t = 0; t < threads; ++t) {
    workers.emplace_back([=] {
      const size_t part = bytes / static_cast<size_t>(threads) / 64 * 64;
      const uint64_t* words = reinterpret_cast<const uint64_t*>(data + part * static_cast<size_t>(t));
      uint64_t sum[8] = {};
      for (size_t i = 0; i + 8 <= part / 8; i += 8) {
        for (size_t j = 0; j < 8; ++j) sum[j] += words[i + j];
      }
      for (const uint64_t x : sum) sink += x;
    });
  }
  for (std::thread& worker : workers) worker.join();
}

float load(const void* data, DType dtype, size_t i) {
  if (dtype == DType::f32) return static_cast<const float*>(data)[i];
  const uint16_t bits = static_cast<const uint16_t*>(data)[i];
  return dtype == DType::f16 ? kvass::f16_to_float(bits) : kvass::bf16_to_float(bits);
}
void store(float x, void* data, DType dtype, size_t i) {
  if (dtype == DType::f32) {
    static_cast<float*>(data)[i] = x;
  } else {
    static_cast<uint16_t*>(data)[i] = dtype == DType::f16 ? kvass::float_to_f16(x) : kvass::float_to_bf16(x);
  }
}

// A cache that holds the keys and values, as a sequence of a model would.
class TiledCache {
 public:
  TiledCache(const kvass::ConstTensor& k, const kvass::ConstTensor& v, int64_t heads, int threads)
      : pool_(threads), isa_(kvass::default_isa().value()) {
    const int64_t keys = k.shape[2], head_dim = k.shape[3], width = k.shape[1] * head_dim;
    shape_ = {k.dtype, k.shape[1], head_dim};
    run_.rows = 1;
    run_.body.tiles = (keys + kvass::kTileKeys - 1) / kvass::kTileKeys;
    cache_ = kvass::Block::map(shape_.segment_bytes(run_.body.tiles)).value();
    run_.body.data = cache_.data();
    scratch_ =
        kvass::Block::map(kvass::attention_scratch_bytes(1, heads, shape_.kv_heads, head_dim, pool_.threads())).value();
    visible_ = {0, 0, keys};
    run_.visible = &visible_;
    std::vector<float> k_row(static_cast<size_t>(width)), v_row(k_row.size());
    for (int64_t key = 0; key < keys; ++key) {
      for (int64_t i = 0; i < width; ++i) {
        const size_t at = static_cast<size_t>((i / head_dim * keys + key) * head_dim + i % head_dim);
        k_row[static_cast<size_t>(i)] = load(k.data, k.dtype, at);
        v_row[static_cast<size_t>(i)] = load(v.data, v.dtype, at);
      }
      const kvass::CacheWriteRun write{0, 1, key, {}, run_.body};
      kvass::CacheWriteArgs args;
      args.k = k_row.data();
      args.v = v_row.data();
      args.shape = shape_;
      args.runs = {&write, 1};
      kvass::cache_write(args, pool_, isa_);
    }
    args_.heads = heads;
    args_.shape = shape_;
    args_.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
    args_.runs = {&run_, 1};
  }
  void attend(const float* q, float* out) {
    args_.q = q;
    args_.out = out;
    args_.q_stride = args_.out_stride = args_.heads * shape_.head_dim;
    kvass::attention(args_, scratch_.data(), pool_, isa_);
  }

 private:
  kvass::ThreadPool pool_;
  kvass::Isa isa_;
  kvass::TileShape shape_;
  kvass::Block cache_, scratch_;
  kvass::RowVisibility visible_;
  kvass::AttentionRun run_;
  kvass::AttentionArgs args_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 8) return 2;
  const int64_t heads = std::atoll(argv[2]), kv_heads = std::atoll(argv[3]), head_dim = std::atoll(argv[4]);
  const std::string name = argv[5];
  const int64_t keys = std::atoll(argv[6]);
  const int threads = std::atoi(argv[7]);
  const kvass::DType dtype = name == "f32" ? kvass::DType::f32 : name == "f16" ? kvass::DType::f16 : kvass::DType::bf16;
  const size_t key_bytes = static_cast<size_t>(kv_heads * keys * head_dim) * kvass::dtype_bytes(dtype);
  const size_t row_bytes = static_cast<size_t>(heads * head_dim) * kvass::dtype_bytes(dtype);
  const int file = open(argv[1], O_RDWR);
  struct stat info {};
  if (file < 0 || fstat(file, &info) != 0 || static_cast<size_t>(info.st_size) < 2 * (key_bytes + row_bytes)) return 1;
  auto* data = static_cast<uint8_t*>(
      mmap(nullptr, 2 * (key_bytes + row_bytes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0));
  if (data == MAP_FAILED) return 1;
  kvass::Result<kvass::OpContext> context = kvass::OpContext::create({threads, ""});
  if (!context.ok()) return 1;

  const kvass::ConstTensor k(data, dtype, {1, kv_heads, keys, head_dim});
  const kvass::ConstTensor v(data + key_bytes, dtype, {1, kv_heads, keys, head_dim});
  const kvass::ConstTensor q(data + 2 * key_bytes, dtype, {1, heads, 1, head_dim});
  const kvass::Tensor out(data + 2 * key_bytes + row_bytes, dtype, {1, heads, 1, head_dim});
  TiledCache cache(k, v, heads, threads);
  std::vector<float> query(static_cast<size_t>(heads * head_dim)), result(query.size());
  for (size_t i = 0; i < query.size(); ++i) query[i] = load(q.data, dtype, i);
  for (std::string line; std::getline(std::cin, line);) {
    const auto begin = std::chrono::steady_clock::now();
    if (line == "read") {
      read_all(data, 2 * key_bytes, threads);
    } else if (line == "tiles") {
      cache.attend(query.data(), result.data());
      for (size_t i = 0; i < result.size(); ++i) store(result[i], out.data, dtype, i);
    } else if (const kvass::Status status = attention(context.value(), q, k, v, {}, out); !status.ok()) {
      std::fprintf(stderr, "%s\n", status.message().c_str());
      return 1;
    }
    const auto time = std::chrono::steady_clock::now() - begin;
    std::cout << std::chrono::duration_cast<std::chrono::nanoseconds>(time).count() << std::endl;
  }
}
