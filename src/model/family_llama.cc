// Llama and its relatives: pre-norm decoders with rotary attention and a gated feed-forward (arXiv 2302.13971,
// 2407.21783; Mistral 2310.06825; Qwen 2 2407.10671 and 3 2505.09388). Metadata keys as in the GGUF specification;
// dense models only.
#include <array>
#include <cmath>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "model/family.h"

namespace kvass {
namespace {

// What follows from an architecture's name.
struct Variant {
  std::string_view architecture;
  bool neighbours;   // rows of q and k are stored for rotary pairs (2i, 2i + 1), otherwise (i, i + head_dim / 2)
  bool qkv_biases;   // required if true; every variant accepts all biases
  bool head_norms;   // of q and k
  bool all_sliding;  // a window in the metadata applies to every layer
};

constexpr Variant kVariants[] = {
    {"llama", true, false, false, true},
    {"qwen2", false, true, false, false},
    {"qwen3", false, false, true, false},
};

const Variant* find_variant(std::string_view architecture) {
  for (const Variant& variant : kVariants) {
    if (variant.architecture == architecture) return &variant;
  }
  return nullptr;
}

// "llama, qwen2 or qwen3".
std::string known_architectures() {
  std::string names;
  const size_t count = std::size(kVariants);
  for (size_t i = 0; i < count; ++i) {
    names += (i == 0 ? "" : i + 1 < count ? ", " : " or ") + std::string(kVariants[i].architecture);
  }
  return names;
}

// Caps that Gemma's relatives have, and which layers slide where not all do.
constexpr FamilyReader::NeutralKey kOtherFamilies[] = {
    {"attn_logit_softcapping"}, {"final_logit_softcapping"}, {"attention.sliding_window_pattern", 1.0}};

// Tensors that older converters wrote and that no program reads: frequencies that follow from the metadata.
bool unread(std::string_view tensor) { return tensor.ends_with(".attn_rot_embd.weight"); }

struct Config : DecoderShape {
  Variant variant;
  int64_t window = 0;  // tokens; 0: all
  RotaryParams rotary;
};

// Keys of YaRN.
constexpr std::string_view kYarnKeys[] = {"rope.scaling.yarn_attn_factor", "rope.scaling.yarn_beta_fast",
                                          "rope.scaling.yarn_beta_slow", "rope.scaling.yarn_ext_factor"};

Status read_yarn(const FamilyReader& reader, int64_t context, RotaryParams& rotary) {
  KVASS_ASSIGN_OR_RETURN(context, reader.integer_or(FamilyReader::kOriginalContext, context, 1, int64_t{1} << 32));
  YarnParams& yarn = rotary.yarn;
  yarn.context = static_cast<double>(context);
  KVASS_ASSIGN_OR_RETURN(const double attention, reader.real_or("rope.scaling.yarn_attn_factor", 1.0, 1e-3, 1e3));
  KVASS_ASSIGN_OR_RETURN(yarn.beta_fast, reader.real_or("rope.scaling.yarn_beta_fast", yarn.beta_fast, 1e-3, 1e6));
  KVASS_ASSIGN_OR_RETURN(yarn.beta_slow,
                         reader.real_or("rope.scaling.yarn_beta_slow", yarn.beta_slow, 1e-3, yarn.beta_fast));
  KVASS_ASSIGN_OR_RETURN(yarn.extrapolation, reader.real_or("rope.scaling.yarn_ext_factor", 1.0, -1.0, 1.0));
  if (yarn.extrapolation < 0.0) yarn.extrapolation = 1.0;  // negative means "the default" in the formats
  rotary.attention_factor *= attention;
  // Extrapolation 0 means linear scaling without YaRN's amplitude.
  if (yarn.extrapolation == 0.0) rotary.yarn = {};
  return {};
}

Result<RotaryParams> read_rotary(FamilyReader& reader, const Config& config) {
  RotaryParams rotary;
  rotary.head_dim = config.head_dim;
  rotary.interleaved = config.variant.neighbours;
  KVASS_ASSIGN_OR_RETURN(rotary.base, reader.real_or("rope.freq_base", 10000.0, 1.0, 1e30));
  if (reader.has_tensor("rope_freqs.weight")) {
    KVASS_ASSIGN_OR_RETURN(rotary.divisors, reader.numbers("rope_freqs.weight", config.head_dim / 2));
  }
  KVASS_ASSIGN_OR_RETURN(rotary.attention_factor, reader.real_or("rope.scaling.attn_factor", 1.0, 1e-3, 1e3));
  KVASS_ASSIGN_OR_RETURN(const std::string_view type, reader.rotary_type());
  if (type != "none" && type != "linear" && type != "yarn") {
    return unsupported(reader.field("rope.scaling.type"), "none, linear or yarn", type);
  }
  KVASS_ASSIGN_OR_RETURN(const double factor, reader.rotary_factor());
  if (type != "none") rotary.factor = factor;
  if (type == "yarn") {
    KVASS_RETURN_IF_ERROR(read_yarn(reader, config.context, rotary));
  } else {
    reader.skip(kYarnKeys);
  }
  return rotary;
}

Result<Config> read_config(FamilyReader& reader, const Variant& variant) {
  Config config;
  config.variant = variant;
  KVASS_ASSIGN_OR_RETURN(static_cast<DecoderShape&>(config), read_decoder_shape(reader));
  KVASS_RETURN_IF_ERROR(reader.check_neutral(kOtherFamilies));
  KVASS_ASSIGN_OR_RETURN(config.window, reader.integer_or("attention.sliding_window", 0, 0, int64_t{1} << 32));
  if (!variant.all_sliding) {
    if (config.window != 0 && config.window < config.context) {
      return unsupported(reader.field("attention.sliding_window"), "none (the file does not say which layers slide)",
                         std::to_string(config.window));
    }
    config.window = 0;
  }
  KVASS_ASSIGN_OR_RETURN(config.rotary, read_rotary(reader, config));
  return config;
}

// Emits one layer: binds its weights and adds its values in the order of the computation.
class LayerEmitter {
 public:
  LayerEmitter(FamilyReader& reader, const Config& config, int64_t layer)
      : reader_(reader), builder_(reader.builder()), config_(config), layer_(layer) {
    builder_.set_scope("layer " + std::to_string(layer));
  }

  // x -> x + attention(norm(x)) -> x + feed-forward(norm(x))
  Result<ValueId> run(ValueId x) {
    KVASS_ASSIGN_OR_RETURN(ValueId h, norm("attention norm", x, "attn_norm", config_.width));
    KVASS_ASSIGN_OR_RETURN(h, attention(h));
    x = builder_.add("attention residual", x, h);
    KVASS_ASSIGN_OR_RETURN(h, norm("ffn norm", x, "ffn_norm", config_.width));
    KVASS_ASSIGN_OR_RETURN(h, feed_forward(h));
    return builder_.add("ffn residual", x, h);
  }

 private:
  Result<ValueId> attention(ValueId h) {
    const int64_t q_width = config_.q_width(), kv_width = config_.kv_width();
    KVASS_ASSIGN_OR_RETURN(const WeightId wq, matrix("attn_q", q_width, config_.width));
    KVASS_ASSIGN_OR_RETURN(const WeightId wk, matrix("attn_k", kv_width, config_.width));
    KVASS_ASSIGN_OR_RETURN(const WeightId wv, matrix("attn_v", kv_width, config_.width));
    KVASS_ASSIGN_OR_RETURN(const WeightId wo, matrix("attn_output", config_.width, q_width));
    const std::array weights = {wq, wk, wv};
    const std::array<std::string, 3> names = {"q", "k", "v"};
    const std::vector<ValueId> qkv = builder_.linear("qkv", h, weights, names);
    const bool biases = config_.variant.qkv_biases;
    KVASS_ASSIGN_OR_RETURN(ValueId q, biased("q bias", qkv[0], "attn_q", q_width, biases));
    KVASS_ASSIGN_OR_RETURN(ValueId k, biased("k bias", qkv[1], "attn_k", kv_width, biases));
    KVASS_ASSIGN_OR_RETURN(const ValueId v, biased("v bias", qkv[2], "attn_v", kv_width, biases));
    if (config_.variant.head_norms) {
      KVASS_ASSIGN_OR_RETURN(q, norm("q norm", q, "attn_q_norm", config_.head_dim, config_.heads));
      KVASS_ASSIGN_OR_RETURN(k, norm("k norm", k, "attn_k_norm", config_.head_dim, config_.kv_heads));
    }
    const StateId state = builder_.cache("cache " + std::to_string(layer_), config_.kv_heads, config_.head_dim,
                                         config_.window, builder_.rotary(config_.rotary));
    builder_.cache_write(k, v, state);
    const double scale = 1.0 / std::sqrt(static_cast<double>(config_.head_dim));
    h = builder_.attention(q, state, config_.heads, static_cast<float>(scale), 0.0f);
    return biased("attention output bias", builder_.linear("attention output", h, wo), "attn_output", config_.width);
  }

  Result<ValueId> feed_forward(ValueId h) {
    KVASS_ASSIGN_OR_RETURN(const WeightId gate, matrix("ffn_gate", config_.hidden, config_.width));
    KVASS_ASSIGN_OR_RETURN(const WeightId up, matrix("ffn_up", config_.hidden, config_.width));
    KVASS_ASSIGN_OR_RETURN(const WeightId down, matrix("ffn_down", config_.width, config_.hidden));
    const std::array weights = {gate, up};
    const std::array<std::string, 2> names = {"gate", "up"};
    const std::vector<ValueId> hidden = builder_.linear("gate and up", h, weights, names);
    KVASS_ASSIGN_OR_RETURN(const ValueId gated, biased("gate bias", hidden[0], "ffn_gate", config_.hidden));
    KVASS_ASSIGN_OR_RETURN(const ValueId raised, biased("up bias", hidden[1], "ffn_up", config_.hidden));
    h = builder_.silu_gate(gated, raised);
    return biased("down bias", builder_.linear("down", h, down), "ffn_down", config_.width);
  }

  Result<WeightId> matrix(const char* name, int64_t outputs, int64_t inputs) {
    return reader_.matrix(layer_tensor(layer_, name), outputs, inputs);
  }

  Result<ValueId> norm(const char* what, ValueId x, const char* name, int64_t width, int64_t groups = 1) {
    KVASS_ASSIGN_OR_RETURN(const WeightId weight, reader_.vector(layer_tensor(layer_, name), width));
    return builder_.rms_norm(what, x, weight, config_.epsilon, groups);
  }

  // y plus the bias of the projection `name` if the file has one, else y.
  Result<ValueId> biased(const char* what, ValueId y, const char* name, int64_t width, bool required = false) {
    const std::string tensor = layer_tensor(layer_, name, "bias");
    if (!required && !reader_.has_tensor(tensor)) return y;
    KVASS_ASSIGN_OR_RETURN(const WeightId bias, reader_.vector(tensor, width));
    return builder_.bias(what, y, bias);
  }

  FamilyReader& reader_;
  ProgramBuilder& builder_;
  const Config& config_;
  int64_t layer_;
};

}  // namespace

Result<ModelProgram> build_llama(const Gguf& file) {
  KVASS_ASSIGN_OR_RETURN(const std::string_view architecture, file.get_string("general.architecture"));
  const Variant* variant = find_variant(architecture);
  if (!variant) return unsupported(file.name() + ": general.architecture", known_architectures(), architecture);
  FamilyReader reader(file, std::string(architecture));
  KVASS_ASSIGN_OR_RETURN(const Config config, read_config(reader, *variant));
  ProgramBuilder& builder = reader.builder();

  KVASS_ASSIGN_OR_RETURN(const GgufTensor* embedding, file.tensor("token_embd.weight"));
  const int64_t vocabulary = embedding->shape.size() == 2 ? embedding->shape[1] : 0;
  KVASS_ASSIGN_OR_RETURN(const WeightId table, reader.matrix("token_embd.weight", vocabulary, config.width));
  WeightId head = table;  // the embedding table, unless the file has a separate head
  if (reader.has_tensor("output.weight")) {
    KVASS_ASSIGN_OR_RETURN(head, reader.matrix("output.weight", vocabulary, config.width));
  }

  builder.begin_part("body");
  ValueId x = builder.embed(table, 1.0f);
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    KVASS_ASSIGN_OR_RETURN(x, LayerEmitter(reader, config, layer).run(x));
  }
  builder.set_hidden(x);

  builder.begin_part("head");
  KVASS_ASSIGN_OR_RETURN(const WeightId output_norm, reader.vector("output_norm.weight", config.width));
  const ValueId h = builder.rms_norm("output norm", builder.select_rows(x), output_norm, config.epsilon);
  builder.set_logits(builder.linear("logits", h, head));
  KVASS_RETURN_IF_ERROR(reader.check_all_used(&unread));
  return std::move(reader).finish(std::string(architecture), config.context);
}

}  // namespace kvass
