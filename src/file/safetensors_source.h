// A .safetensors file as a TensorSource: its own names, with or without "model." before them.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "file/safetensors.h"
#include "file/tensor_source.h"

namespace kvass {

class SafeTensorsSource final : public TensorSource {
 public:
  static Result<SafeTensorsSource> open(const std::string& path);
  SafeTensorsSource(SafeTensors file, std::string name) : file_(std::move(file)), name_(std::move(name)) {}

  const std::string& name() const override { return name_; }
  bool has(std::string_view tensor) const override { return find(tensor) != nullptr; }
  Result<SourceTensor> tensor(std::string_view tensor) const override;
  std::vector<std::string> names() const override;
  Status check() const override { return file_.check(); }
  void release(std::span<const uint8_t> bytes) const override { file_.release(bytes); }

 private:
  const SafeTensor* find(std::string_view tensor) const;

  SafeTensors file_;
  std::string name_;
};

}  // namespace kvass
