#include "model/speech.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "ops/linear/requantise.h"
#include "ops/linear/weight.h"
#include "program/op_spec.h"

namespace kvass {
namespace {

constexpr size_t kAlignment = 64;  // bytes: a panel vector

Result<WeightType> packed_type(const TensorSource& source, const SourceTensor& tensor) {
  if (tensor.is_int8()) return WeightType::Q8_0;
  const Result<WeightType> type = weight_type_of(tensor.type);
  if (type.ok()) return type;
  return unsupported(source.name() + ": tensor '" + tensor.name + "'", "a type that weights have", "another");
}

struct Entry {
  SourceTensor source;
  WeightType type = WeightType::F32;
  bool direct = false;  // the source's rows are packed without conversion
  size_t offset = 0;
};

Result<Entry> plan_entry(const TensorSource& source, const Weight& weight, const std::string& tensor,
                         std::optional<WeightType> type) {
  Entry entry;
  KVASS_ASSIGN_OR_RETURN(entry.source, source.tensor(tensor));
  const bool floats = entry.source.is_int8() || entry.source.type == GgmlType::F32 ||
                      entry.source.type == GgmlType::F16 || entry.source.type == GgmlType::BF16;
  KVASS_ASSIGN_OR_RETURN(const WeightType own, packed_type(source, entry.source));
  const bool convolution = entry.source.shape.size() == 3;
  if (weight.outputs > 0) {
    entry.type = stored_type(own, weight.inputs, type);
    if (weight.inputs % panel_format(entry.type).k_multiple() != 0) entry.type = WeightType::F32;
    entry.direct = entry.type == own && !convolution && !entry.source.is_int8();
  }
  if (!entry.direct && !floats) {
    return unsupported(source.name() + ": tensor '" + tensor + "'", "a float type, or 8-bit integers with scales",
                       weight_type_name(own));
  }
  return entry;
}

// Packs panel `index` from float32 values. A convolution's row [in][3] becomes [3][in], the order of its input.
void convert_panel(const Entry& entry, const Weight& weight, int64_t index, uint8_t* out) {
  const int64_t k = weight.inputs;
  const int64_t first = index * kPanelOutputs;
  const int64_t rows = std::min<int64_t>(kPanelOutputs, weight.outputs - first);
  std::vector<float> row(static_cast<size_t>(k)), turned(static_cast<size_t>(k));
  const size_t row_bytes = source_row_bytes(entry.type, k);
  std::vector<uint8_t> bytes(static_cast<size_t>(rows) * row_bytes);
  for (int64_t i = 0; i < rows; ++i) {
    entry.source.read_rows(first + i, 1, row.data());
    if (entry.source.shape.size() == 3) {
      for (int64_t at = 0; at < k; ++at) {
        turned[static_cast<size_t>(at % 3 * (k / 3) + at / 3)] = row[static_cast<size_t>(at)];
      }
      std::swap(row, turned);
    }
    quantise_row(entry.type, row.data(), k, bytes.data() + static_cast<size_t>(i) * row_bytes);
  }
  pack_panels(entry.type, bytes.data(), rows, k, 0, 1, out + index * panel_bytes(entry.type, k));
}

}  // namespace

Result<SpeechShape> speech_shape(const Program& program) {
  constexpr int64_t kMost = int64_t{1} << 20;  // largest accepted number of rows or channels
  SpeechShape shape;
  const Op* input = program.input();
  if (input != nullptr) shape.mels = program.values[static_cast<size_t>(input->outputs[0])].width;
  shape.frames = program.source.frames;
  shape.source_rows = program.source.rows;
  shape.width = program.source.width;
  for (const Op& op : program.ops) {
    shape.encoder_layers += op.kind == op_kind("attend_rows");
    if (op_spec(op.kind).has_cross_weights) shape.heads = op.heads;
  }
  shape.decoder_layers = static_cast<int64_t>(program.crosses.size());
  shape.vocabulary = program.vocabulary();
  shape.context = program.max_positions();
  const bool sound = shape.mels >= 1 && shape.mels <= kMost && shape.frames == 2 * shape.source_rows &&
                     shape.source_rows >= 1 && shape.source_rows <= kMost && shape.heads >= 1 && shape.context >= 1 &&
                     shape.context <= kMost &&
                     program.values[static_cast<size_t>(input->outputs[0])].extent == Extent::frames;
  if (sound) return shape;
  return bad_input("program", "an encoder of a spectrogram and a decoder with cross-attention and positions",
                   "another program");
}

std::vector<bool> kept_weights(const Program& program) {
  std::vector<bool> kept(program.weights.size(), false);
  for (const Op& op : program.ops) {
    if (op.kind == op_kind("positions")) kept[static_cast<size_t>(op.weights[0])] = true;
  }
  return kept;
}

namespace {

struct EntryPlan {
  std::vector<Entry> entries;  // [weights of the program]
  size_t bytes = 0;
};

Result<EntryPlan> plan_entries(const TensorSource& source, const ModelProgram& model, std::optional<WeightType> type) {
  const Program& program = model.program;
  const std::vector<bool> kept = kept_weights(program);
  EntryPlan plan;
  for (size_t i = 0; i < program.weights.size(); ++i) {
    const Weight& weight = program.weights[i];
    KVASS_ASSIGN_OR_RETURN(Entry entry,
                           plan_entry(source, weight, model.tensors[i], kept[i] ? std::optional<WeightType>() : type));
    size_t own = static_cast<size_t>(weight.inputs) * sizeof(float);
    if (weight.outputs > 0) {
      KVASS_ASSIGN_OR_RETURN(own, packed_bytes(entry.type, weight.outputs, weight.inputs));
    }
    entry.offset = plan.bytes;
    plan.bytes += (own + kAlignment - 1) / kAlignment * kAlignment;
    plan.entries.push_back(std::move(entry));
  }
  return plan;
}

}  // namespace

Result<size_t> plan_weights(const TensorSource& source, const ModelProgram& model, std::optional<WeightType> type) {
  KVASS_ASSIGN_OR_RETURN(const EntryPlan plan, plan_entries(source, model, type));
  return plan.bytes;
}

Result<WeightStore> load_weights(const TensorSource& source, const ModelProgram& model, std::optional<WeightType> type,
                                 ThreadPool& pool, const OnProgress& progress) {
  const Program& program = model.program;
  KVASS_ASSIGN_OR_RETURN(const EntryPlan plan, plan_entries(source, model, type));
  const std::vector<Entry>& entries = plan.entries;
  WeightStore store;
  KVASS_ASSIGN_OR_RETURN(store.block, Block::map(plan.bytes, "weights"));
  for (size_t i = 0; i < entries.size(); ++i) {
    const Entry& entry = entries[i];
    const Weight& weight = program.weights[i];
    uint8_t* out = store.block.data() + entry.offset;
    if (progress) progress(entry.offset, plan.bytes);
    if (weight.outputs == 0) {
      entry.source.read_rows(0, entry.source.rows(), reinterpret_cast<float*>(out));
      store.vectors.push_back(reinterpret_cast<const float*>(out));
      store.matrices.push_back({});
    } else {
      pool.run(panel_count(weight.outputs), [&](int64_t panel, int) {
        if (entry.direct) {
          pack_panels(entry.type, entry.source.data.data(), weight.outputs, weight.inputs, panel, panel + 1, out);
        } else {
          convert_panel(entry, weight, panel, out);
        }
      });
      store.vectors.push_back(nullptr);
      store.matrices.push_back({entry.type, weight.outputs, weight.inputs, out});
    }
    source.release(entry.source.data);
  }
  if (progress) progress(plan.bytes, plan.bytes);
  KVASS_RETURN_IF_ERROR(source.check());
  return store;
}

}  // namespace kvass
