// How fast this machine reads memory now: THREADS threads read one buffer from end to end, again and again; printed is the
// median pass in GB/s (10^9 bytes). The buffer is at least four times the last-level cache, so that it comes from memory.
// usage: read_bandwidth [THREADS [SECONDS]]
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace {

// Eight independent sums keep as many loads in flight as the core can.
uint64_t sum(const uint64_t* words, size_t count) {
  uint64_t sums[8] = {};
  for (size_t i = 0; i + 8 <= count; i += 8) {
    for (size_t lane = 0; lane < 8; ++lane) sums[lane] += words[i + lane];
  }
  uint64_t total = 0;
  for (uint64_t lane : sums) total += lane;
  return total;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : static_cast<int>(std::thread::hardware_concurrency());
  const double seconds = argc > 2 ? std::atof(argv[2]) : 0.5;
  if (threads < 1 || seconds <= 0) {
    std::fprintf(stderr, "usage: read_bandwidth [THREADS [SECONDS]]\n");
    return 2;
  }
  const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
  const size_t wanted = std::max<size_t>(cache > 0 ? 4 * static_cast<size_t>(cache) : 0, size_t{256} << 20);
  const size_t words_each = wanted / sizeof(uint64_t) / static_cast<size_t>(threads) / 64 * 64;
  const size_t bytes = words_each * sizeof(uint64_t) * static_cast<size_t>(threads);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("read_bandwidth: mmap");
    return 1;
  }
  madvise(memory, bytes, MADV_HUGEPAGE);
  const uint64_t* words = static_cast<const uint64_t*>(memory);

  std::vector<double> rates;  // GB/s per pass; written by the barrier's completion alone
  bool done = false;
  auto start = std::chrono::steady_clock::now();
  const auto end = start + std::chrono::duration<double>(seconds);
  bool first = true;
  auto pass_ended = [&]() noexcept {
    const auto now = std::chrono::steady_clock::now();
    if (!first) rates.push_back(static_cast<double>(bytes) / std::chrono::duration<double>(now - start).count() / 1e9);
    first = false;
    done = now >= end && !rates.empty();
    start = now;
  };
  std::barrier barrier(threads, pass_ended);
  std::vector<uint64_t> totals(static_cast<size_t>(threads));
  auto read = [&](int thread) {
    uint64_t* mine = static_cast<uint64_t*>(memory) + static_cast<size_t>(thread) * words_each;
    std::memset(mine, 1, words_each * sizeof(uint64_t));
    barrier.arrive_and_wait();
    uint64_t total = 0;
    while (!done) {
      total += sum(words + static_cast<size_t>(thread) * words_each, words_each);
      barrier.arrive_and_wait();
    }
    totals[static_cast<size_t>(thread)] = total;
  };
  std::vector<std::jthread> pool;
  for (int thread = 1; thread < threads; ++thread) pool.emplace_back(read, thread);
  read(0);
  pool.clear();

  std::nth_element(rates.begin(), rates.begin() + static_cast<std::ptrdiff_t>(rates.size() / 2), rates.end());
  std::printf("%.1f\n", rates[rates.size() / 2]);
  volatile uint64_t keep = totals[0];  // the sums are used, so that the reads are not removed
  (void)keep;
  return 0;
}
