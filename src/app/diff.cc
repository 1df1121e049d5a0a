#include "app/diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>

#include "app/inspect.h"
#include "app/model_contents.h"
#include "app/model_names.h"
#include "file/one_line.h"
#include "kvp/kvp.h"
#include "model/model.h"
#include "model/rows.h"
#include "session/snapshot.h"

namespace kvass {
namespace {

struct Entry {
  std::string exact;  // equal exactly where the values are
  std::string shown;
};

struct TensorView {
  std::string type;
  std::vector<int64_t> shape;                                          // the contiguous dimension first; none: a scalar
  std::function<bool(int64_t first, int64_t count, float* out)> read;  // rows; false: not as numbers

  int64_t width() const { return shape.empty() ? 1 : shape[0]; }
  int64_t rows() const {
    int64_t count = 1;
    for (size_t i = 1; i < shape.size(); ++i) count *= shape[i];
    return count;
  }
  std::string text() const {
    std::string out = type;
    for (size_t i = 0; i < shape.size(); ++i) out += (i == 0 ? " " : " x ") + std::to_string(shape[i]);
    return out;
  }
};

// A file that is open for reading, with what its format has.
struct Readable {
  std::map<std::string, Entry> metadata;
  std::map<std::string, TensorView> tensors;
  std::function<Status()> check;
};

// The whole value of an entry, as it stands in the file.
std::string exact_value(const GgufEntry& entry) {
  return fmt::format("{} {} {}:", static_cast<int>(entry.type), static_cast<int>(entry.element), entry.count)
      .append(reinterpret_cast<const char*>(entry.data), entry.bytes);
}

TensorView view_of(const GgufTensor& tensor) {
  TensorView view{std::string(ggml_type_name(tensor.type)), tensor.shape, {}};
  view.read = [&tensor](int64_t first, int64_t count, float* out) {
    unpack_rows(tensor, first, count, out);
    return true;
  };
  return view;
}

Result<Readable> readable(Gguf opened) {
  const auto file = std::make_shared<const Gguf>(std::move(opened));
  Readable out;
  for (const GgufEntry& entry : file->entries()) {
    out.metadata[std::string(entry.key)] = {exact_value(entry), file->printable(entry)};
  }
  for (const GgufTensor& tensor : file->tensors()) out.tensors[tensor.name] = view_of(tensor);
  out.check = [file] { return file->check(); };
  return out;
}

void add_summary(const FileSummary& summary, Readable& out) {
  for (const FileEntry& entry : summary.metadata) {
    std::string exact = entry.type + " " + entry.shown;
    if (const auto* text = std::get_if<std::string>(&entry.value)) exact += " " + *text;
    out.metadata[entry.key] = {std::move(exact), entry.shown};
  }
}

Result<Readable> readable(KvpFile opened) {
  const auto file = std::make_shared<const KvpFile>(std::move(opened));
  Readable out;
  add_summary(summary_of(*file), out);
  for (size_t i = 0; i < file->model().program.weights.size(); ++i) {
    const Weight& weight = file->model().program.weights[i];
    const PackedWeight& matrix = file->matrices()[i];
    TensorView view{"F32", {weight.inputs}, {}};
    if (weight.outputs == 0) {
      view.read = [vector = file->vectors()[i], width = weight.inputs](int64_t, int64_t count, float* to) {
        if (count > 0) std::memcpy(to, vector, static_cast<size_t>(width) * sizeof(float));
        return true;
      };
    } else {
      view.type = weight_type_name(whole_type(matrix.type));
      view.shape.push_back(weight.outputs);
      view.read = [&matrix](int64_t first, int64_t count, float* to) {
        for (int64_t row = 0; row < count; ++row) unpack_row(matrix, first + row, to + row * matrix.k);
        return true;
      };
    }
    out.tensors[weight.name] = std::move(view);
  }
  out.check = [file] { return file->check(); };
  return out;
}

Result<Readable> readable(SpeechSource opened) {
  const auto source = std::make_shared<const SpeechSource>(std::move(opened));
  Readable out;
  KVASS_ASSIGN_OR_RETURN(const FileSummary summary, summary_of(*source));
  add_summary(summary, out);
  for (const std::string& name : source->tensors->names()) {
    KVASS_ASSIGN_OR_RETURN(SourceTensor tensor, source->tensors->tensor(name));
    TensorView view{tensor.is_int8() ? "I8" : std::string(ggml_type_name(tensor.type)), {}, {}};
    const int64_t width = tensor.row_elements();
    if (!tensor.shape.empty()) view.shape = {tensor.elements()};  // a vector
    if (tensor.shape.size() > 1) view.shape = {width, tensor.rows()};
    if (tensor.shape.size() > 1 || tensor.shape.empty()) {
      GgufTensor blocks;
      blocks.type = tensor.type;
      blocks.shape = {width, tensor.rows()};
      blocks.bytes = tensor.data.size();
      blocks.data = tensor.data.data();
      view.read = [tensor, blocks](int64_t first, int64_t count, float* to) {
        if (!tensor.read_rows(first, count, to)) unpack_rows(blocks, first, count, to);
        return true;
      };
    } else {
      view.read = [tensor](int64_t, int64_t count, float* to) {
        return count == 0 || tensor.read_rows(0, tensor.rows(), to);
      };
    }
    out.tensors[name] = std::move(view);
  }
  out.check = [source] { return source->tensors->check(); };
  return out;
}

Result<Readable> read_model(const std::string& path) {
  if (is_snapshot(path)) return bad_input(path, "a model", "a snapshot");
  KVASS_ASSIGN_OR_RETURN(ModelContents contents, open_contents(path));
  return std::visit([](auto&& file) { return readable(std::move(file)); }, std::move(contents.file));
}

// The largest difference, and where it is first.
Status compare_numbers(const TensorView& a, const TensorView& b, DifferentTensor& out) {
  constexpr int64_t kElements = int64_t{1} << 18;
  const int64_t width = a.width(), rows = width == 0 ? 0 : a.rows();
  const int64_t wave = std::max<int64_t>(1, kElements / std::max<int64_t>(1, width));
  std::vector<float> left(static_cast<size_t>(std::min(wave, rows) * width)), right(left.size());
  for (int64_t first = 0; first < rows; first += wave) {
    const int64_t count = std::min(wave, rows - first);
    if (!a.read(first, count, left.data()) || !b.read(first, count, right.data())) {
      return unsupported("tensor " + quoted_name(out.name), "a type that is read as numbers", out.a + " and " + out.b);
    }
    for (int64_t i = 0; i < count * width; ++i) {
      const float x = left[static_cast<size_t>(i)], y = right[static_cast<size_t>(i)];
      if (x == y || (std::isnan(x) && std::isnan(y))) continue;
      const double difference = std::fabs(static_cast<double>(x) - static_cast<double>(y));
      const double size = std::isnan(difference) ? std::numeric_limits<double>::infinity() : difference;
      if (!(size > out.largest)) continue;
      out.largest = size;
      out.place = {first + i / width, i % width};
    }
  }
  return {};
}

template <class Map, class Text>
std::vector<std::pair<std::string, std::string>> only_in(const Map& a, const Map& b, Text&& text) {
  std::vector<std::pair<std::string, std::string>> found;
  for (const auto& [name, value] : a) {
    if (!b.contains(name)) found.emplace_back(name, text(value));
  }
  return found;
}

}  // namespace

Result<ModelDifference> compare_models(const std::string& path_a, const std::string& path_b) {
  KVASS_ASSIGN_OR_RETURN(const Readable a, read_model(model_path(path_a)));
  KVASS_ASSIGN_OR_RETURN(const Readable b, read_model(model_path(path_b)));
  ModelDifference out;
  const auto shown = [](const Entry& value) { return value.shown; };
  const auto text = [](const TensorView& tensor) { return tensor.text(); };
  out.metadata_a = only_in(a.metadata, b.metadata, shown);
  out.metadata_b = only_in(b.metadata, a.metadata, shown);
  out.tensors_a = only_in(a.tensors, b.tensors, text);
  out.tensors_b = only_in(b.tensors, a.tensors, text);
  for (const auto& [key, value] : a.metadata) {
    const auto other = b.metadata.find(key);
    if (other == b.metadata.end() || other->second.exact == value.exact) continue;
    out.metadata.push_back({key, value.shown, other->second.shown});
  }
  for (const auto& [name, tensor] : a.tensors) {
    const auto other = b.tensors.find(name);
    if (other == b.tensors.end()) continue;
    DifferentTensor difference{name, tensor.text(), other->second.text(), tensor.shape == other->second.shape, 0.0, {}};
    if (difference.same_shape) KVASS_RETURN_IF_ERROR(compare_numbers(tensor, other->second, difference));
    if (difference.a == difference.b && difference.place.empty()) {
      ++out.same;
    } else {
      out.tensors.push_back(std::move(difference));
    }
  }
  KVASS_RETURN_IF_ERROR(a.check());
  KVASS_RETURN_IF_ERROR(b.check());
  return out;
}

}  // namespace kvass
