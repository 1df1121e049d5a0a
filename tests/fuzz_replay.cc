// A fuzz target as a test, without libFuzzer: every file of a corpus, truncated to many lengths and with random bytes
// changed. The seed is fixed, so every run has the same inputs; KVASS_TEST_SEED gives others.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "seed.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

// libsndfile keeps what libvorbis began for a file that is no Ogg stream after all (1.2.0).
extern "C" const char* __lsan_default_suppressions() {
  return "leak:vorbis_info_init\n";
}  // NOLINT: the sanitizer's name

namespace {

using Bytes = std::vector<uint8_t>;

constexpr int64_t kCuts = 200;     // number of lengths to which a file is truncated
constexpr int64_t kChanges = 400;  // number of inputs with changed bytes for each file

Bytes read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

// The input is in a block of exactly its size, so that a sanitizer detects a read of the first byte after it.
void run(const Bytes& input) {
  const Bytes exact(input.begin(), input.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

Bytes changed(const Bytes& seed, kvass::testing::Random& random) {
  constexpr uint8_t kEdges[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
  Bytes input = seed;
  for (int64_t change = random.integer(1, 8); change > 0 && !input.empty(); --change) {
    const auto at = static_cast<size_t>(random.integer(0, static_cast<int64_t>(input.size()) - 1));
    const auto offset = static_cast<std::ptrdiff_t>(at);
    switch (random.integer(0, 4)) {
      case 0:
        input[at] = kEdges[random.integer(0, 4)];
        break;
      case 1:
        input[at] = static_cast<uint8_t>(input[at] ^ (1 << random.integer(0, 7)));
        break;
      case 2:
        input.erase(input.begin() + offset);
        break;
      case 3:
        input.insert(input.begin() + offset, static_cast<uint8_t>(random.bits()));
        break;
      default:
        std::fill_n(input.begin() + offset, std::min<size_t>(8, input.size() - at), kEdges[random.integer(0, 4)]);
    }
  }
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s CORPUS\n", argv[0]);
    return 2;
  }
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  if (paths.empty()) {
    std::fprintf(stderr, "%s: expected inputs, got none\n", argv[1]);
    return 1;
  }
  kvass::testing::Random random;
  int64_t inputs = 0;
  for (const std::filesystem::path& path : paths) {
    const Bytes seed = read(path);
    run(seed);
    const auto size = static_cast<int64_t>(seed.size());
    for (int64_t cut = 0; cut < std::min(kCuts, size); ++cut) {
      run(Bytes(seed.begin(), seed.begin() + cut * size / std::min(kCuts, size)));
    }
    for (int64_t change = 0; change < kChanges; ++change) run(changed(seed, random));
    inputs += 1 + std::min(kCuts, size) + kChanges;
  }
  std::printf("%lld inputs from %zu files\n", static_cast<long long>(inputs), paths.size());
  return 0;
}
