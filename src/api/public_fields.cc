#include "api/public_fields.h"

#include <algorithm>

#include "kvass/fields.h"

namespace kvass {
namespace {

struct PublicField {
  std::string_view inner;
  std::string_view field;  // Struct.field; the row is for calls that take this struct
};

constexpr PublicField kPublicFields[] = {
    {"CacheOptions.context", "StreamOptions.context"},
    {"CacheOptions.chunk", "StreamOptions.chunk"},
    {"CacheOptions.sinks", "StreamOptions.attention_sink or StreamOptions.endless"},
    {"CacheOptions.sink_tokens", "StreamOptions.attention_sink"},
    {"CacheOptions.sink_window", "StreamOptions.attention_sink"},
    {"CacheOptions.sink_positions", "StreamOptions.sink_positions"},
    {"CacheOptions.rotary_offset", "StreamOptions.rotary_offset"},
    {"CacheOptions.checkpoints", "StreamOptions.checkpoints"},
    {"CacheOptions.dtype", "StreamOptions.kv"},
    {"SessionOptions.threads", "StreamOptions.threads"},
    {"SessionOptions.sequences", "StreamOptions.sequences"},
    {"WeightOptions.type", "LoadOptions.weights"},
    {"WeightOptions.pages", "LoadOptions.pages"},
    {"WeightOptions.check", "LoadOptions.check"},
    {"WeightOptions.device", "LoadOptions.device"},
    {"StreamOptions.math", "LoadOptions.math"},
    {"StreamOptions.threads", "LoadOptions.threads"},
    {"StreamOptions.kv", "TranscriberOptions.kv"},
    {"StreamOptions.threads", "TranscriberOptions.threads"},
    {"StreamOptions.sequences", "TranscriberOptions.sequences"},
    {"StreamOptions.memory_limit", "TranscriberOptions.memory_limit"},
    {"WeightOptions.type", "ExportOptions.weights"},
    {"LayerPattern.sliding_window", "ExportOptions.sliding_window"},
    {"LayerPattern.sliding_window_pattern", "ExportOptions.sliding_window_pattern"},
};

std::string_view struct_of(std::string_view field) { return field.substr(0, field.find('.')); }

std::string_view public_field(std::string_view inner, OptionStructs structs) {
  const auto taken = [&](std::string_view name) {
    return std::find(structs.begin(), structs.end(), name) != structs.end();
  };
  if (taken(struct_of(inner))) return {};  // it is the caller's already
  for (const PublicField& row : kPublicFields) {
    if (row.inner == inner && taken(struct_of(row.field))) return row.field;
  }
  return {};
}

}  // namespace

std::string with_public_fields(std::string_view message, OptionStructs structs) {
  return translate_fields(message, [&](std::string_view field) { return public_field(field, structs); });
}

Status with_public_fields(const Status& status, OptionStructs structs) {
  return status.ok() ? status : status.with_message(with_public_fields(status.message(), structs));
}

}  // namespace kvass
