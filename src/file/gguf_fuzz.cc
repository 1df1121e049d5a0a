// libFuzzer: for any bytes, parsing gives a file whose every value can be read, or a one-line error.
#include <cstdint>
#include <cstdlib>

#include "file/gguf.h"
#include "file/gguf_touch.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const kvass::Result<kvass::Gguf> file = kvass::Gguf::parse({data, size}, "fuzz");
  if (!file.ok()) {
    if (file.status().message().find('\n') != std::string::npos) std::abort();
    return 0;
  }
  [[maybe_unused]] static volatile size_t sink;  // keeps the reads
  sink = kvass::touch(file.value());
  return 0;
}
