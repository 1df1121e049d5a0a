// libFuzzer: for any bytes, parsing gives pieces and tensors whose every byte can be read, or a one-line error.
#include <cstdint>
#include <cstdlib>

#include "file/ggml_speech.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const kvass::Result<kvass::GgmlSpeech> model = kvass::GgmlSpeech::parse({data, size}, "fuzz");
  if (!model.ok()) {
    if (model.status().message().find('\n') != std::string::npos) std::abort();
    return 0;
  }
  [[maybe_unused]] static volatile size_t sink;  // keeps the reads
  size_t sum = 0;
  for (const std::string& piece : model->pieces()) {
    for (char c : piece) sum += static_cast<unsigned char>(c);
  }
  for (const std::string& name : model->names()) {
    const kvass::Result<kvass::SourceTensor> tensor = model->tensor(name);
    if (!tensor.ok()) std::abort();
    for (uint8_t byte : tensor->data) sum += byte;
  }
  sink = sum;
  return 0;
}
