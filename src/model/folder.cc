// The tensors of a folder under the names of a GGUF file.
#include "model/folder.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <set>
#include <utility>

#include "base/float16.h"
#include "file/one_line.h"
#include "file/tensor_source.h"
#include "model/family.h"
#include "model/folder_family.h"

namespace kvass {
namespace {

constexpr FolderFamily kFamilies[] = {
#define KVASS_FOLDER_FAMILY(architecture, gguf, traits) {#architecture, #gguf, traits},
#include "model/folder_families.inc"
#undef KVASS_FOLDER_FAMILY
};

Result<const FolderFamily*> find_family(const JsonFields& config) {
  std::string known;
  for (const FolderFamily& family : kFamilies) known += (known.empty() ? "" : ", ") + std::string(family.architecture);
  KVASS_ASSIGN_OR_RETURN(const JsonFields::Json* names, config.array("architectures"));
  if (!names || names->empty()) return config.wrong("architectures", "one of " + known);
  const std::string name = (*names)[0].is_string() ? (*names)[0].get<std::string>() : json_shown((*names)[0]);
  for (const FolderFamily& family : kFamilies) {
    if (family.architecture == name) return &family;
  }
  return unsupported(config.field("architectures"), "one of " + known, quoted_name(name));
}

Result<GgmlType> type_of(const SafeTensorsFolder& files, std::string_view name) {
  const std::string& dtype = files.find(name)->tensor.dtype;
  if (dtype == "F32") return GgmlType::F32;
  if (dtype == "F16") return GgmlType::F16;
  if (dtype == "BF16") return GgmlType::BF16;
  return unsupported(files.field(name) + " dtype", "F32, F16 or BF16", quoted_name(dtype));
}

class Translator {
 public:
  Translator(const FolderFamily& family, const FolderShape& shape, const SafeTensorsFolder& files, GgufParts& parts)
      : family_(family), shape_(shape), files_(files), parts_(parts) {
    // The text part of a model of several kinds of input has had two names.
    for (const char* prefix : {"model.", "model.language_model.", "language_model.model."}) {
      if (files.find(std::string(prefix) + "embed_tokens.weight")) prefix_ = prefix;
    }
  }

  Status run() {
    KVASS_RETURN_IF_ERROR(matrix("embed_tokens.weight", "token_embd.weight"));
    KVASS_RETURN_IF_ERROR(norm("norm.weight", "output_norm.weight"));
    KVASS_RETURN_IF_ERROR(head());
    for (int64_t i = 0; i < shape_.layers; ++i) KVASS_RETURN_IF_ERROR(layer(i));
    if (!shape_.rotary_divisors.empty()) add_numbers("rope_freqs.weight", shape_.rotary_divisors);
    return check_all_used();
  }

 private:
  Status layer(int64_t index) {
    const std::string from = "layers." + std::to_string(index) + ".";
    const bool biases = shape_.attention_biases;
    for (const auto& [name, to, heads] : {std::tuple("q", "attn_q", shape_.heads),
                                          {"k", "attn_k", shape_.kv_heads},
                                          {"v", "attn_v", int64_t{0}},
                                          {"o", "attn_output", int64_t{0}}}) {
      const std::string projection = from + "self_attn." + name + "_proj";
      const int64_t ordered = family_.is(kNeighbours) ? heads : 0;
      KVASS_RETURN_IF_ERROR(matrix(projection + ".weight", layer_tensor(index, to), ordered));
      const bool biased = biases || (family_.is(kQkvBiases) && *name != 'o');
      if (biased)
        KVASS_RETURN_IF_ERROR(vector(projection + ".bias", layer_tensor(index, to, "bias"), 0.0f, 1.0, ordered));
    }
    for (const auto& [name, to] :
         {std::pair("gate_proj", "ffn_gate"), {"up_proj", "ffn_up"}, {"down_proj", "ffn_down"}}) {
      KVASS_RETURN_IF_ERROR(matrix(from + "mlp." + name + ".weight", layer_tensor(index, to)));
      if (shape_.mlp_biases) {
        KVASS_RETURN_IF_ERROR(vector(from + "mlp." + name + ".bias", layer_tensor(index, to, "bias")));
      }
    }
    if (family_.is(kHeadNorms)) {
      KVASS_RETURN_IF_ERROR(
          norm(from + "self_attn.q_norm.weight", layer_tensor(index, "attn_q_norm"), shape_.query_factor));
      KVASS_RETURN_IF_ERROR(norm(from + "self_attn.k_norm.weight", layer_tensor(index, "attn_k_norm")));
    }
    KVASS_RETURN_IF_ERROR(norm(from + "input_layernorm.weight", layer_tensor(index, "attn_norm")));
    const bool post = family_.is(kPostNorms);
    KVASS_RETURN_IF_ERROR(
        norm(from + "post_attention_layernorm.weight", layer_tensor(index, post ? "post_attention_norm" : "ffn_norm")));
    if (!post) return {};
    KVASS_RETURN_IF_ERROR(norm(from + "pre_feedforward_layernorm.weight", layer_tensor(index, "ffn_norm")));
    return norm(from + "post_feedforward_layernorm.weight", layer_tensor(index, "post_ffw_norm"));
  }

  // The head: a tensor of its own, unless it is tied to the embedding. Files of tied models may have it all the same;
  // it counts where it differs, as in transformers.
  Status head() {
    const std::string name = prefix_ == "language_model.model." ? "language_model.lm_head.weight" : "lm_head.weight";
    const SafeTensorsFolder::Tensor* const own = files_.find(name);
    if (shape_.tied) {
      const SafeTensor& table = files_.find(prefix_ + "embed_tokens.weight")->tensor;
      const bool same = !own || (own->tensor.dtype == table.dtype && own->tensor.shape == table.shape &&
                                 std::equal(own->tensor.bytes.begin(), own->tensor.bytes.end(), table.bytes.begin()));
      used_.insert(name);
      if (same) return {};
    }
    return matrix_named(name, "output.weight", 0);
  }

  Status matrix(const std::string& from, const std::string& to, int64_t heads = 0) {
    return matrix_named(prefix_ + from, to, heads);
  }

  // `heads`: the halves of so many heads become neighbours; 0: rows as they are.
  Status matrix_named(const std::string& name, const std::string& to, int64_t heads) {
    KVASS_ASSIGN_OR_RETURN(const SafeTensor* from, find(name, 2));
    GgufTensor tensor;
    tensor.name = to;
    KVASS_ASSIGN_OR_RETURN(tensor.type, type_of(files_, name));
    tensor.shape = {from->shape[1], from->shape[0]};
    tensor.bytes = from->bytes.size();
    tensor.data = from->bytes.data();
    if (heads > 0) {
      KVASS_RETURN_IF_ERROR(check_heads(name, from->shape[0], heads));
      tensor.head_rows = from->shape[0] / heads;
    }
    parts_.tensors.push_back(std::move(tensor));
    return {};
  }

  Status norm(const std::string& from, const std::string& to, double factor = 1.0) {
    return vector(from, to, family_.is(kOffsetNorms) ? 1.0f : 0.0f, factor);
  }

  // (value + offset) · factor as float32
  Status vector(const std::string& from, const std::string& to, float offset = 0.0f, double factor = 1.0,
                int64_t heads = 0) {
    const std::string name = prefix_ + from;
    KVASS_ASSIGN_OR_RETURN(const SafeTensor* source, find(name, 1));
    SourceTensor rows;
    KVASS_ASSIGN_OR_RETURN(rows.type, type_of(files_, name));
    rows.shape = source->shape;
    rows.data = source->bytes;
    std::vector<float> values(static_cast<size_t>(source->shape[0]));
    rows.read_rows(0, source->shape[0], values.data());
    for (float& value : values) {
      value = value + offset;
      if (factor != 1.0) value = static_cast<float>(static_cast<double>(value) * factor);
    }
    if (heads > 0) {
      KVASS_RETURN_IF_ERROR(check_heads(name, source->shape[0], heads));
      const std::vector<float> halves = values;
      const size_t size = values.size() / static_cast<size_t>(heads);
      for (size_t i = 0; i < values.size(); ++i)
        values[i] = halves[i / size * size + i % size / 2 + i % 2 * (size / 2)];
    }
    add_numbers(to, std::move(values));
    return {};
  }

  void add_numbers(const std::string& to, std::vector<float> values) {
    parts_.numbers.push_back(std::move(values));
    const std::vector<float>& kept = parts_.numbers.back();
    GgufTensor tensor;
    tensor.name = to;
    tensor.type = GgmlType::F32;
    tensor.shape = {static_cast<int64_t>(kept.size())};
    tensor.bytes = kept.size() * sizeof(float);
    tensor.data = reinterpret_cast<const uint8_t*>(kept.data());
    parts_.tensors.push_back(std::move(tensor));
  }

  Result<const SafeTensor*> find(const std::string& name, size_t dimensions) {
    const SafeTensorsFolder::Tensor* const found = files_.find(name);
    if (!found) return bad_input(files_.field(name), "it in the file", "none of that name");
    used_.insert(name);
    const std::vector<int64_t>& shape = found->tensor.shape;
    if (shape.size() == dimensions && found->tensor.elements() > 0) return &found->tensor;
    std::string text;
    for (const int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
    return bad_input(files_.field(name) + " shape", dimensions == 2 ? "a matrix" : "a vector", "[" + text + "]");
  }

  Status check_heads(const std::string& name, int64_t rows, int64_t heads) const {
    if (rows % (2 * heads) == 0) return {};
    return bad_input(files_.field(name) + " shape", "a multiple of 2 x " + std::to_string(heads) + " heads",
                     std::to_string(rows) + " rows");
  }

  // Tensors that change no result: frequencies that follow from the configuration, and other kinds of input.
  bool unread(std::string_view name) const {
    if (name.ends_with("rotary_emb.inv_freq")) return true;
    if (!family_.is(kTextPart)) return false;
    if (name.starts_with("model.")) name.remove_prefix(6);
    return name.starts_with("vision_tower.") || name.starts_with("multi_modal_projector.");
  }

  Status check_all_used() const {
    for (const auto& [name, tensor] : files_.tensors()) {
      if (used_.contains(name) || unread(name)) continue;
      return unsupported(files_.field(name), "no such tensor in a model of this configuration", "it in the file");
    }
    return {};
  }

  const FolderFamily& family_;
  const FolderShape& shape_;
  const SafeTensorsFolder& files_;
  GgufParts& parts_;
  std::string prefix_ = "model.";
  std::set<std::string, std::less<>> used_;
};

uint32_t file_type(GgmlType type) {  // general.file_type
  return type == GgmlType::F32 ? 0 : type == GgmlType::F16 ? 1 : 32;
}

}  // namespace

bool is_speech_folder(const JsonFields& config) {
  const Result<const JsonFields::Json*> names = config.array("architectures");
  if (names.ok() && names.value() && !names.value()->empty() && names.value()->front().is_string()) {
    return names.value()->front().get<std::string>().starts_with("Whisper");
  }
  return config.has("encoder_attention_heads");
}

Result<FolderModel> translate_model(const JsonFields& config, SafeTensorsFolder files, const std::string& name) {
  KVASS_ASSIGN_OR_RETURN(const FolderFamily* family, find_family(config));
  FolderModel out;
  out.metadata.str("general.architecture", family->gguf);
  out.metadata.str("general.name", name);
  JsonFields text = config;
  if (family->is(kTextPart)) {
    if (!config.has("text_config")) return config.wrong("text_config", "the configuration of the text model");
    KVASS_ASSIGN_OR_RETURN(text, config.object("text_config"));
    if (config.has("quantization_config")) return config.cannot("quantization_config", "none");
  }
  KVASS_ASSIGN_OR_RETURN(FolderShape shape, translate_config(*family, text, out.metadata));
  KVASS_ASSIGN_OR_RETURN(const bool tied, config.boolean_or("tie_word_embeddings", shape.tied));
  shape.tied = shape.tied && tied;
  KVASS_RETURN_IF_ERROR(Translator(*family, shape, files, out.parts).run());
  const GgufTensor& table = out.parts.tensors.front();
  out.rows = table.shape[1];
  if (shape.vocabulary != 0 && shape.vocabulary != out.rows) {
    return bad_input(text.field("vocab_size"), std::to_string(out.rows) + ", the rows of the embedding",
                     std::to_string(shape.vocabulary));
  }
  out.metadata.u32(folder_key(*family, "vocab_size"), static_cast<uint32_t>(out.rows));
  out.metadata.u32("general.file_type", file_type(table.type));
  out.metadata.u32("general.quantization_version", 2);
  out.parts.maps = std::move(files).take_maps();
  return out;
}

}  // namespace kvass
