// One side of attention_torch.py: decodes over tensors in a file that another process has mapped too, when it is told
// to.
//
//     attention_operator FILE HEADS KV_HEADS HEAD_DIM DTYPE KEYS THREADS
//
// FILE: k, v [KV_HEADS][KEYS][HEAD_DIM], then q, out [HEADS][HEAD_DIM], all of DTYPE. A line of stdin is one call; the
// answer is its nanoseconds. "read" reads k and v instead, and answers with that time.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "kvass/ops.h"

namespace {

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
  for (std::string line; std::getline(std::cin, line);) {
    const auto begin = std::chrono::steady_clock::now();
    if (line == "read") {
      read_all(data, 2 * key_bytes, threads);
    } else if (const kvass::Status status = attention(context.value(), q, k, v, {}, out); !status.ok()) {
      std::fprintf(stderr, "%s\n", status.message().c_str());
      return 1;
    }
    const auto time = std::chrono::steady_clock::now() - begin;
    std::cout << std::chrono::duration_cast<std::chrono::nanoseconds>(time).count() << std::endl;
  }
}
