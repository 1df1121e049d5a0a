#include "file/ct2.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

#include "file/byte_reader.h"
#include "file/one_line.h"

namespace kvass {
namespace {

constexpr uint32_t kVersion = 6;
constexpr uint64_t kMaxRank = 8;
constexpr size_t kMinVariableBytes = 2 + 1 + 1 + 4;  // name, rank, type, bytes
constexpr size_t kMinAliasBytes = 2 + 2;

size_t type_bytes(Ct2Type type) {
  switch (type) {
    case Ct2Type::f32:
    case Ct2Type::i32:
      return 4;
    case Ct2Type::i8:
      return 1;
    case Ct2Type::i16:
    case Ct2Type::f16:
    case Ct2Type::bf16:
      return 2;
  }
  return 0;
}

// Where a tensor of Hugging Face lies: part `part` of `parts` equal groups of a variable's rows.
struct Place {
  std::string variable;
  int part = 0;
  int parts = 1;
};

struct Renaming {
  std::string_view from;  // Hugging Face
  std::string_view to;    // CTranslate2
  int part = 0;
  int parts = 1;
};

constexpr Renaming kTop[] = {
    {"proj_out", "decoder/projection"},
    {"model.encoder.conv1", "encoder/conv1"},
    {"model.encoder.conv2", "encoder/conv2"},
    {"model.encoder.embed_positions", "encoder/position_encodings"},
    {"model.encoder.layer_norm", "encoder/layer_norm"},
    {"model.decoder.embed_tokens", "decoder/embeddings"},
    {"model.decoder.embed_positions", "decoder/position_encodings"},
    {"model.decoder.layer_norm", "decoder/layer_norm"},
};
constexpr Renaming kLayer[] = {
    {"self_attn_layer_norm", "self_attention/layer_norm"},
    {"self_attn.q_proj", "self_attention/linear_0", 0, 3},
    {"self_attn.k_proj", "self_attention/linear_0", 1, 3},
    {"self_attn.v_proj", "self_attention/linear_0", 2, 3},
    {"self_attn.out_proj", "self_attention/linear_1"},
    {"encoder_attn_layer_norm", "attention/layer_norm"},
    {"encoder_attn.q_proj", "attention/linear_0"},
    {"encoder_attn.k_proj", "attention/linear_1", 0, 2},
    {"encoder_attn.v_proj", "attention/linear_1", 1, 2},
    {"encoder_attn.out_proj", "attention/linear_2"},
    {"final_layer_norm", "ffn/layer_norm"},
    {"fc1", "ffn/linear_0"},
    {"fc2", "ffn/linear_1"},
};

// The variable's word for "weight" or "bias": norms and positions use other words.
std::string_view leaf_of(std::string_view variable, std::string_view leaf) {
  if (variable.ends_with("layer_norm")) return leaf == "weight" ? "gamma" : "beta";
  if (variable.ends_with("position_encodings")) return leaf == "weight" ? "encodings" : "";
  return leaf;
}

std::optional<Place> place_of(std::string_view tensor) {
  const size_t dot = tensor.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view leaf = tensor.substr(dot + 1);
  std::string_view module = tensor.substr(0, dot);
  if (leaf != "weight" && leaf != "bias") return std::nullopt;
  const auto found = [&](const Renaming& renaming, const std::string& prefix) -> std::optional<Place> {
    const std::string_view name = leaf_of(renaming.to, leaf);
    // Keys have no bias: a fused projection holds zeros there.
    if (name.empty() || (leaf == "bias" && renaming.from.ends_with("k_proj"))) return std::nullopt;
    return Place{fmt::format("{}{}/{}", prefix, renaming.to, name), renaming.part, renaming.parts};
  };
  for (const Renaming& renaming : kTop) {
    if (module == renaming.from) return found(renaming, "");
  }
  for (const std::string_view stack : {"encoder", "decoder"}) {
    const std::string prefix = fmt::format("model.{}.layers.", stack);
    if (!module.starts_with(prefix)) continue;
    module.remove_prefix(prefix.size());
    const size_t end = module.find('.');
    int layer = -1;
    if (end == std::string_view::npos ||
        std::from_chars(module.data(), module.data() + end, layer).ptr != module.data() + end || layer < 0) {
      return std::nullopt;
    }
    module.remove_prefix(end + 1);
    for (const Renaming& renaming : kLayer) {
      if (module == renaming.from) return found(renaming, fmt::format("{}/layer_{}/", stack, layer));
    }
  }
  return std::nullopt;
}

}  // namespace

class Ct2Parser : ByteReader {
 public:
  Ct2Parser(std::span<const uint8_t> bytes, Ct2Model& out) : ByteReader(bytes, out.name_), out_(out) {}

  Status run() {
    uint32_t version = 0;
    uint32_t revision = 0;
    uint32_t variables = 0;
    uint32_t aliases = 0;
    KVASS_RETURN_IF_ERROR(number("binary version", version));
    if (version != kVersion) return cannot("binary version", std::to_string(kVersion), std::to_string(version));
    KVASS_RETURN_IF_ERROR(string("specification", out_.specification_));
    KVASS_RETURN_IF_ERROR(number("specification revision", revision));
    KVASS_RETURN_IF_ERROR(number("variable count", variables));
    KVASS_RETURN_IF_ERROR(count("variable count", variables, kMinVariableBytes));
    for (uint32_t i = 0; i < variables; ++i) KVASS_RETURN_IF_ERROR(variable());
    KVASS_RETURN_IF_ERROR(number("alias count", aliases));
    KVASS_RETURN_IF_ERROR(count("alias count", aliases, kMinAliasBytes));
    for (uint32_t i = 0; i < aliases; ++i) KVASS_RETURN_IF_ERROR(alias());
    if (left() != 0) return fail("end of file", "nothing after the aliases", fmt::format("{} bytes", left()));
    return {};
  }

 private:
  Status string(std::string_view field, std::string& out) {
    uint16_t length = 0;
    KVASS_RETURN_IF_ERROR(number(field, length));
    KVASS_RETURN_IF_ERROR(need(field, length));
    const char* const text = reinterpret_cast<const char*>(bytes_.data() + at_);
    if (length == 0 || std::memchr(text, 0, length) != text + length - 1) {
      return fail(field, "a text that ends with its only NUL", fmt::format("{} bytes that are not", length));
    }
    out.assign(text, length - 1);
    at_ += length;
    return {};
  }

  Status variable() {
    std::string name;
    KVASS_RETURN_IF_ERROR(string("variable name", name));
    const std::string field = "variable " + quoted_name(name);
    uint8_t rank = 0;
    KVASS_RETURN_IF_ERROR(number(field, rank));
    if (rank > kMaxRank) return fail(field + " rank", fmt::format("at most {}", kMaxRank), std::to_string(rank));
    Ct2Variable variable;
    std::vector<uint32_t> dims(rank);
    for (uint32_t& dim : dims) KVASS_RETURN_IF_ERROR(number(field, dim));
    uint8_t code = 0;
    uint32_t bytes = 0;
    KVASS_RETURN_IF_ERROR(number(field, code));
    KVASS_RETURN_IF_ERROR(number(field, bytes));
    variable.type = static_cast<Ct2Type>(code);
    uint64_t expected = type_bytes(variable.type);
    if (expected == 0) return fail(field + " type", "0 to 5", std::to_string(code));
    for (const uint32_t dim : dims) {
      // Clamped: more than 32 bits cannot equal the format's u32 number of bytes, and the product must not overflow.
      expected = std::min<uint64_t>(expected, uint64_t{1} << 32) * dim;
      variable.shape.push_back(dim);
    }
    if (expected != bytes) {
      return fail(field, fmt::format("{} bytes for its shape", expected), std::to_string(bytes));
    }
    // With one size 0, the other sizes could be anything.
    if (bytes == 0) return fail(field, "at least one element", "none");
    KVASS_RETURN_IF_ERROR(need(field, bytes));
    variable.data = bytes_.subspan(at_, bytes);
    at_ += bytes;
    if (!out_.variables_.emplace(name, std::move(variable)).second) return fail(field, "each name once", "it twice");
    return {};
  }

  Status alias() {
    std::string name;
    std::string target;
    KVASS_RETURN_IF_ERROR(string("alias name", name));
    KVASS_RETURN_IF_ERROR(string("alias of " + quoted_name(name), target));
    const auto found = out_.variables_.find(target);
    if (found == out_.variables_.end()) {
      return fail("alias " + quoted_name(name), "a variable of the file", quoted_name(target));
    }
    if (!out_.variables_.emplace(name, Ct2Variable(found->second)).second) {
      return fail("alias " + quoted_name(name), "each name once", "it twice");
    }
    return {};
  }

  Ct2Model& out_;
};

std::string_view ct2_type_name(Ct2Type type) {
  constexpr std::string_view kNames[] = {"float32", "int8", "int16", "int32", "float16", "bfloat16"};
  const auto at = static_cast<size_t>(type);
  return at < std::size(kNames) ? kNames[at] : "?";
}

Result<Ct2Model> Ct2Model::parse(std::span<const uint8_t> bytes, std::string name) {
  Ct2Model model;
  model.name_ = std::move(name);
  KVASS_RETURN_IF_ERROR(Ct2Parser(bytes, model).run());
  return model;
}

Result<Ct2Model> Ct2Model::open(const std::string& path) {
  KVASS_ASSIGN_OR_RETURN(FileMap map, FileMap::open(path));
  KVASS_ASSIGN_OR_RETURN(Ct2Model model, map.checked(parse(map.bytes(), path)));
  model.map_.emplace(std::move(map));
  return model;
}

bool Ct2Model::has(std::string_view tensor) const {
  const std::optional<Place> place = place_of(tensor);
  return place && variables_.contains(place->variable);
}

Result<SourceTensor> Ct2Model::tensor(std::string_view tensor) const {
  const std::optional<Place> place = place_of(tensor);
  const auto found = place ? variables_.find(place->variable) : variables_.end();
  if (found == variables_.end()) {
    return bad_input(name_ + ": tensor " + quoted_name(tensor), place ? place->variable : "a known name", "none");
  }
  const Ct2Variable& variable = found->second;
  const std::string field = name_ + ": variable " + quoted_name(place->variable);
  SourceTensor whole;
  whole.name = tensor;
  whole.shape = variable.shape;
  whole.data = variable.data;
  if (variable.shape.empty()) return bad_input(field, "a vector or a matrix", "a scalar");
  switch (variable.type) {
    case Ct2Type::f32:
      whole.type = GgmlType::F32;
      break;
    case Ct2Type::f16:
      whole.type = GgmlType::F16;
      break;
    case Ct2Type::bf16:
      whole.type = GgmlType::BF16;
      break;
    case Ct2Type::i8: {
      const auto scale = variables_.find(place->variable + "_scale");
      if (scale == variables_.end()) return bad_input(field + ", int8", "a variable with its scales", "none");
      const Ct2Variable& scales = scale->second;
      const auto rows = static_cast<size_t>(whole.rows());
      if (scales.type != Ct2Type::f32 || scales.data.size() != rows * sizeof(float)) {
        return bad_input(field + " scales", fmt::format("{} float32, one a row", rows),
                         fmt::format("{} bytes of {}", scales.data.size(), ct2_type_name(scales.type)));
      }
      whole.row_scales = scales.data;
      break;
    }
    default:
      return unsupported(field, "float32, float16, bfloat16 or int8 with scales",
                         std::string(ct2_type_name(variable.type)));
  }
  if (place->parts == 1) return whole;
  if (whole.rows() % place->parts != 0) {
    return bad_input(field, fmt::format("rows for {} projections", place->parts), std::to_string(whole.rows()));
  }
  const int64_t rows = whole.rows() / place->parts;
  return whole.slice(place->part * rows, rows, std::string(tensor));
}

std::vector<std::string> Ct2Model::names() const {
  std::vector<std::string> names;
  const auto add = [&](const std::string& prefix, const Renaming& renaming) {
    for (const std::string_view leaf : {"bias", "weight"}) {
      std::string name = fmt::format("{}{}.{}", prefix, renaming.from, leaf);
      if (has(name)) names.push_back(std::move(name));
    }
  };
  for (const Renaming& renaming : kTop) add("", renaming);
  for (const std::string_view stack : {"encoder", "decoder"}) {
    for (int64_t layer = 0; layer < layers(stack); ++layer) {
      for (const Renaming& renaming : kLayer) add(fmt::format("model.{}.layers.{}.", stack, layer), renaming);
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

void Ct2Model::release(std::span<const uint8_t> bytes) const {
  if (map_) map_->release(static_cast<size_t>(bytes.data() - map_->bytes().data()), bytes.size());
}

Result<int64_t> Ct2Model::integer(std::string_view variable) const {
  const std::string field = name_ + ": variable " + quoted_name(variable);
  const auto found = variables_.find(variable);
  if (found == variables_.end()) return bad_input(field, "an integer", "none");
  const Ct2Variable& value = found->second;
  const auto as = [&](auto number) {
    std::memcpy(&number, value.data.data(), sizeof number);
    return static_cast<int64_t>(number);
  };
  if (value.data.size() == type_bytes(value.type)) {
    if (value.type == Ct2Type::i8) return as(int8_t{});
    if (value.type == Ct2Type::i16) return as(int16_t{});
    if (value.type == Ct2Type::i32) return as(int32_t{});
  }
  return bad_input(field, "an integer", fmt::format("{} bytes of {}", value.data.size(), ct2_type_name(value.type)));
}

int64_t Ct2Model::layers(std::string_view stack) const {
  int64_t count = 0;
  while (true) {
    const std::string prefix = fmt::format("{}/layer_{}/", stack, count);
    const auto found = variables_.lower_bound(prefix);
    if (found == variables_.end() || !found->first.starts_with(prefix)) return count;
    ++count;
  }
}

}  // namespace kvass
