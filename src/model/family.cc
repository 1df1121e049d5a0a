#include "model/family.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>

#include "file/one_line.h"
#include "ops/linear/weight.h"

namespace kvass {
namespace {

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

// Keys of the format by which decoders of other families differ from those here, with the values that mean that this
// one does not.
constexpr FamilyReader::NeutralKey kOtherDecoders[] = {
    {"attention.clamp_kqv"},
    {"attention.max_alibi_bias"},
    {"attention.scale"},
    {"attention.temperature_length"},
    {"attention.temperature_scale"},
    {"attention.shared_kv_layers"},
    {"attention.chunk_size"},
    {"embedding_scale", 1.0},
    {"embedding_length_per_layer_input"},
    {"logit_scale", 1.0},
    {"residual_scale", 1.0},
    {"use_parallel_residual"},
    {"rope.scaling.alpha"},
    {"rope.scaling.yarn_log_multiplier"},
    {"nextn_predict_layers"},
    {"swin_norm"},
};

// Keys of the format that change no result of a decoder of text, beside those that a family asks for. One that ends in
// a dot or a line stands for all that begin with it.
constexpr std::string_view kHarmless[] = {
    "vocab_size",                    // the rows of the embedding say it
    "tensor_data_layout",            // where the converter had the weights from
    "attention.layer_norm_epsilon",  // of a norm that these models do not have
    "rope.scaling.finetuned",        // whether the model was trained with the scaling
    "pooling_type",                  // how an embedding is made of hidden rows
    "classifier.output_labels",      // what a ranking head says; its tensors are refused
    "expert_",                       // there are no experts: expert_count is 0
    "norm_top_k_prob",               // of experts
    "vision.",                       // of the image tower, which is not run, as are the next ones
    "audio.",
    "mm.",
    "mm_tokens_per_image",
    "image_token_index",
};

bool is_harmless(std::string_view key) {
  return std::any_of(std::begin(kHarmless), std::end(kHarmless), [&](std::string_view known) {
    const bool many = known.back() == '.' || known.back() == '_';
    return many ? key.starts_with(known) : key == known;
  });
}

// A tensor that no program needs: one without elements, or a number of its own that scales no weight.
bool is_harmless(const GgufTensor& tensor) {
  const std::string_view name = tensor.name;
  return tensor.bytes == 0 || (tensor.shape.empty() && !name.starts_with("blk.") && !name.ends_with("scale"));
}

Status check_shape(const Gguf& file, const GgufTensor& tensor, std::vector<int64_t> expected) {
  if (std::equal(tensor.shape.begin(), tensor.shape.end(), expected.begin(), expected.end())) return {};
  return bad_input(file.name(tensor) + ": tensor '" + tensor.name + "'", "shape " + shape_text(expected),
                   shape_text(tensor.shape));
}

}  // namespace

std::string FamilyReader::name(std::string_view key) const {
  std::string name = prefix_ + "." + std::string(key);
  asked_.insert(name);
  return name;
}

void FamilyReader::skip(std::span<const std::string_view> keys) const {
  for (const std::string_view key : keys) (void)name(key);
}

Result<int64_t> FamilyReader::integer(std::string_view key, int64_t least, int64_t most) const {
  KVASS_ASSIGN_OR_RETURN(const int64_t value, file_.get_int(name(key)));
  if (value >= least && value <= most) return value;
  return bad_input(field(key), std::to_string(least) + " to " + std::to_string(most), std::to_string(value));
}

Result<int64_t> FamilyReader::integer_or(std::string_view key, int64_t fallback, int64_t least, int64_t most) const {
  return has(key) ? integer(key, least, most) : Result<int64_t>(fallback);
}

Result<double> FamilyReader::real(std::string_view key) const {
  KVASS_ASSIGN_OR_RETURN(const double value, file_.get_float(name(key)));
  if (std::isfinite(value)) return value;
  return bad_input(field(key), "a finite number", std::to_string(value));
}

Result<double> FamilyReader::real_or(std::string_view key, double fallback) const {
  return has(key) ? real(key) : Result<double>(fallback);
}

Result<double> FamilyReader::real_or(std::string_view key, double fallback, double least, double most) const {
  KVASS_ASSIGN_OR_RETURN(const double value, real_or(key, fallback));
  if (value >= least && value <= most) return value;
  return bad_input(field(key), fmt::format("{:g} to {:g}", least, most), fmt::format("{:g}", value));
}

Result<double> FamilyReader::either_or(std::string_view key, std::string_view other, double fallback, double least,
                                       double most) const {
  if (!has(key)) return real_or(other, fallback, least, most);
  KVASS_ASSIGN_OR_RETURN(const double value, real_or(key, fallback, least, most));
  KVASS_ASSIGN_OR_RETURN(const double same, real_or(other, value));
  if (same == value) return value;
  return bad_input(field(other), fmt::format("{:g}, what {} is", value, name(key)), fmt::format("{:g}", same));
}

Result<std::vector<int64_t>> FamilyReader::integers(std::string_view key, int64_t count, int64_t least,
                                                    int64_t most) const {
  KVASS_ASSIGN_OR_RETURN(std::vector<int64_t> values, file_.get_ints(name(key)));
  if (static_cast<int64_t>(values.size()) != count) {
    return bad_input(field(key), fmt::format("{} elements", count), std::to_string(values.size()));
  }
  for (const int64_t value : values) {
    if (value >= least && value <= most) continue;
    return bad_input(field(key), fmt::format("elements from {} to {}", least, most), std::to_string(value));
  }
  return values;
}

bool FamilyReader::is_array(std::string_view key) const {
  const GgufEntry* entry = file_.find(name(key));
  return entry != nullptr && entry->type == GgufValueType::array;
}

Result<std::string_view> FamilyReader::rotary_type() const {
  skip({&kOriginalContext, 1});
  return file_.get_string_or(name("rope.scaling.type"), "linear");
}

Result<double> FamilyReader::rotary_factor() const {
  return either_or("rope.scaling.factor", "rope.scale_linear", 1.0, 1e-3, 1e9);
}

Result<WeightId> FamilyReader::matrix(const std::string& tensor, int64_t outputs, int64_t inputs) {
  KVASS_ASSIGN_OR_RETURN(const GgufTensor* source, file_.tensor(tensor));
  KVASS_RETURN_IF_ERROR(check_shape(file_, *source, {inputs, outputs}));
  tensors_.push_back(tensor);
  return builder_.matrix(tensor, outputs, inputs);
}

Result<WeightId> FamilyReader::vector(const std::string& tensor, int64_t width) {
  KVASS_RETURN_IF_ERROR(floats(tensor, width).status());
  tensors_.push_back(tensor);
  return builder_.vector(tensor, width);
}

Result<const GgufTensor*> FamilyReader::floats(const std::string& tensor, int64_t width) const {
  KVASS_ASSIGN_OR_RETURN(const GgufTensor* source, file_.tensor(tensor));
  KVASS_RETURN_IF_ERROR(check_shape(file_, *source, {width}));
  if (is_vector_type(source->type)) return source;
  return unsupported(file_.name(*source) + ": tensor '" + tensor + "'", "type F32, F16 or BF16",
                     ggml_type_name(source->type));
}

Result<std::vector<float>> FamilyReader::numbers(const std::string& tensor, int64_t width) {
  KVASS_ASSIGN_OR_RETURN(const GgufTensor* source, floats(tensor, width));
  std::vector<float> values(static_cast<size_t>(width));
  widen(*source, values.data());
  numbers_.push_back(tensor);
  return values;
}

Status FamilyReader::check_all_used(bool (*unread)(std::string_view name)) const {
  std::set<std::string_view> used(tensors_.begin(), tensors_.end());
  used.insert(numbers_.begin(), numbers_.end());
  for (const GgufTensor& tensor : file_.tensors()) {
    if (used.contains(tensor.name) || unread(tensor.name) || is_harmless(tensor)) continue;
    return unsupported(file_.name(tensor) + ": tensors", "those of a dense " + prefix_ + " model",
                       "also '" + tensor.name + "'");
  }
  return check_keys();
}

Status FamilyReader::check_keys() const {
  const std::string begin = prefix_ + ".";
  for (const GgufEntry& entry : file_.entries()) {
    if (!entry.key.starts_with(begin) || asked_.contains(entry.key)) continue;
    if (is_harmless(entry.key.substr(begin.size()))) continue;
    return unsupported(
        file_.name() + ": metadata", "keys that are known for a dense " + prefix_ + " model",
        "also " + quoted_name(entry.key) + " = " + file_.printable(entry) + ", which may change results");
  }
  return {};
}

Status FamilyReader::check_neutral(std::span<const NeutralKey> keys) const {
  for (const NeutralKey& known : keys) {
    if (!has(known.key)) continue;
    KVASS_ASSIGN_OR_RETURN(const double value, file_.get_float(name(known.key)));
    if (value == known.neutral) continue;
    return unsupported(field(known.key), fmt::format("{:g}", known.neutral), fmt::format("{:g}", value));
  }
  return {};
}

std::string layer_tensor(int64_t layer, std::string_view name, std::string_view kind) {
  return "blk." + std::to_string(layer) + "." + std::string(name) + "." + std::string(kind);
}

Result<DecoderShape> read_decoder_shape(FamilyReader& reader, int64_t head_dim, double epsilon) {
  KVASS_RETURN_IF_ERROR(reader.check_neutral(kOtherDecoders));
  DecoderShape shape;
  KVASS_ASSIGN_OR_RETURN(shape.layers, reader.integer("block_count", 1, 1024));
  KVASS_ASSIGN_OR_RETURN(shape.width, reader.integer("embedding_length", 16, 1 << 20));
  KVASS_ASSIGN_OR_RETURN(shape.hidden, reader.integer("feed_forward_length", 16, 1 << 22));
  KVASS_ASSIGN_OR_RETURN(shape.heads, reader.integer("attention.head_count", 1, 1024));
  KVASS_ASSIGN_OR_RETURN(shape.kv_heads, reader.integer_or("attention.head_count_kv", shape.heads, 1, shape.heads));
  KVASS_ASSIGN_OR_RETURN(shape.context, reader.integer("context_length", 1, int64_t{1} << 32));
  if (head_dim == 0) head_dim = shape.width / shape.heads;
  KVASS_ASSIGN_OR_RETURN(shape.head_dim, reader.integer_or("attention.key_length", head_dim, 16, 512));
  KVASS_ASSIGN_OR_RETURN(const int64_t value_dim, reader.integer_or("attention.value_length", shape.head_dim, 16, 512));
  constexpr std::string_view kEpsilon = "attention.layer_norm_rms_epsilon";
  if (epsilon == 0.0 || reader.has(kEpsilon)) {
    KVASS_ASSIGN_OR_RETURN(epsilon, reader.real(kEpsilon));
  } else {
    reader.note(fmt::format("{}: the file has none; {:g} is taken", reader.field(kEpsilon), epsilon));
  }
  if (shape.heads % shape.kv_heads != 0) {
    return bad_input(reader.field("attention.head_count_kv"), "a divisor of " + std::to_string(shape.heads) + " heads",
                     std::to_string(shape.kv_heads));
  }
  if (shape.head_dim % 16 != 0 || shape.head_dim < 16 || shape.head_dim > 512) {
    return unsupported(reader.field("attention.key_length"), "a multiple of 16 in [16, 512]",
                       std::to_string(shape.head_dim));
  }
  if (value_dim != shape.head_dim) {
    return unsupported(reader.field("attention.value_length"), std::to_string(shape.head_dim) + " (the key length)",
                       std::to_string(value_dim));
  }
  if (!(epsilon > 0.0 && epsilon < 1.0)) {
    return bad_input(reader.field("attention.layer_norm_rms_epsilon"), "between 0 and 1", std::to_string(epsilon));
  }
  shape.epsilon = static_cast<float>(epsilon);
  KVASS_ASSIGN_OR_RETURN(const int64_t rotated, reader.integer_or("rope.dimension_count", shape.head_dim, 1, 4096));
  if (rotated != shape.head_dim) {
    return unsupported(reader.field("rope.dimension_count"), std::to_string(shape.head_dim) + " (the head size)",
                       std::to_string(rotated));
  }
  KVASS_ASSIGN_OR_RETURN(const int64_t experts, reader.integer_or("expert_count", 0, 0, 1 << 20));
  if (experts != 0) {
    return unsupported(reader.field("expert_count"), "0 (a dense model)", std::to_string(experts));
  }
  if (reader.has("attention.causal")) {
    KVASS_ASSIGN_OR_RETURN(const int64_t causal, reader.integer("attention.causal", 0, 1));
    if (causal == 0) return unsupported(reader.field("attention.causal"), "true", "false");
  }
  return shape;
}

ModelProgram FamilyReader::finish(std::string family, int64_t trained_context) && {
  return {std::move(family), std::move(builder_).finish(), std::move(tensors_), trained_context, kNone,
          std::move(notes_)};
}

}  // namespace kvass
