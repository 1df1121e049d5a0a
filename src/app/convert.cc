#include "app/convert.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "app/model_contents.h"
#include "app/model_names.h"
#include "app/stream_options.h"
#include "base/new_file.h"
#include "base/thread_pool.h"
#include "file/gguf_writer.h"
#include "kvp/kvp.h"
#include "model/model.h"
#include "model/rows.h"
#include "ops/linear/requantise.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace kvass {
namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr size_t kWaveBytes = size_t{8} << 20;  // of a tensor in memory at a time

// Keys that are about the old file, not the model.
constexpr std::string_view kOfTheFile[] = {"general.alignment", "split.no", "split.count", "split.tensors.count"};

// general.file_type of a file whose matrices are of this type.
std::optional<uint32_t> file_type(WeightType type) {
  switch (type) {
    case WeightType::F32:
      return 0;
    case WeightType::F16:
      return 1;
    case WeightType::Q4_0:
      return 2;
    case WeightType::Q8_0:
      return 7;
    case WeightType::BF16:
      return 32;
    default:
      return std::nullopt;
  }
}

struct Output {
  const GgufTensor* tensor = nullptr;
  WeightType type = WeightType::F32;
  size_t row_bytes = 0;
  size_t offset = 0;  // from the start of the data
};

class Converter {
 public:
  Converter(const Gguf& model, std::optional<WeightType> type) : model_(model), type_(type) {}

  // What every tensor becomes: matrices of the program are converted, all others stay.
  Status plan() {
    KVASS_ASSIGN_OR_RETURN(const ModelProgram program, build_program(model_));
    std::set<std::string_view> matrices;
    for (size_t i = 0; i < program.tensors.size(); ++i) {
      if (program.program.weights[i].outputs > 0) matrices.insert(program.tensors[i]);
    }
    for (const GgufEntry& entry : model_.entries()) {
      const bool file_type_key = type_ && entry.key == "general.file_type";
      if (file_type_key || std::count(std::begin(kOfTheFile), std::end(kOfTheFile), entry.key) > 0) continue;
      writer_.copy(entry);
      ++entries_;
    }
    if (type_ && file_type(*type_)) {
      writer_.u32("general.file_type", *file_type(*type_));
      ++entries_;
    }
    for (const GgufTensor& tensor : model_.tensors()) {
      Output output{&tensor, WeightType::F32, 0, 0};
      KVASS_ASSIGN_OR_RETURN(const WeightType own, weight_type_of(tensor.type));
      const bool matrix = matrices.contains(tensor.name);
      output.type = stored_type(own, tensor.row_elements(), matrix ? type_ : std::optional<WeightType>());
      output.row_bytes = source_row_bytes(output.type, tensor.row_elements());
      converted_ += output.type != own;
      output.offset = writer_.announce(tensor.name, ggml_type(output.type, tensor.type), tensor.shape,
                                       output.row_bytes * static_cast<size_t>(tensor.rows()));
      outputs_.push_back(output);
    }
    return {};
  }

  Result<size_t> write(NewFile& file, ThreadPool& pool, const OnProgress& progress) const {
    const std::vector<uint8_t> head = writer_.finish();
    KVASS_RETURN_IF_ERROR(file.write(0, head));
    size_t end = head.size();
    for (const Output& output : outputs_) {
      KVASS_RETURN_IF_ERROR(write(output, head.size() + output.offset, file, pool));
      end = head.size() + output.offset + output.row_bytes * static_cast<size_t>(output.tensor->rows());
      if (progress) progress(end, head.size() + data_bytes());
    }
    // Readers want the last tensor padded like the others.
    const std::vector<uint8_t> rest((kAlignment - end % kAlignment) % kAlignment);
    if (!rest.empty()) KVASS_RETURN_IF_ERROR(file.write(end, rest));
    return end + rest.size();
  }

  size_t converted() const { return converted_; }
  size_t entries() const { return entries_; }

 private:
  // Up to the end of the last tensor.
  size_t data_bytes() const {
    if (outputs_.empty()) return 0;
    const Output& last = outputs_.back();
    return last.offset + last.row_bytes * static_cast<size_t>(last.tensor->rows());
  }

  static constexpr size_t kAlignment = 32;  // bytes: the writer's default

  static GgmlType ggml_type(WeightType type, GgmlType own) {
    switch (type) {
#define KVASS_WEIGHT_TYPE(name, number, elements, bytes, format) \
  case WeightType::name:                                         \
    return GgmlType::name;
#include "base/weight_types.inc"
      default:
        return own;
    }
  }

  Status write(const Output& output, size_t at, NewFile& file, ThreadPool& pool) const {
    const GgufTensor& tensor = *output.tensor;
    const int64_t rows = tensor.bytes == 0 ? 0 : tensor.rows();
    const int64_t wave = std::max<int64_t>(1, static_cast<int64_t>(kWaveBytes / std::max<size_t>(1, output.row_bytes)));
    std::vector<uint8_t> bytes(static_cast<size_t>(std::min(wave, rows)) * output.row_bytes);
    for (int64_t first = 0; first < rows; first += wave) {
      const int64_t count = std::min(wave, rows - first);
      const int64_t task = std::max<int64_t>(1, (count + 4 * pool.threads() - 1) / (4 * pool.threads()));
      pool.run((count + task - 1) / task, [&](int64_t i, int) {
        const int64_t begin = i * task, end = std::min(count, begin + task);
        convert_rows(tensor, output.type, first + begin, end - begin,
                     bytes.data() + static_cast<size_t>(begin) * output.row_bytes);
      });
      const size_t size = static_cast<size_t>(count) * output.row_bytes;
      KVASS_RETURN_IF_ERROR(file.write(at + static_cast<size_t>(first) * output.row_bytes, {bytes.data(), size}));
    }
    if (tensor.bytes > 0) model_.release(tensor, 0, tensor.bytes);
    return {};
  }

  const Gguf& model_;
  std::optional<WeightType> type_;
  GgufWriter writer_;
  std::vector<Output> outputs_;
  size_t converted_ = 0, entries_ = 0;
};

}  // namespace

Result<ConvertSummary> convert_model(const ConvertOptions& options) {
  const std::string path = model_path(options.model);
  if (is_part_name(options.out))
    return bad_input(options.out, "a name that is not that of a part of a split model", "such a name");
  KVASS_RETURN_IF_ERROR(check_replaceable(options.out, kMagic, "a GGUF file"));
  std::optional<WeightType> type;
  if (!options.weights.empty()) {
    KVASS_ASSIGN_OR_RETURN(type, parse_weight_type(options.weights));
  }
  KVASS_ASSIGN_OR_RETURN(const FileLock lock, FileLock::acquire(options.out));
  KVASS_ASSIGN_OR_RETURN(const ModelContents contents, open_contents(path));
  if (!std::holds_alternative<Gguf>(contents.file)) {
    return bad_input(path, "a GGUF file or a Hugging Face folder of a text model",
                     contents.format == "kvp" ? "a .kvp file, whose weights are packed" : "a speech model");
  }
  const auto& model = std::get<Gguf>(contents.file);
  Converter converter(model, type);
  KVASS_RETURN_IF_ERROR(converter.plan());
  if (model.has("tokenizer.ggml.model")) {
    KVASS_ASSIGN_OR_RETURN(const Vocabulary vocabulary, read_vocabulary(model));
    KVASS_RETURN_IF_ERROR(Tokenizer::create(vocabulary).status());
  }
  KVASS_ASSIGN_OR_RETURN(const int threads, resolve_threads(options.threads));
  ThreadPool pool(threads);
  KVASS_ASSIGN_OR_RETURN(NewFile file, NewFile::create(options.out, &lock));
  ConvertSummary summary;
  KVASS_ASSIGN_OR_RETURN(summary.file_bytes, converter.write(file, pool, options.on_written));
  KVASS_RETURN_IF_ERROR(model.check());
  KVASS_RETURN_IF_ERROR(file.commit());
  summary.tensors = model.tensors().size();
  summary.metadata = converter.entries();
  summary.converted = converter.converted();
  if (!model.has("tokenizer.ggml.model")) {
    summary.warnings.push_back(path + ": no tokenizer (of a folder: no tokenizer.json); the new file has none either");
  }
  if (!lock.warning().empty()) summary.warnings.push_back(lock.warning());
  return summary;
}

}  // namespace kvass
