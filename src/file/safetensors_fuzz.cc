// libFuzzer: for any bytes, parsing gives tensors whose every byte can be read, or a one-line error.
#include <cstdint>
#include <cstdlib>

#include "file/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const kvass::Result<kvass::SafeTensors> file = kvass::SafeTensors::parse({data, size}, "fuzz");
  if (!file.ok()) {
    if (file.status().message().find('\n') != std::string::npos) std::abort();
    return 0;
  }
  [[maybe_unused]] static volatile size_t sink;  // keeps the reads
  size_t sum = 0;
  for (const auto& [name, tensor] : file->tensors()) {
    if (file->find(name) != &tensor || tensor.elements() < 0) std::abort();
    for (uint8_t byte : tensor.bytes) sum += byte;
  }
  sink = sum;
  return 0;
}
