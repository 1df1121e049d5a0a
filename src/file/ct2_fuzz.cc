// libFuzzer: for any bytes, parsing gives variables and tensors whose every byte can be read, or a one-line error.
#include <cstdint>
#include <cstdlib>

#include "file/ct2.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto refused = [](const kvass::Status& status) {
    if (status.message().find('\n') != std::string::npos) std::abort();
  };
  const kvass::Result<kvass::Ct2Model> model = kvass::Ct2Model::parse({data, size}, "fuzz");
  if (!model.ok()) {
    refused(model.status());
    return 0;
  }
  [[maybe_unused]] static volatile double sink;  // keeps the reads
  double sum = 0;
  for (const auto& [name, variable] : model->variables()) {
    for (uint8_t byte : variable.data) sum += byte;
    if (kvass::Result<int64_t> value = model->integer(name); value.ok()) sum += static_cast<double>(value.value());
  }
  for (const std::string& name : model->names()) {
    const kvass::Result<kvass::SourceTensor> tensor = model->tensor(name);
    if (!tensor.ok()) {
      refused(tensor.status());
      continue;
    }
    std::vector<float> row(static_cast<size_t>(tensor->row_elements()));
    for (int64_t i = 0; i < tensor->rows(); ++i) {
      if (!tensor->read_rows(i, 1, row.data())) std::abort();
      for (float value : row) sum += value > 0.0f;
    }
  }
  sink = sum;
  return 0;
}
