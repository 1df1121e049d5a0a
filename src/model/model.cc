#include "model/model.h"

#include <algorithm>
#include <cstring>

#include "base/float16.h"
#include "model/family.h"
#include "ops/linear/requantise.h"
#include "ops/linear/weight.h"

namespace kvass {
namespace {

constexpr size_t kAlignment = 64;               // bytes: a panel vector
constexpr size_t kWaveBytes = size_t{8} << 20;  // source bytes that are packed before their pages are released

struct Family {
  std::string_view architecture;
  Result<ModelProgram> (*build)(const Gguf& file);
};

constexpr Family kFamilies[] = {
#define KVASS_FAMILY(architecture, family) {#architecture, build_##family},
#include "model/families.inc"
#undef KVASS_FAMILY
};

// Where each weight goes in the block.
struct WeightPlan {
  struct Entry {
    const GgufTensor* source = nullptr;
    WeightType source_type = WeightType::F32;
    WeightType type = WeightType::F32;  // the stored type
    size_t offset = 0;
  };
  std::vector<Entry> entries;  // [weights of the program]
  size_t bytes = 0;
};

Result<WeightPlan> plan(const Gguf& file, const ModelProgram& model, std::optional<WeightType> type) {
  WeightPlan plan;
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const Weight& weight = model.program.weights[i];
    WeightPlan::Entry entry;
    KVASS_ASSIGN_OR_RETURN(entry.source, file.tensor(model.tensors[i]));
    size_t bytes = static_cast<size_t>(weight.inputs) * sizeof(float);
    if (weight.outputs > 0) {
      KVASS_ASSIGN_OR_RETURN(entry.source_type, weight_type_of(entry.source->type));
      entry.type = stored_type(entry.source_type, weight.inputs, type);
      const bool head = static_cast<WeightId>(i) == model.head;
      if (head && entry.source_type == WeightType::Q8_0 && entry.type == WeightType::Q8_0) {
        entry.source_type = entry.type = WeightType::Q8_0_split;  // packed from the same source rows
      }
      KVASS_ASSIGN_OR_RETURN(bytes, packed_bytes(entry.type, weight.outputs, weight.inputs));
    }
    entry.offset = plan.bytes;
    plan.bytes += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    plan.entries.push_back(entry);
  }
  return plan;
}

// Packs panels [begin, end), their rows gathered, in the source's type, then converts them to the stored type.
void convert_panels(const WeightPlan::Entry& entry, const Weight& weight, int64_t begin, int64_t end, uint8_t* out) {
  std::vector<uint8_t> panel(static_cast<size_t>(panel_bytes(entry.source_type, weight.inputs))), scratch;
  for (int64_t index = begin; index < end; ++index) {
    const int64_t first = index * kPanelOutputs;
    const int64_t rows = std::min<int64_t>(kPanelOutputs, weight.outputs - first);
    uint8_t* const stored = out + index * panel_bytes(entry.type, weight.inputs);
    const bool direct = entry.type == entry.source_type;
    pack_panels(entry.source_type, entry.source->rows_at(first, rows, scratch), rows, weight.inputs, 0, 1,
                direct ? stored : panel.data());
    if (direct) continue;
    requantise_panels({entry.source_type, rows, weight.inputs, panel.data()}, entry.type, 0, 1, stored);
  }
}

// Packs one matrix in waves of panels, on all threads, and releases the source pages after each wave. So the source
// pages and the packed bytes of a whole weight are never in memory together.
void pack_weight(const Gguf& file, const WeightPlan::Entry& entry, const Weight& weight, uint8_t* out,
                 ThreadPool& pool) {
  const size_t panel_source = kPanelOutputs * source_row_bytes(entry.source_type, weight.inputs);
  const int64_t panels = panel_count(weight.outputs);
  const int64_t wave = std::max<int64_t>(1, static_cast<int64_t>(kWaveBytes / panel_source));
  for (int64_t first = 0; first < panels; first += wave) {
    const int64_t count = std::min(wave, panels - first);
    const int64_t task = std::max<int64_t>(1, count / (4 * pool.threads()));  // panels
    pool.run((count + task - 1) / task, [&](int64_t i, int) {
      const int64_t end = first + std::min(count, (i + 1) * task);
      if (entry.type == entry.source_type && entry.source->head_rows == 0) {
        pack_panels(entry.type, entry.source->data, weight.outputs, weight.inputs, first + i * task, end, out);
      } else {
        convert_panels(entry, weight, first + i * task, end, out);
      }
    });
    const size_t begin = static_cast<size_t>(first) * panel_source;
    file.release(*entry.source, begin,
                 std::min(static_cast<size_t>(count) * panel_source, entry.source->bytes - begin));
  }
}

}  // namespace

Result<WeightType> weight_type_of(GgmlType type) {
  switch (type) {
#define KVASS_WEIGHT_TYPE(name, number, elements, bytes, format) \
  case GgmlType::name:                                           \
    return WeightType::name;
#include "base/weight_types.inc"
  }
  return unsupported("tensor type", "a type that the reader reads", std::to_string(static_cast<uint32_t>(type)));
}

bool is_vector_type(GgmlType type) { return type == GgmlType::F32 || type == GgmlType::F16 || type == GgmlType::BF16; }

void widen(const GgufTensor& tensor, float* out) {
  if (tensor.type == GgmlType::F32) {
    std::memcpy(out, tensor.data, tensor.bytes);
    return;
  }
  for (size_t i = 0; i < tensor.bytes / sizeof(uint16_t); ++i) {
    uint16_t bits = 0;
    std::memcpy(&bits, tensor.data + i * sizeof bits, sizeof bits);
    out[i] = tensor.type == GgmlType::F16 ? f16_to_float(bits) : bf16_to_float(bits);
  }
}

Result<ModelProgram> build_program(const Gguf& file) {
  KVASS_ASSIGN_OR_RETURN(const std::string_view architecture, file.get_string("general.architecture"));
  std::string known;
  for (const Family& family : kFamilies) {
    if (architecture == family.architecture) {
      KVASS_ASSIGN_OR_RETURN(ModelProgram model, family.build(file));
      model.head = model.program.head_weight();
      return model;
    }
    known += (known.empty() ? "" : ", ") + std::string(family.architecture);
  }
  return unsupported(file.name() + ": general.architecture", known, architecture);
}

Result<size_t> plan_weights(const Gguf& file, const ModelProgram& model, std::optional<WeightType> type) {
  KVASS_ASSIGN_OR_RETURN(const WeightPlan weights, plan(file, model, type));
  return weights.bytes;
}

Result<WeightStore> load_weights(const Gguf& file, const ModelProgram& model, ThreadPool& pool,
                                 std::optional<WeightType> type, const OnProgress& progress) {
  KVASS_ASSIGN_OR_RETURN(const WeightPlan weights, plan(file, model, type));
  WeightStore store;
  KVASS_ASSIGN_OR_RETURN(store.block, Block::map(weights.bytes, "weights"));
  for (size_t i = 0; i < weights.entries.size(); ++i) {
    const WeightPlan::Entry& entry = weights.entries[i];
    const Weight& weight = model.program.weights[i];
    uint8_t* bytes = store.block.data() + entry.offset;
    if (progress) progress(entry.offset, weights.bytes);
    if (weight.outputs == 0) {
      widen(*entry.source, reinterpret_cast<float*>(bytes));
      store.vectors.push_back(reinterpret_cast<const float*>(bytes));
      store.matrices.push_back({});
    } else {
      pack_weight(file, entry, weight, bytes, pool);
      store.vectors.push_back(nullptr);
      store.matrices.push_back({entry.type, weight.outputs, weight.inputs, bytes});
    }
  }
  if (progress) progress(weights.bytes, weights.bytes);
  KVASS_RETURN_IF_ERROR(file.check());
  return store;
}

}  // namespace kvass
