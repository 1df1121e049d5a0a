#include "app/inspect.h"

#include "file/gguf.h"
#include "model/model.h"
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
  text("kv", std::string(dtype_name(caches.dtype)));
  integer("context", caches.context);
  integer("chunk", caches.chunk);
  if (caches.sinks) {
    integer("sink_tokens", caches.sink_tokens);
    integer("sink_window", caches.sink_window);
    text("sink_positions", std::string(sink_positions_name(caches.sink_positions)));
  }
  if (!state.chat_template.empty()) {
    text("chat_template", state.chat_template);
    text("system", state.system);
    integer("turns", state.turns);
  }
  integer("pending_tokens", static_cast<int64_t>(state.pending.size()));
  integer("recent_tokens", static_cast<int64_t>(state.recent.size()));
  integer("held_text_bytes", static_cast<int64_t>(state.undecoded.size() + state.held.size()));
  integer("body_bytes", static_cast<int64_t>(info.body_bytes));
  return summary;
}

}  // namespace

Result<FileSummary> inspect_file(const std::string& path) {
  if (is_snapshot(path)) {
    KVASS_ASSIGN_OR_RETURN(const Snapshot snapshot, Snapshot::open(path));
    return summary_of(snapshot.info());
  }
  KVASS_ASSIGN_OR_RETURN(const Gguf file, Gguf::open(path));
  FileSummary summary{"gguf", file.version(), {}, {}};
  for (const GgufEntry& entry : file.entries()) summary.metadata.push_back(entry_of(file, entry));
  for (const GgufTensor& tensor : file.tensors()) {
    summary.tensors.push_back({tensor.name, std::string(ggml_type_name(tensor.type)), tensor.shape, tensor.bytes});
  }
  return summary;
}

Result<ProgramSummary> inspect_program(const std::string& path) {
  KVASS_ASSIGN_OR_RETURN(const Gguf file, Gguf::open(path));
  KVASS_ASSIGN_OR_RETURN(const ModelProgram model, build_program(file));
  return ProgramSummary{model.family, print_program(model.program)};
}

}  // namespace kvass
