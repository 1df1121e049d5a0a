// The rotary embedding of a folder: rope_scaling beside rope_theta, as configurations had it, or rope_parameters, for
// all layers or for each kind of layer. Formulas: transformers/modeling_rope_utils.py.
#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "file/one_line.h"
#include "model/folder_family.h"

namespace kvass {
namespace {

constexpr double kMost = 1e12;  // tokens, and any factor

constexpr std::string_view kFields[] = {"rope_type",
                                        "type",
                                        "rope_theta",
                                        "factor",
                                        "original_max_position_embeddings",
                                        "attention_factor",
                                        "beta_fast",
                                        "beta_slow",
                                        "mscale",
                                        "mscale_all_dim",
                                        "truncate",
                                        "low_freq_factor",
                                        "high_freq_factor",
                                        "partial_rotary_factor",
                                        "finetuned"};

constexpr std::string_view kKinds[] = {"full_attention", "sliding_attention"};

// A number that must be there, above 0.
Result<double> positive(const JsonFields& fields, std::string_view key) {
  KVASS_ASSIGN_OR_RETURN(const double value, fields.real(key));
  if (value > 0.0 && value <= kMost) return value;
  return fields.wrong(key, "a number above 0");
}
Result<double> positive_or(const JsonFields& fields, std::string_view key, double fallback) {
  return fields.has(key) ? positive(fields, key) : Result<double>(fallback);
}

Result<std::string> type_of(const JsonFields& rope) {
  return rope.has("rope_type") ? rope.text("rope_type") : rope.text_or("type", "default");
}

Status check_whole_head(const JsonFields& fields) {
  KVASS_ASSIGN_OR_RETURN(const double part, fields.real_or("partial_rotary_factor", 1.0));
  return part == 1.0 ? Status() : fields.cannot("partial_rotary_factor", "1, the whole head");
}

// Tokens that the model was trained for before its frequencies were scaled.
Result<int64_t> original_context(const JsonFields& config, const JsonFields& rope) {
  constexpr const char* kKey = "original_max_position_embeddings";
  constexpr int64_t kMostTokens = UINT32_MAX;  // of GGUF's key
  if (config.has(kKey)) return config.integer(kKey, 1, kMostTokens);
  if (rope.has(kKey)) return rope.integer(kKey, 1, kMostTokens);
  return config.integer("max_position_embeddings", 1, kMostTokens);
}

// 0.1 · m · ln(factor) + 1
double amplitude(double factor, double m) { return factor <= 1.0 ? 1.0 : 0.1 * m * std::log(factor) + 1.0; }

Status write_yarn(const FolderFamily& family, const JsonFields& config, const JsonFields& rope, GgufWriter& out) {
  KVASS_ASSIGN_OR_RETURN(const int64_t context, original_context(config, rope));
  KVASS_ASSIGN_OR_RETURN(const double longest, positive(config, "max_position_embeddings"));
  KVASS_ASSIGN_OR_RETURN(const double factor, positive_or(rope, "factor", longest / context));
  KVASS_ASSIGN_OR_RETURN(const double fast, rope.real_or("beta_fast", 0.0));
  KVASS_ASSIGN_OR_RETURN(const double slow, rope.real_or("beta_slow", 0.0));
  KVASS_ASSIGN_OR_RETURN(const bool truncate, rope.boolean_or("truncate", true));
  if (!truncate) return rope.cannot("truncate", "true");
  KVASS_ASSIGN_OR_RETURN(const double m, rope.real_or("mscale", 0.0));
  KVASS_ASSIGN_OR_RETURN(const double m_all, rope.real_or("mscale_all_dim", 0.0));
  const bool both = m != 0.0 && m_all != 0.0;
  const double own = both ? amplitude(factor, m) / amplitude(factor, m_all) : amplitude(factor, 1.0);
  KVASS_ASSIGN_OR_RETURN(const double attention, positive_or(rope, "attention_factor", own));
  const auto f32 = [&](const char* key, double value) { out.f32(folder_key(family, key), static_cast<float>(value)); };
  out.str(folder_key(family, "rope.scaling.type"), "yarn");
  f32("rope.scaling.factor", factor);
  out.u32(folder_key(family, "rope.scaling.original_context_length"), static_cast<uint32_t>(context));
  f32("rope.scaling.yarn_beta_fast", fast == 0.0 ? 32.0 : fast);
  f32("rope.scaling.yarn_beta_slow", slow == 0.0 ? 1.0 : slow);
  // A reader multiplies it with the amplitude that follows from the factor.
  if (const double rest = attention / amplitude(factor, 1.0); rest != 1.0) f32("rope.scaling.yarn_attn_factor", rest);
  return {};
}

// The divisor of each frequency: 1 for short waves, `factor` for long ones, in between a blend.
Result<std::vector<float>> wave_divisors(const JsonFields& config, const JsonFields& rope, double theta,
                                         int64_t head_dim) {
  KVASS_ASSIGN_OR_RETURN(const int64_t context, original_context(config, rope));
  KVASS_ASSIGN_OR_RETURN(const double factor, positive(rope, "factor"));
  KVASS_ASSIGN_OR_RETURN(const double low, positive(rope, "low_freq_factor"));
  KVASS_ASSIGN_OR_RETURN(const double high, positive(rope, "high_freq_factor"));
  if (!(high > low)) return rope.wrong("high_freq_factor", "more than low_freq_factor");
  std::vector<float> divisors;
  for (int64_t i = 0; i < head_dim; i += 2) {
    const double frequency = std::pow(theta, -static_cast<double>(i) / static_cast<double>(head_dim));
    const double wave = 2.0 * std::numbers::pi / frequency;
    const double smooth = std::min(1.0, std::max(0.0, (context / wave - low) / (high - low)));
    divisors.push_back(static_cast<float>(1.0 / ((1.0 - smooth) / factor + smooth)));
  }
  return divisors;
}

Status write_scaling(const FolderFamily& family, const JsonFields& config, const JsonFields& rope, double theta,
                     FolderShape& shape, GgufWriter& out) {
  KVASS_RETURN_IF_ERROR(check_known(rope, kFields));
  KVASS_RETURN_IF_ERROR(check_whole_head(rope));
  KVASS_ASSIGN_OR_RETURN(const std::string type, type_of(rope));
  const bool all = !family.is(kSlidingLayers);
  if (type == "default") return {};
  if (type == "linear") {
    KVASS_ASSIGN_OR_RETURN(const double factor, positive(rope, "factor"));
    out.str(folder_key(family, "rope.scaling.type"), "linear");
    out.f32(folder_key(family, "rope.scaling.factor"), static_cast<float>(factor));
    return {};
  }
  if (all && type == "yarn") return write_yarn(family, config, rope, out);
  if (all && type == "llama3") {
    KVASS_ASSIGN_OR_RETURN(shape.rotary_divisors, wave_divisors(config, rope, theta, shape.head_dim));
    return {};
  }
  return unsupported(rope.field("rope_type"), all ? "default, linear, llama3 or yarn" : "default or linear",
                     quoted_name(type));
}

void write_base(const FolderFamily& family, const char* key, double theta, GgufWriter& out) {
  out.f32(folder_key(family, key), static_cast<float>(theta));
}

// Full and sliding layers, each with a base of its own.
Status translate_by_layer(const FolderFamily& family, const JsonFields& config, FolderShape& shape, GgufWriter& out) {
  KVASS_ASSIGN_OR_RETURN(const JsonFields kinds, config.object("rope_parameters"));
  KVASS_RETURN_IF_ERROR(check_known(kinds, kKinds));
  KVASS_ASSIGN_OR_RETURN(const JsonFields full, kinds.object("full_attention"));
  KVASS_ASSIGN_OR_RETURN(const JsonFields sliding, kinds.object("sliding_attention"));
  KVASS_ASSIGN_OR_RETURN(const double own, positive_or(config, "rope_theta", 1e6));
  KVASS_ASSIGN_OR_RETURN(const double local, positive_or(config, "rope_local_base_freq", 1e4));
  KVASS_ASSIGN_OR_RETURN(const double full_theta, positive_or(full, "rope_theta", own));
  KVASS_ASSIGN_OR_RETURN(const double sliding_theta, positive_or(sliding, "rope_theta", local));
  KVASS_ASSIGN_OR_RETURN(const std::string type, type_of(sliding));
  if (type != "default") return unsupported(sliding.field("rope_type"), "default", quoted_name(type));
  KVASS_RETURN_IF_ERROR(check_known(sliding, kFields));
  KVASS_RETURN_IF_ERROR(check_whole_head(sliding));
  write_base(family, "rope.freq_base", full_theta, out);
  write_base(family, "rope.freq_base_swa", sliding_theta, out);
  KVASS_ASSIGN_OR_RETURN(const JsonFields scaling, config.object("rope_scaling"));
  return write_scaling(family, config, config.has("rope_scaling") ? scaling : full, full_theta, shape, out);
}

}  // namespace

Status translate_rotary(const FolderFamily& family, const JsonFields& config, FolderShape& shape, GgufWriter& out) {
  KVASS_RETURN_IF_ERROR(check_whole_head(config));
  if (family.is(kSlidingLayers)) return translate_by_layer(family, config, shape, out);
  KVASS_ASSIGN_OR_RETURN(const JsonFields scaling, config.object("rope_scaling"));
  KVASS_ASSIGN_OR_RETURN(const JsonFields parameters, config.object("rope_parameters"));
  KVASS_ASSIGN_OR_RETURN(const JsonFields full, parameters.object("full_attention"));
  const JsonFields& rope = scaling.json().empty() ? (parameters.has("full_attention") ? full : parameters) : scaling;
  KVASS_ASSIGN_OR_RETURN(const double own, positive_or(config, "rope_theta", 1e4));
  KVASS_ASSIGN_OR_RETURN(const double theta, positive_or(rope, "rope_theta", own));
  write_base(family, "rope.freq_base", theta, out);
  return write_scaling(family, config, rope, theta, shape, out);
}

}  // namespace kvass
