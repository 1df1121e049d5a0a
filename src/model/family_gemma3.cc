// Gemma 3 text models. Gemma 3 Technical Report, arXiv 2503.19786; metadata keys as in the GGUF specification.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "model/family.h"

namespace kvass {
namespace {

struct Config : DecoderShape {
  int64_t window = 0;         // tokens, sliding layers
  std::vector<bool> sliding;  // [layers]
  int64_t vocabulary = 0;
  float attention_scale = 0.0f;
  float attention_cap = 0.0f;
  float logit_cap = 0.0f;
  RotaryParams full_rotary;
  RotaryParams sliding_rotary;
};

// Changes of the rotary embedding that Gemma 3 does not have.
constexpr FamilyReader::NeutralKey kOtherRotary[] = {{"rope.scaling.attn_factor", 1.0},
                                                     {"rope.scaling.yarn_attn_factor", 1.0}};
constexpr double kLeastBase = 1.0, kMostBase = 1e30;

// Tensors that change no result of the text model: the image tower that some converters put into the same file, and
// frequencies that follow from the metadata.
bool unread(std::string_view tensor) {
  return tensor.starts_with("v.") || tensor.starts_with("mm.") || tensor.ends_with(".attn_rot_embd.weight");
}

// Layer i is full exactly when (i + 1) mod n = 0; or it slides where element i is true.
Result<std::vector<bool>> read_sliding(const FamilyReader& reader, int64_t layers) {
  constexpr std::string_view kKey = "attention.sliding_window_pattern";
  std::vector<bool> sliding(static_cast<size_t>(layers));
  if (reader.is_array(kKey)) {
    KVASS_ASSIGN_OR_RETURN(const std::vector<int64_t> values, reader.integers(kKey, layers, 0, 1));
    std::transform(values.begin(), values.end(), sliding.begin(), [](int64_t value) { return value == 1; });
    return sliding;
  }
  KVASS_ASSIGN_OR_RETURN(const int64_t pattern, reader.integer_or(kKey, 6, 2, 1024));
  for (int64_t i = 0; i < layers; ++i) sliding[static_cast<size_t>(i)] = (i + 1) % pattern != 0;
  return sliding;
}

// The first Gemma 3 files that Ollama wrote lack the scaling of the larger models and give the 1B model a cap that it
// does not have. They are known by the names of their bases.
void mend_early_files(FamilyReader& reader, Config& config) {
  if (!reader.has("rope.local.freq_base") && !reader.has("rope.global.freq_base")) return;
  const bool larger = config.layers == 34 || config.layers == 48 || config.layers == 62;  // 4B, 12B, 27B
  if (larger && !reader.has("rope.scaling.type") && config.full_rotary.factor == 1.0) {
    config.full_rotary.factor = 8.0;
    reader.note(reader.field("rope.scaling.factor") +
                ": the file has none; 8 is taken, as Gemma 3 of this size has it");
  }
  if (config.layers == 26 && config.logit_cap != 0.0f) {
    config.logit_cap = 0.0f;
    reader.note(reader.field("final_logit_softcapping") + ": not applied, for Gemma 3 has none");
  }
}

Status read_rotary(FamilyReader& reader, Config& config) {
  RotaryParams& full = config.full_rotary;
  RotaryParams& sliding = config.sliding_rotary;
  full.head_dim = sliding.head_dim = config.head_dim;
  KVASS_ASSIGN_OR_RETURN(full.base,
                         reader.either_or("rope.freq_base", "rope.global.freq_base", 1e6, kLeastBase, kMostBase));
  KVASS_ASSIGN_OR_RETURN(sliding.base,
                         reader.either_or("rope.freq_base_swa", "rope.local.freq_base", 1e4, kLeastBase, kMostBase));
  KVASS_RETURN_IF_ERROR(reader.check_neutral(kOtherRotary));
  KVASS_ASSIGN_OR_RETURN(const std::string_view type, reader.rotary_type());
  if (type != "linear" && type != "none") {
    return unsupported(reader.field("rope.scaling.type"), "linear or none", type);
  }
  KVASS_ASSIGN_OR_RETURN(const double factor, reader.rotary_factor());
  if (type == "linear") full.factor = factor;
  return {};
}

Result<Config> read_config(FamilyReader& reader) {
  Config config;
  KVASS_ASSIGN_OR_RETURN(static_cast<DecoderShape&>(config), read_decoder_shape(reader, 256, 1e-6));
  KVASS_ASSIGN_OR_RETURN(config.window, reader.integer("attention.sliding_window", 1, int64_t{1} << 32));
  KVASS_ASSIGN_OR_RETURN(config.sliding, read_sliding(reader, config.layers));
  KVASS_ASSIGN_OR_RETURN(const double attention_cap, reader.real_or("attn_logit_softcapping", 0.0));
  KVASS_ASSIGN_OR_RETURN(const double logit_cap, reader.real_or("final_logit_softcapping", 0.0));
  config.attention_cap = static_cast<float>(attention_cap);
  config.logit_cap = static_cast<float>(logit_cap);

  // The scale is 1 / sqrt(head_dim). The 27B model, known by its 62 layers, has 1 / sqrt(width / heads) instead.
  const double divisor = config.layers == 62 ? static_cast<double>(config.width) / static_cast<double>(config.heads)
                                             : static_cast<double>(config.head_dim);
  config.attention_scale = static_cast<float>(1.0 / std::sqrt(divisor));
  KVASS_RETURN_IF_ERROR(read_rotary(reader, config));
  mend_early_files(reader, config);
  return config;
}

// One layer: x -> x' with attention and feed-forward branches, each between a pre- and a post-norm.
Result<ValueId> emit_layer(FamilyReader& reader, const Config& config, int64_t layer, ValueId x) {
  ProgramBuilder& builder = reader.builder();
  builder.set_scope("layer " + std::to_string(layer));
  const bool full = !config.sliding[static_cast<size_t>(layer)];
  const RotaryId rotary = builder.rotary(full ? config.full_rotary : config.sliding_rotary);
  const StateId state = builder.cache("cache " + std::to_string(layer), config.kv_heads, config.head_dim,
                                      full ? 0 : config.window, rotary);
  const int64_t q_width = config.q_width();
  const int64_t kv_width = config.kv_width();

  KVASS_ASSIGN_OR_RETURN(const WeightId attn_norm, reader.vector(layer_tensor(layer, "attn_norm"), config.width));
  KVASS_ASSIGN_OR_RETURN(const WeightId wq, reader.matrix(layer_tensor(layer, "attn_q"), q_width, config.width));
  KVASS_ASSIGN_OR_RETURN(const WeightId wk, reader.matrix(layer_tensor(layer, "attn_k"), kv_width, config.width));
  KVASS_ASSIGN_OR_RETURN(const WeightId wv, reader.matrix(layer_tensor(layer, "attn_v"), kv_width, config.width));
  KVASS_ASSIGN_OR_RETURN(const WeightId q_norm, reader.vector(layer_tensor(layer, "attn_q_norm"), config.head_dim));
  KVASS_ASSIGN_OR_RETURN(const WeightId k_norm, reader.vector(layer_tensor(layer, "attn_k_norm"), config.head_dim));
  KVASS_ASSIGN_OR_RETURN(const WeightId wo, reader.matrix(layer_tensor(layer, "attn_output"), config.width, q_width));
  KVASS_ASSIGN_OR_RETURN(const WeightId attn_post,
                         reader.vector(layer_tensor(layer, "post_attention_norm"), config.width));
  KVASS_ASSIGN_OR_RETURN(const WeightId ffn_norm, reader.vector(layer_tensor(layer, "ffn_norm"), config.width));
  KVASS_ASSIGN_OR_RETURN(const WeightId gate,
                         reader.matrix(layer_tensor(layer, "ffn_gate"), config.hidden, config.width));
  KVASS_ASSIGN_OR_RETURN(const WeightId up, reader.matrix(layer_tensor(layer, "ffn_up"), config.hidden, config.width));
  KVASS_ASSIGN_OR_RETURN(const WeightId down,
                         reader.matrix(layer_tensor(layer, "ffn_down"), config.width, config.hidden));
  KVASS_ASSIGN_OR_RETURN(const WeightId ffn_post, reader.vector(layer_tensor(layer, "post_ffw_norm"), config.width));

  ValueId h = builder.rms_norm("attention norm", x, attn_norm, config.epsilon);
  const std::array qkv_weights = {wq, wk, wv};
  const std::array<std::string, 3> qkv_names = {"q", "k", "v"};
  const std::vector<ValueId> qkv = builder.linear("qkv", h, qkv_weights, qkv_names);
  const ValueId q = builder.rms_norm("q norm", qkv[0], q_norm, config.epsilon, config.heads);
  const ValueId k = builder.rms_norm("k norm", qkv[1], k_norm, config.epsilon, config.kv_heads);
  builder.cache_write(k, qkv[2], state);
  h = builder.attention(q, state, config.heads, config.attention_scale, config.attention_cap);
  h = builder.linear("attention output", h, wo);
  h = builder.rms_norm("attention post-norm", h, attn_post, config.epsilon);
  x = builder.add("attention residual", x, h);

  h = builder.rms_norm("ffn norm", x, ffn_norm, config.epsilon);
  const std::array gate_up = {gate, up};
  const std::array<std::string, 2> gate_up_names = {"gate", "up"};
  const std::vector<ValueId> hidden = builder.linear("gate and up", h, gate_up, gate_up_names);
  h = builder.gelu_gate(hidden[0], hidden[1]);
  h = builder.linear("down", h, down);
  h = builder.rms_norm("ffn post-norm", h, ffn_post, config.epsilon);
  return builder.add("ffn residual", x, h);
}

}  // namespace

Result<ModelProgram> build_gemma3(const Gguf& file) {
  FamilyReader reader(file, "gemma3");
  KVASS_ASSIGN_OR_RETURN(Config config, read_config(reader));
  ProgramBuilder& builder = reader.builder();

  KVASS_ASSIGN_OR_RETURN(const GgufTensor* embedding, file.tensor("token_embd.weight"));
  config.vocabulary = embedding->shape.size() == 2 ? embedding->shape[1] : 0;
  KVASS_ASSIGN_OR_RETURN(const WeightId table, reader.matrix("token_embd.weight", config.vocabulary, config.width));
  WeightId head = table;  // the embedding table, unless the file has a separate head
  if (file.find_tensor("output.weight") != nullptr) {
    KVASS_ASSIGN_OR_RETURN(head, reader.matrix("output.weight", config.vocabulary, config.width));
  }

  builder.begin_part("body");
  ValueId x = builder.embed(table, static_cast<float>(std::sqrt(static_cast<double>(config.width))));
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    KVASS_ASSIGN_OR_RETURN(x, emit_layer(reader, config, layer, x));
  }
  builder.set_hidden(x);

  builder.begin_part("head");
  KVASS_ASSIGN_OR_RETURN(const WeightId output_norm, reader.vector("output_norm.weight", config.width));
  ValueId h = builder.select_rows(x);
  h = builder.rms_norm("output norm", h, output_norm, config.epsilon);
  h = builder.linear("logits", h, head);
  if (config.logit_cap > 0.0f) h = builder.softcap(h, config.logit_cap);
  builder.set_logits(h);
  KVASS_RETURN_IF_ERROR(reader.check_all_used(&unread));
  return std::move(reader).finish("gemma3", config.context);
}

}  // namespace kvass
