// config.json to metadata. The fields and their defaults are those of the configuration classes of transformers.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "file/one_line.h"
#include "model/folder_family.h"

namespace kvass {
namespace {

constexpr int64_t kMost = (int64_t{1} << 32) - 1;  // what a u32 holds

// Fields that say nothing about what the model computes, though their names sound so; or that are read elsewhere.
constexpr std::string_view kWithoutEffect[] = {
    "attention_dropout", "attn_implementation",     "hidden_dropout",     "embedding_dropout",
    "output_attentions", "output_hidden_states",    "residual_dropout",   "classifier_activation",
    "bos_token_id",      "chunk_size_feed_forward", "quantization_config"};

// Parts of names of fields that change what models compute.
constexpr std::string_view kSuspicious[] = {
    "rope", "rotary", "scal",  "atten",      "attn",   "window", "softcap",  "expert",    "moe",      "multiplier",
    "bias", "norm",   "_act",  "activation", "head",   "layer",  "hidden",   "embedding", "residual", "mamba",
    "conv", "mask",   "quant", "factor",     "laurel", "altup",  "sparsity", "theta"};

bool is_neutral(std::string_view name, const JsonFields::Json& value) {
  if (value.is_null() || ((value.is_string() || value.is_array() || value.is_object()) && value.empty())) return true;
  if (value.is_boolean()) return !value.get<bool>();
  if (!value.is_number()) return false;
  const bool factor = name.ends_with("factor") || name.ends_with("multiplier") || name.ends_with("scale");
  return value.get<double>() == (factor ? 1.0 : 0.0);
}

Status check_quantisation(const JsonFields& config) {
  if (!config.has("quantization_config")) return {};
  KVASS_ASSIGN_OR_RETURN(const JsonFields quantised, config.object("quantization_config"));
  KVASS_ASSIGN_OR_RETURN(const std::string method, quantised.text_or("quant_method", "another"));
  return unsupported(config.field("quantization_config"), "none (weights of F32, F16 or BF16)",
                     "the method " + quoted_name(method));
}

// The layers' kinds: true where a layer slides. Empty where the file does not say.
Result<std::vector<bool>> read_layer_types(const JsonFields& config, int64_t layers) {
  std::vector<bool> sliding;
  KVASS_ASSIGN_OR_RETURN(const JsonFields::Json* types, config.array("layer_types"));
  if (!types) return sliding;
  for (const JsonFields::Json& type : *types) {
    const std::string name = type.is_string() ? type.get<std::string>() : json_shown(type);
    if (name != "full_attention" && name != "sliding_attention") {
      return unsupported(config.field("layer_types"), "full_attention or sliding_attention", quoted_name(name));
    }
    sliding.push_back(name == "sliding_attention");
  }
  if (static_cast<int64_t>(sliding.size()) == layers) return sliding;
  return bad_input(config.field("layer_types"), "one for each of " + std::to_string(layers) + " layers",
                   std::to_string(sliding.size()));
}

constexpr int64_t kDefaultWindow = 4096;  // tokens, where the field is missing

// Some layers slide: which ones, as a period where there is one, else one by one.
Status write_sliding_layers(const FolderFamily& family, const JsonFields& config, int64_t layers, GgufWriter& out) {
  constexpr int64_t kPeriod = 6;
  KVASS_ASSIGN_OR_RETURN(const int64_t window, config.integer_or("sliding_window", kDefaultWindow, 1, kMost));
  KVASS_ASSIGN_OR_RETURN(std::vector<bool> sliding, read_layer_types(config, layers));
  if (sliding.empty()) {
    const char* const name =
        config.has("sliding_window_pattern") ? "sliding_window_pattern" : "_sliding_window_pattern";
    KVASS_ASSIGN_OR_RETURN(const int64_t period, config.integer_or(name, kPeriod, 1, kMost));
    for (int64_t i = 0; i < layers; ++i) sliding.push_back((i + 1) % period != 0);
  }
  out.u32(folder_key(family, "attention.sliding_window"), static_cast<uint32_t>(window));
  const auto period = std::find(sliding.begin(), sliding.end(), false) - sliding.begin() + 1;
  bool periodic = period > 1;
  for (int64_t i = 0; i < layers; ++i)
    periodic = periodic && sliding[static_cast<size_t>(i)] == ((i + 1) % period != 0);
  const std::string key = folder_key(family, "attention.sliding_window_pattern");
  if (periodic) {
    out.u32(key, static_cast<uint32_t>(period));
  } else {
    const std::vector<uint8_t> flags(sliding.begin(), sliding.end());
    out.array<uint8_t>(key, GgufValueType::boolean, flags);
  }
  return {};
}

// The window of a family in which all layers slide or none.
Status write_window(const FolderFamily& family, const JsonFields& config, int64_t layers, GgufWriter& out) {
  if (family.is(kWindow)) {
    // Null means none.
    const bool missing = !config.json().contains("sliding_window");
    KVASS_ASSIGN_OR_RETURN(const int64_t window,
                           config.integer_or("sliding_window", missing ? kDefaultWindow : 0, 0, kMost));
    if (window > 0) out.u32(folder_key(family, "attention.sliding_window"), static_cast<uint32_t>(window));
    return {};
  }
  KVASS_ASSIGN_OR_RETURN(const bool used, config.boolean_or("use_sliding_window", false));
  KVASS_ASSIGN_OR_RETURN(const int64_t first, config.integer_or("max_window_layers", 28, 0, kMost));
  KVASS_ASSIGN_OR_RETURN(const std::vector<bool> sliding, read_layer_types(config, layers));
  if (sliding.empty() ? used && first < layers : std::count(sliding.begin(), sliding.end(), true) > 0) {
    return unsupported(config.field(sliding.empty() ? "use_sliding_window" : "layer_types"),
                       "full attention in all layers of " + std::string(family.gguf), "layers that slide");
  }
  return {};
}

Status check_activation(const FolderFamily& family, const JsonFields& config) {
  const bool gelu = family.is(kOffsetNorms);
  const char* const key = gelu ? "hidden_activation" : "hidden_act";
  const char* const wanted = gelu ? "gelu_pytorch_tanh" : "silu";
  KVASS_ASSIGN_OR_RETURN(const std::string name, config.text_or(key, wanted));
  if (name == wanted || (name == "swish" && !gelu)) return {};
  return unsupported(config.field(key), wanted, quoted_name(name));
}

Status check_fields(const FolderFamily& family, const JsonFields& config) {
  std::vector<std::string_view> known = {"hidden_size",
                                         "intermediate_size",
                                         "num_hidden_layers",
                                         "num_attention_heads",
                                         "num_key_value_heads",
                                         "head_dim",
                                         "rms_norm_eps",
                                         "rope_theta",
                                         "rope_scaling",
                                         "rope_parameters",
                                         "max_position_embeddings",
                                         "tie_word_embeddings",
                                         "original_max_position_embeddings",
                                         "partial_rotary_factor",
                                         family.is(kOffsetNorms) ? "hidden_activation" : "hidden_act"};
  const auto add = [&](std::initializer_list<std::string_view> more) { known.insert(known.end(), more); };
  if (family.is(kAttentionBiasField) || family.is(kBiasFields)) add({"attention_bias"});
  if (family.is(kBiasFields)) add({"mlp_bias"});
  if (family.is(kWindow)) add({"sliding_window"});
  if (family.is(kSlidingLayers)) {
    add({"sliding_window", "sliding_window_pattern", "layer_types", "rope_local_base_freq", "query_pre_attn_scalar",
         "attn_logit_softcapping", "final_logit_softcapping"});
  }
  // A window that use_sliding_window does not switch on.
  if (!family.is(kNeighbours) && !family.is(kSlidingLayers)) {
    add({"sliding_window", "use_sliding_window", "max_window_layers", "layer_types"});
  }
  KVASS_ASSIGN_OR_RETURN(const bool causal, config.boolean_or("is_causal", true));
  if (!causal) return config.cannot("is_causal", "true");
  add({"is_causal"});
  return check_known(config, known);
}

}  // namespace

Status check_known(const JsonFields& fields, std::span<const std::string_view> known) {
  if (!fields.json().is_object()) return {};
  for (const auto& [name, value] : fields.json().items()) {
    const auto is = [&](std::string_view other) { return name == other; };
    if (name.starts_with('_') || std::any_of(known.begin(), known.end(), is)) continue;
    if (std::any_of(std::begin(kWithoutEffect), std::end(kWithoutEffect), is) || is_neutral(name, value)) continue;
    const auto part = [&](std::string_view word) { return name.find(word) != std::string::npos; };
    if (std::none_of(std::begin(kSuspicious), std::end(kSuspicious), part)) continue;
    return fields.cannot(name, "no such field in a model of this architecture");
  }
  return {};
}

Result<FolderShape> translate_config(const FolderFamily& family, const JsonFields& config, GgufWriter& out) {
  KVASS_RETURN_IF_ERROR(check_quantisation(config));
  KVASS_RETURN_IF_ERROR(check_fields(family, config));
  KVASS_RETURN_IF_ERROR(check_activation(family, config));
  const bool gemma = family.is(kOffsetNorms);  // the sizes that a configuration may leave out
  const auto size = [&](const char* key, int64_t fallback) {
    return gemma ? config.integer_or(key, fallback, 1, kMost) : config.integer(key, 1, kMost);
  };
  FolderShape shape;
  KVASS_ASSIGN_OR_RETURN(shape.layers, size("num_hidden_layers", 26));
  KVASS_ASSIGN_OR_RETURN(const int64_t width, size("hidden_size", 2304));
  KVASS_ASSIGN_OR_RETURN(const int64_t hidden, size("intermediate_size", 9216));
  KVASS_ASSIGN_OR_RETURN(const int64_t context, size("max_position_embeddings", 131072));
  KVASS_ASSIGN_OR_RETURN(shape.heads, size("num_attention_heads", 8));
  // Null is as many as heads; other classes than the first have a number of their own where the field is missing.
  const bool as_heads = family.is(kBiasFields) || config.json().contains("num_key_value_heads");
  KVASS_ASSIGN_OR_RETURN(shape.kv_heads, as_heads ? config.integer_or("num_key_value_heads", shape.heads, 1, kMost)
                                                  : size("num_key_value_heads", 4));
  const int64_t head_dim = gemma ? 256 : family.is(kHeadNorms) ? 128 : std::max<int64_t>(1, width / shape.heads);
  KVASS_ASSIGN_OR_RETURN(shape.head_dim, config.integer_or("head_dim", head_dim, 1, kMost));
  KVASS_ASSIGN_OR_RETURN(const double epsilon, config.real_or("rms_norm_eps", 1e-6));
  KVASS_ASSIGN_OR_RETURN(shape.vocabulary, config.integer_or("vocab_size", 0, 1, kMost));
  KVASS_ASSIGN_OR_RETURN(shape.tied, config.boolean_or("tie_word_embeddings", family.is(kTied)));
  KVASS_ASSIGN_OR_RETURN(shape.attention_biases, config.boolean_or("attention_bias", false));
  KVASS_ASSIGN_OR_RETURN(shape.mlp_biases, config.boolean_or("mlp_bias", false));

  const auto u32 = [&](const char* key, int64_t value) {
    out.u32(folder_key(family, key), static_cast<uint32_t>(value));
  };
  const auto f32 = [&](const char* key, double value) { out.f32(folder_key(family, key), static_cast<float>(value)); };
  u32("block_count", shape.layers);
  u32("context_length", context);
  u32("embedding_length", width);
  u32("feed_forward_length", hidden);
  u32("attention.head_count", shape.heads);
  u32("attention.head_count_kv", shape.kv_heads);
  u32("attention.key_length", shape.head_dim);
  u32("attention.value_length", shape.head_dim);
  u32("rope.dimension_count", shape.head_dim);
  f32("attention.layer_norm_rms_epsilon", epsilon);
  for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    KVASS_ASSIGN_OR_RETURN(const double cap, config.real_or(key, 0.0));
    if (cap != 0.0) f32(key, cap);
  }
  if (family.is(kSlidingLayers)) {
    // The format has no key for the scale: one over the root of this, or of width / heads in the model of 62 layers.
    const double divisor = shape.layers == 62 ? static_cast<double>(width) / static_cast<double>(shape.heads)
                                              : static_cast<double>(shape.head_dim);
    KVASS_ASSIGN_OR_RETURN(const double scalar, config.real_or("query_pre_attn_scalar", 256.0));
    if (!(scalar > 0.0)) return config.wrong("query_pre_attn_scalar", "a number above 0");
    shape.query_factor = std::sqrt(divisor / scalar);
    KVASS_RETURN_IF_ERROR(write_sliding_layers(family, config, shape.layers, out));
  } else {
    KVASS_RETURN_IF_ERROR(write_window(family, config, shape.layers, out));
  }
  KVASS_RETURN_IF_ERROR(translate_rotary(family, config, shape, out));
  return shape;
}

}  // namespace kvass
