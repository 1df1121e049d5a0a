#include "app/inspect.h"

#include <fmt/format.h>

#include <algorithm>

#include "app/chart.h"
#include "app/model_contents.h"
#include "app/model_names.h"
#include "app/plan.h"
#include "app/text.h"
#include "file/gguf.h"
#include "kvass/version.h"
#include "kvp/kvp.h"
#include "model/model.h"
#include "model/speech.h"
#include "program/op_spec.h"
#include "session/cross_cache.h"
#include "session/snapshot.h"

namespace kvass {
namespace {

FileEntry entry_of(const Gguf& file, const GgufEntry& from) {
  FileEntry entry{std::string(from.key), std::string(gguf_value_type_name(from.type)), file.printable(from), {}};
  entry.value = entry.shown;
  switch (from.type) {
    case GgufValueType::array:
      entry.type = std::string(gguf_value_type_name(from.element)) + "[" + std::to_string(from.count) + "]";
      break;
    case GgufValueType::string:
      if (const Result<std::string_view> text = file.get_string(from.key); text.ok())
        entry.value = std::string(text.value());
      break;
    case GgufValueType::boolean:
      if (const Result<bool> value = file.get_bool(from.key); value.ok()) entry.value = value.value();
      break;
    case GgufValueType::f32:
    case GgufValueType::f64:
      if (const Result<double> value = file.get_float(from.key); value.ok()) entry.value = value.value();
      break;
    default:  // an integer; a u64 that no int64 holds stays a text
      if (const Result<int64_t> value = file.get_int(from.key); value.ok()) entry.value = value.value();
  }
  return entry;
}

FileSummary summary_of(const SnapshotInfo& info) {
  FileSummary summary{"kvass snapshot", info.version, {}, {}};
  const auto text = [&](const char* key, std::string value) {
    summary.metadata.push_back({key, "string", value, value});
  };
  const auto integer = [&](const char* key, int64_t value) {
    summary.metadata.push_back({key, "i64", std::to_string(value), value});
  };
  const CacheOptions& caches = info.caches;
  const StreamState& state = info.state;
  text("model.fingerprint", hash_text(info.fingerprint));
  text("math", std::string(math_name(info.math)));
  integer("numerics_version", info.numerics);
  integer("length", info.length);
  integer("layers", static_cast<int64_t>(info.first_held.size()));
  if (info.cross.rows > 0) {
    integer("source_rows", info.cross.rows);
    integer("cross_caches_filled",
            std::count_if(info.cross.filled.begin(), info.cross.filled.end(), [](int64_t keys) { return keys >= 0; }));
  }
  text("kv", std::string(dtype_name(caches.dtype)));
  integer("context", caches.context);
  integer("chunk", caches.chunk);
  if (caches.sinks) {
    integer("sink_tokens", caches.sink_tokens);
    integer("sink_window", caches.sink_window);
    text("sink_positions", std::string(sink_positions_name(caches.sink_positions)));
  }
  if (state.is_chat()) {
    text("chat_template", state.chat.chat_template);
    text("system", state.chat.system);
    integer("turns", state.chat.turns);
  }
  integer("pending_tokens", static_cast<int64_t>(state.pending.size()));
  integer("recent_tokens", static_cast<int64_t>(state.recent.size()));
  integer("held_text_bytes", static_cast<int64_t>(state.undecoded.size() + state.held.size()));
  integer("body_bytes", static_cast<int64_t>(info.body_bytes));
  return summary;
}

// Of a model that transcribes: as the program and the tokens say.
void add_speech(const KvpFile& file, FileSummary& summary) {
  const auto integer = [&](const char* key, int64_t value) {
    summary.metadata.push_back({key, "i64", std::to_string(value), value});
  };
  const auto text = [&](const char* key, std::string value) {
    summary.metadata.push_back({key, "string", value, value});
  };
  if (const Result<SpeechShape> shape = speech_shape(file.model().program); shape.ok()) {
    integer("speech.mel_channels", shape->mels);
    integer("speech.frames", shape->frames);
    integer("speech.source_rows", shape->source_rows);
    integer("speech.encoder_layers", shape->encoder_layers);
    integer("speech.decoder_layers", shape->decoder_layers);
    integer("speech.positions", shape->context);
  }
  Result<SpeechVocabulary> vocabulary = file.speech_vocabulary();
  if (vocabulary.ok()) {
    integer("speech.tokens", static_cast<int64_t>(vocabulary->pieces.size()));
    const Result<SpeechTokenizer> tokens = SpeechTokenizer::create(std::move(vocabulary).value());
    if (tokens.ok()) {
      integer("speech.languages", tokens->multilingual() ? static_cast<int64_t>(tokens->languages().size()) : 1);
      integer("speech.suppressed_tokens", static_cast<int64_t>(tokens->suppressed().size()));
    }
  }
  std::string heads;
  for (const auto& [layer, head] : file.model().speech->alignment_heads) {
    heads += fmt::format("{}{}.{}", heads.empty() ? "" : " ", layer, head);
  }
  text("speech.alignment_heads", heads);
  if (const Result<size_t> bytes = CrossCache::plan_bytes(file.model().program, file.model().caches.dtype);
      bytes.ok()) {
    integer("cross_bytes", static_cast<int64_t>(bytes.value()));
  }
}

FileSummary summary_of(const Gguf& file, bool folder) {
  FileSummary summary{folder ? "safetensors" : "gguf", folder ? 0 : file.version(), {}, {}};
  for (const GgufEntry& entry : file.entries()) summary.metadata.push_back(entry_of(file, entry));
  for (const GgufTensor& tensor : file.tensors()) {
    summary.tensors.push_back({tensor.name, std::string(ggml_type_name(tensor.type)), tensor.shape, tensor.bytes});
  }
  return summary;
}

Status check_unchanged(const ModelContents& contents) {
  if (const auto* kvp = std::get_if<KvpFile>(&contents.file)) return kvp->check();
  if (const auto* speech = std::get_if<SpeechSource>(&contents.file)) return speech->tensors->check();
  return std::get<Gguf>(contents.file).check();
}

Result<FileSummary> summary_of(const ModelContents& contents) {
  if (const auto* kvp = std::get_if<KvpFile>(&contents.file)) return summary_of(*kvp);
  if (const auto* speech = std::get_if<SpeechSource>(&contents.file)) return summary_of(*speech);
  return summary_of(std::get<Gguf>(contents.file), contents.format == "safetensors");
}

// One box of the picture.
struct Box {
  std::string name;
  int32_t first = 0, last = 0;  // ops
  size_t offset = 0, bytes = 0;
  bool workspace = false;
};

std::vector<Box> boxes_of(const Program& program, const MethodPlan& method) {
  const auto end = static_cast<int32_t>(program.ops.size());
  std::vector<Box> boxes(program.values.size());
  std::vector<const Part*> home(program.values.size(), nullptr);
  for (const Part& part : program.parts) {
    for (int32_t i = part.begin; i < part.end; ++i) {
      const Op& op = program.ops[static_cast<size_t>(i)];
      for (ValueId id : op.outputs) {
        const auto v = static_cast<size_t>(id);
        const Value& value = program.values[v];
        home[v] = &part;
        boxes[v] = {value.name, i, i, method.arena.values[v], 0, false};
        if (value.view == View::none) {
          boxes[v].bytes = static_cast<size_t>(method.limits().of(program, value.extent) * value.width) * sizeof(float);
        }
      }
      for (ValueId id : op.inputs) {
        Box& box = boxes[static_cast<size_t>(id)];
        box.last = std::max(box.last, home[static_cast<size_t>(id)] == &part ? i : end);
      }
    }
  }
  for (ValueId id : {program.hidden, program.logits}) boxes[static_cast<size_t>(id)].last = end;
  for (size_t i = 0; i < program.ops.size(); ++i) {
    const auto op = static_cast<int32_t>(i);
    boxes.push_back(
        {"workspace of " + program.ops[i].name, op, op, method.arena.workspace[i], method.workspace_bytes[i], true});
  }
  return boxes;
}

}  // namespace

FileSummary summary_of(const KvpFile& file) {
  FileSummary summary{"kvass program", file.version(), {}, {}};
  const auto text = [&](const char* key, std::string value) {
    summary.metadata.push_back({key, "string", value, value});
  };
  const auto integer = [&](const char* key, int64_t value) {
    summary.metadata.push_back({key, "i64", std::to_string(value), value});
  };
  const KvpModel& model = file.model();
  const CacheOptions& caches = model.caches;
  text("producer", model.producer);
  text("family", model.family);
  text("source", model.source);
  integer("numerics_version", kNumericsVersion);
  text("math", std::string(math_name(model.math)));
  integer("trained_context", model.trained_context);
  integer("max_context_len", caches.context);
  integer("input_len", caches.chunk);
  if (caches.sinks) {
    integer("sink_tokens", caches.sink_tokens);
    integer("sink_window", caches.sink_window);
    text("sink_positions", std::string(sink_positions_name(caches.sink_positions)));
  }
  text("kv", std::string(dtype_name(caches.dtype)));
  if (model.speech) add_speech(file, summary);
  integer("cache_bytes", static_cast<int64_t>(file.cache_plan().bytes));
  integer("weight_bytes", static_cast<int64_t>(file.section_bytes()));
  for (const MethodPlan& method : model.methods) {
    integer(("method." + method.name + ".rows").c_str(), method.rows);
    integer(("method." + method.name + ".arena_bytes").c_str(), static_cast<int64_t>(method.arena.bytes));
  }
  for (size_t i = 0; i < model.program.weights.size(); ++i) {
    const Weight& weight = model.program.weights[i];
    const PackedWeight& matrix = file.matrices()[i];
    if (weight.outputs == 0) {
      summary.tensors.push_back({weight.name, "F32", {weight.inputs}, static_cast<size_t>(weight.inputs) * 4});
    } else {
      summary.tensors.push_back({weight.name,
                                 std::string(weight_type_name(matrix.type)),
                                 {weight.inputs, weight.outputs},
                                 packed_bytes(matrix.type, matrix.n, matrix.k).value()});
    }
  }
  return summary;
}

Result<FileSummary> summary_of(const SpeechSource& source) {
  FileSummary summary{source.format, 0, {}, {}};
  const auto tokens = static_cast<int64_t>(source.vocabulary.pieces.size());
  summary.metadata.push_back({"tokens", "i64", std::to_string(tokens), tokens});
  summary.metadata.push_back({"heads", "i64", std::to_string(source.heads), source.heads});
  for (const std::string& name : source.tensors->names()) {
    KVASS_ASSIGN_OR_RETURN(const SourceTensor tensor, source.tensors->tensor(name));
    const std::vector<int64_t> shape(tensor.shape.rbegin(), tensor.shape.rend());
    summary.tensors.push_back({name, tensor.is_int8() ? "I8" : std::string(ggml_type_name(tensor.type)), shape,
                               tensor.data.size() + tensor.row_scales.size()});
  }
  return summary;
}

Result<FileSummary> inspect_file(const std::string& path_or_name) {
  const std::string path = model_path(path_or_name);
  if (is_snapshot(path)) {
    KVASS_ASSIGN_OR_RETURN(const Snapshot snapshot, Snapshot::open(path));
    return summary_of(snapshot.info());
  }
  KVASS_ASSIGN_OR_RETURN(const ModelContents contents, open_contents(path));
  KVASS_ASSIGN_OR_RETURN(FileSummary summary, summary_of(contents));
  KVASS_RETURN_IF_ERROR(check_unchanged(contents));
  return summary;
}

Result<ProgramSummary> inspect_program(const std::string& path) {
  KVASS_ASSIGN_OR_RETURN(const ModelFile file, ModelFile::open(path));
  return ProgramSummary{file.family(), print_program(file.program())};
}

Result<StaticProgram> inspect_static(const std::string& path, bool check) {
  KVASS_ASSIGN_OR_RETURN(const ModelContents contents, open_contents(path));
  if (!std::holds_alternative<KvpFile>(contents.file)) {
    return bad_input(path, "a .kvp file, which has a plan", "another kind of file");
  }
  const auto& file = std::get<KvpFile>(contents.file);
  if (check) {
    ThreadPool pool(usable_cpus());
    KVASS_RETURN_IF_ERROR(file.check_weights(pool));
  }
  StaticProgram program{file.model().program, file.cache_plan(), {}, file.model().methods};
  for (MethodPlan& method : program.methods) {  // what the file does not say
    KVASS_RETURN_IF_ERROR(measure_arena(program.program, method.limits(), method.workspace_bytes, method.arena));
  }
  KVASS_ASSIGN_OR_RETURN(program.cache_lens, kept_tokens(program.program, file.model().caches));
  return program;
}

std::vector<LayerMask> layer_masks(const CachePlan& caches, int64_t position, int64_t rows) {
  std::vector<LayerMask> masks;
  for (size_t i = 0; i < caches.layers.size(); ++i) {
    const Layout& layout = caches.layers[i].layout;
    const auto known = std::find_if(masks.begin(), masks.end(), [&](const LayerMask& m) { return m.layout == layout; });
    if (known != masks.end()) {
      known->layers.push_back(i);
      continue;
    }
    LayerMask mask{{i}, layout, position, {}};
    for (int64_t row = 0; row < rows; ++row) mask.rows.push_back(layout.row_visibility(position + row));
    masks.push_back(std::move(mask));
  }
  return masks;
}

std::string arena_svg(const Program& program, const MethodPlan& method) {
  constexpr double kWidth = 1600.0, kHeight = 800.0, kMargin = 40.0;
  const double step = kWidth / static_cast<double>(program.ops.size() + 1);
  const double scale = kHeight / static_cast<double>(std::max<size_t>(1, method.arena.bytes));
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0f} {:.0f}\" font-family=\"sans-serif\" "
      "font-size=\"14\">\n<text x=\"{:.0f}\" y=\"24\">{}: {} rows, arena {}, {} ops from left to right, bytes from "
      "top to bottom</text>\n",
      kWidth + 2 * kMargin, kHeight + 2 * kMargin, kMargin, xml_text(method.name), method.rows,
      human_bytes(method.arena.bytes), program.ops.size());
  out += fmt::format(
      "<rect x=\"{0:.0f}\" y=\"{0:.0f}\" width=\"{1:.0f}\" height=\"{2:.0f}\" fill=\"none\" stroke=\"#888\"/>\n",
      kMargin, kWidth, kHeight);
  const std::vector<Box> boxes = boxes_of(program, method);
  for (size_t i = 0; i < boxes.size(); ++i) {
    const Box& box = boxes[i];
    if (box.bytes == 0) continue;
    const std::string fill = box.workspace ? "#bbb" : fmt::format("hsl({},60%,65%)", i * 47 % 360);
    out += fmt::format(
        "<rect x=\"{:.2f}\" y=\"{:.2f}\" width=\"{:.2f}\" height=\"{:.2f}\" fill=\"{}\" stroke=\"#444\" "
        "stroke-width=\"0.3\"><title>{}: {} bytes at {}, ops {} to {}</title></rect>\n",
        kMargin + step * box.first, kMargin + scale * static_cast<double>(box.offset),
        step * (box.last - box.first + 1), std::max(0.5, scale * static_cast<double>(box.bytes)), fill,
        xml_text(box.name), box.bytes, box.offset, box.first, box.last);
  }
  return out + "</svg>\n";
}

bool runs_on_devices(OpKind kind) { return op_on_devices(kind); }

}  // namespace kvass
