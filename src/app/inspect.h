// The job of `kvass inspect`: what a model file, a program or a snapshot holds, and the program that kvass makes of a
// model. Reads metadata and the tensor table, no weights (unless their hashes are asked for); a program and a snapshot
// are verified.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "app/speech_source.h"
#include "kvass/cache_plan.h"
#include "kvass/status.h"
#include "kvp/kvp.h"
#include "plan/method.h"
#include "program/program.h"

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
  std::string kind;                 // "gguf", "safetensors", "kvass program", "kvass snapshot"
  uint32_t version = 0;             // 0: the format has none
  std::vector<FileEntry> metadata;  // in the file's order, as are the tensors
  std::vector<FileTensor> tensors;
};
FileSummary summary_of(const KvpFile& file);
Result<FileSummary> summary_of(const SpeechSource& source);
Result<FileSummary> inspect_file(const std::string& path_or_name);  // a name: model_names.h

// What a .kvp has beside that: the program with its plans.
struct StaticProgram {
  Program program;
  CachePlan caches;
  std::vector<int64_t> cache_lens;  // [states] visible tokens, by the export rule
  std::vector<MethodPlan> methods;
};
// `check`: the hashes of the weights, too.
Result<StaticProgram> inspect_static(const std::string& path, bool check);

// Layers whose queries see alike, and what those of a step at `position` see: the step's visibility table as a mask.
struct LayerMask {
  std::vector<size_t> layers;
  Layout layout;
  int64_t position = 0;  // of the first row
  std::vector<RowVisibility> rows;
};
std::vector<LayerMask> layer_masks(const CachePlan& caches, int64_t position, int64_t rows);

// The arena of a method over its ops as an SVG: a box for each value and workspace, as long as it lives.
std::string arena_svg(const Program& program, const MethodPlan& method);

struct ProgramSummary {
  std::string family;  // "gemma3"
  std::string text;    // one line an operator
};
Result<ProgramSummary> inspect_program(const std::string& path);

// Whether devices have the operator; otherwise programs with it run on the CPU only.
bool runs_on_devices(OpKind kind);

}  // namespace kvass
