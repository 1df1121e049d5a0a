// The job of `kvass inspect`: what a model file or a snapshot holds, and the program that kvass makes of a model. Reads
// metadata and the tensor table, no weights; a snapshot is verified.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "kvass/status.h"

namespace kvass {

struct FileEntry {
  std::string key;
  std::string type;                                        // "u32", "string", "f32[262144]"
  std::string shown;                                       // for people: long arrays and texts are cut
  std::variant<std::string, int64_t, double, bool> value;  // a scalar as it is; of an array, `shown`
};

struct FileTensor {
  std::string name;
  std::string type;            // "Q8_0"
  std::vector<int64_t> shape;  // the contiguous dimension first
  size_t bytes = 0;
};

struct FileSummary {
  std::string kind;  // "gguf", "kvass snapshot"
  uint32_t version = 0;
  std::vector<FileEntry> metadata;  // in the file's order, as are the tensors
  std::vector<FileTensor> tensors;
};
Result<FileSummary> inspect_file(const std::string& path);

struct ProgramSummary {
  std::string family;  // "gemma3"
  std::string text;    // one line an operator
};
Result<ProgramSummary> inspect_program(const std::string& path);

}  // namespace kvass
