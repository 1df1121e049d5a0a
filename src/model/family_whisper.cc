// Whisper. Robust Speech Recognition via Large-Scale Weak Supervision, arXiv 2212.04356: pre-norm transformers with
// learned positions in the decoder and fixed ones in the encoder. Tensor names are those of Hugging Face.
#include <array>
#include <cmath>
#include <set>
#include <string>
#include <string_view>

#include "model/speech.h"
#include "program/builder.h"

namespace kvass {
namespace {

constexpr float kEpsilon = 1e-5f;  // of every layer norm
constexpr int64_t kHeadDim = 64;   // of every model that was trained
constexpr int64_t kMaxLayers = 256;
constexpr int64_t kMaxRows = 1 << 20;
constexpr int64_t kMaxWidth = 1 << 16;

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

// Binds tensors of the source to weights of the program, in the order of the calls.
class Binder {
 public:
  explicit Binder(const TensorSource& source) : source_(source) {}

  ProgramBuilder& builder() { return builder_; }
  bool has(const std::string& tensor) const { return source_.has(tensor); }
  const TensorSource& source() const { return source_; }

  // A tensor [outputs][inputs], or [outputs][inputs / 3][3] for a convolution.
  Result<WeightId> matrix(const std::string& tensor, int64_t outputs, int64_t inputs, bool convolution = false) {
    KVASS_RETURN_IF_ERROR(convolution ? check(tensor, std::array{outputs, inputs / 3, int64_t{3}})
                                      : check(tensor, std::array{outputs, inputs}));
    tensors_.push_back(tensor);
    return builder_.matrix(tensor, outputs, inputs);
  }
  Result<WeightId> vector(const std::string& tensor, int64_t width) {
    KVASS_RETURN_IF_ERROR(check(tensor, std::array{width}));
    tensors_.push_back(tensor);
    return builder_.vector(tensor, width);
  }
  // The shape of a tensor of rank most.size(); size i must be from 1 to most[i].
  Result<std::vector<int64_t>> sizes(const std::string& tensor, std::span<const int64_t> most) const {
    KVASS_ASSIGN_OR_RETURN(const SourceTensor found, source_.tensor(tensor));
    bool sound = found.shape.size() == most.size();
    for (size_t i = 0; sound && i < most.size(); ++i) sound = found.shape[i] >= 1 && found.shape[i] <= most[i];
    if (sound) return found.shape;
    return bad_input(source_.name() + ": tensor '" + tensor + "'", "a shape up to " + shape_text(most),
                     shape_text(found.shape));
  }
  // An error where the source has a tensor of the encoder or the decoder that nothing asked for: the model is another
  // than the family builds. A bias of keys is none of these: it adds the same to every score of a row, which changes no
  // softmax. What is outside of both is the output projection, which is the table of the tokens.
  Status check_all_used() const {
    const std::set<std::string_view> used(tensors_.begin(), tensors_.end());
    for (const std::string& name : source_.names()) {
      const std::string full = name.starts_with("model.") ? name : "model." + name;
      const bool of_a_stack = full.starts_with("model.encoder.") || full.starts_with("model.decoder.");
      if (!of_a_stack || used.contains(full) || full.ends_with("attn.k_proj.bias")) continue;
      return bad_input(source_.name() + ": tensors", "those of a Whisper model", "also '" + name + "'");
    }
    return {};
  }
  SpeechProgram finish(const SpeechShape& shape) && {
    return {{"whisper", std::move(builder_).finish(), std::move(tensors_), shape.context}, shape};
  }

 private:
  Status check(const std::string& tensor, std::span<const int64_t> expected) const {
    KVASS_ASSIGN_OR_RETURN(const SourceTensor found, source_.tensor(tensor));
    if (std::equal(found.shape.begin(), found.shape.end(), expected.begin(), expected.end())) return {};
    return bad_input(source_.name() + ": tensor '" + tensor + "'", "shape " + shape_text(expected),
                     shape_text(found.shape));
  }

  const TensorSource& source_;
  ProgramBuilder builder_;
  std::vector<std::string> tensors_;  // [weights]
};

Result<SpeechShape> read_shape(const Binder& binder, int64_t heads) {
  SpeechShape shape;
  const std::array conv = {kMaxWidth, kMaxWidth, int64_t{3}};
  const std::array table = {kMaxRows, kMaxWidth};
  KVASS_ASSIGN_OR_RETURN(const std::vector<int64_t> first, binder.sizes("model.encoder.conv1.weight", conv));
  KVASS_ASSIGN_OR_RETURN(const std::vector<int64_t> source,
                         binder.sizes("model.encoder.embed_positions.weight", table));
  KVASS_ASSIGN_OR_RETURN(const std::vector<int64_t> words, binder.sizes("model.decoder.embed_tokens.weight", table));
  KVASS_ASSIGN_OR_RETURN(const std::vector<int64_t> text, binder.sizes("model.decoder.embed_positions.weight", table));
  shape.width = first[0];
  shape.mels = first[1];
  shape.source_rows = source[0];
  shape.frames = 2 * source[0];
  shape.vocabulary = words[0];
  shape.context = text[0];
  const auto count = [&](const char* stack) {
    int64_t layers = 0;
    while (layers < kMaxLayers &&
           binder.has("model." + std::string(stack) + ".layers." + std::to_string(layers) + ".fc1.weight")) {
      ++layers;
    }
    return layers;
  };
  shape.encoder_layers = count("encoder");
  shape.decoder_layers = count("decoder");
  shape.heads = heads != 0 ? heads : shape.width / kHeadDim;
  const std::string& name = binder.source().name();
  if (shape.encoder_layers < 1 || shape.decoder_layers < 1) {
    return bad_input(name + ": layers", "encoder and decoder layers",
                     std::to_string(shape.encoder_layers) + " and " + std::to_string(shape.decoder_layers));
  }
  if (shape.heads < 1 || shape.width % shape.heads != 0 || shape.width / shape.heads % 16 != 0 ||
      shape.width / shape.heads > 512) {
    return unsupported(name + ": attention heads", "heads whose size is a multiple of 16 up to 512",
                       std::to_string(shape.heads) + " of a width of " + std::to_string(shape.width));
  }
  return shape;
}

class Emitter {
 public:
  Emitter(Binder& binder, const SpeechShape& shape)
      : binder_(binder),
        builder_(binder.builder()),
        shape_(shape),
        scale_(static_cast<float>(1.0 / std::sqrt(static_cast<double>(shape.width / shape.heads)))) {}

  Status encoder() {
    builder_.encoder(shape_.source_rows, shape_.width, shape_.frames);
    builder_.begin_part("encode");
    KVASS_ASSIGN_OR_RETURN(ValueId x, convolution("conv1", builder_.input(shape_.mels), shape_.mels, 1));
    KVASS_ASSIGN_OR_RETURN(x, convolution("conv2", x, shape_.width, 2));
    KVASS_ASSIGN_OR_RETURN(const WeightId positions,
                           binder_.matrix("model.encoder.embed_positions.weight", shape_.source_rows, shape_.width));
    x = builder_.positions(x, positions);
    for (int64_t i = 0; i < shape_.encoder_layers; ++i) {
      layer_ = "model.encoder.layers." + std::to_string(i) + ".";
      builder_.set_scope("encoder layer " + std::to_string(i));
      KVASS_ASSIGN_OR_RETURN(ValueId h, norm("attention norm", x, layer_ + "self_attn_layer_norm"));
      KVASS_ASSIGN_OR_RETURN(const std::vector<ValueId> qkv, project(h, "self_attn", {"q", "k", "v"}));
      h = builder_.attend_rows(qkv[0], qkv[1], qkv[2], shape_.heads, scale_);
      KVASS_ASSIGN_OR_RETURN(x, residual("attention", x, h, "self_attn.out_proj", shape_.width));
      KVASS_ASSIGN_OR_RETURN(x, feed_forward(x));
    }
    builder_.set_scope("encoder");
    KVASS_ASSIGN_OR_RETURN(x, norm("output norm", x, "model.encoder.layer_norm"));
    builder_.store_source(x);
    return {};
  }

  Status decoder() {
    builder_.begin_part("body");
    KVASS_ASSIGN_OR_RETURN(const WeightId table,
                           binder_.matrix("model.decoder.embed_tokens.weight", shape_.vocabulary, shape_.width));
    KVASS_ASSIGN_OR_RETURN(const WeightId positions,
                           binder_.matrix("model.decoder.embed_positions.weight", shape_.context, shape_.width));
    ValueId x = builder_.positions(builder_.embed(table, 1.0f), positions);
    for (int64_t i = 0; i < shape_.decoder_layers; ++i) {
      layer_ = "model.decoder.layers." + std::to_string(i) + ".";
      builder_.set_scope("layer " + std::to_string(i));
      KVASS_ASSIGN_OR_RETURN(x, self_attention(i, x));
      KVASS_ASSIGN_OR_RETURN(x, cross_attention(i, x));
      KVASS_ASSIGN_OR_RETURN(x, feed_forward(x));
    }
    builder_.set_hidden(x);
    builder_.begin_part("head");
    KVASS_ASSIGN_OR_RETURN(const ValueId h, norm("output norm", builder_.select_rows(x), "model.decoder.layer_norm"));
    builder_.set_logits(builder_.linear("logits", h, table));
    return {};
  }

 private:
  Result<ValueId> norm(const std::string& name, ValueId x, const std::string& tensor) {
    KVASS_ASSIGN_OR_RETURN(const WeightId weight, binder_.vector(tensor + ".weight", shape_.width));
    KVASS_ASSIGN_OR_RETURN(const WeightId bias, binder_.vector(tensor + ".bias", shape_.width));
    return builder_.layer_norm(name, x, weight, bias, kEpsilon);
  }

  Result<ValueId> biased(const std::string& name, ValueId x, const std::string& tensor, int64_t width) {
    KVASS_ASSIGN_OR_RETURN(const WeightId bias, binder_.vector(tensor + ".bias", width));
    return builder_.bias(name + " bias", x, bias);
  }

  Result<ValueId> convolution(const std::string& name, ValueId x, int64_t width, int64_t stride) {
    const std::string tensor = "model.encoder." + name;
    KVASS_ASSIGN_OR_RETURN(const WeightId weight, binder_.matrix(tensor + ".weight", shape_.width, 3 * width, true));
    KVASS_ASSIGN_OR_RETURN(x, biased(name, builder_.conv1d(name, x, weight, stride), tensor, shape_.width));
    return builder_.gelu(x);
  }

  // Projects x by the `parts` asked for, of q, k and v. Keys have no bias.
  Result<std::vector<ValueId>> project(ValueId x, const std::string& attention, const std::vector<std::string>& parts) {
    const std::string scope = attention == "encoder_attn" ? "cross " : "";
    std::vector<WeightId> weights;
    std::vector<std::string> names;
    for (const std::string& part : parts) {
      names.push_back(scope + part);
      const std::string tensor = layer_ + attention + "." + part + "_proj.weight";
      KVASS_ASSIGN_OR_RETURN(weights.emplace_back(), binder_.matrix(tensor, shape_.width, shape_.width));
    }
    std::vector<ValueId> values = builder_.linear(scope + "projections", x, weights, names);
    for (size_t i = 0; i < parts.size(); ++i) {
      if (parts[i] == "k") continue;
      KVASS_ASSIGN_OR_RETURN(values[i],
                             biased(names[i], values[i], layer_ + attention + "." + parts[i] + "_proj", shape_.width));
    }
    return values;
  }

  Result<ValueId> residual(const std::string& name, ValueId x, ValueId h, const std::string& tensor, int64_t inputs) {
    KVASS_ASSIGN_OR_RETURN(const WeightId weight, binder_.matrix(layer_ + tensor + ".weight", shape_.width, inputs));
    KVASS_ASSIGN_OR_RETURN(h,
                           biased(name, builder_.linear(name + " output", h, weight), layer_ + tensor, shape_.width));
    return builder_.add(name + " residual", x, h);
  }

  Result<ValueId> feed_forward(ValueId x) {
    KVASS_ASSIGN_OR_RETURN(ValueId h, norm("ffn norm", x, layer_ + "final_layer_norm"));
    const int64_t hidden = 4 * shape_.width;
    KVASS_ASSIGN_OR_RETURN(const WeightId up, binder_.matrix(layer_ + "fc1.weight", hidden, shape_.width));
    KVASS_ASSIGN_OR_RETURN(h, biased("up", builder_.linear("up", h, up), layer_ + "fc1", hidden));
    return residual("ffn", x, builder_.gelu(h), "fc2", hidden);
  }

  Result<ValueId> self_attention(int64_t layer, ValueId x) {
    const StateId state =
        builder_.cache("cache " + std::to_string(layer), shape_.heads, shape_.width / shape_.heads, 0, kNone);
    KVASS_ASSIGN_OR_RETURN(const ValueId h, norm("attention norm", x, layer_ + "self_attn_layer_norm"));
    KVASS_ASSIGN_OR_RETURN(const std::vector<ValueId> qkv, project(h, "self_attn", {"q", "k", "v"}));
    builder_.cache_write(qkv[1], qkv[2], state);
    const ValueId out = builder_.attention(qkv[0], state, shape_.heads, scale_, 0.0f);
    return residual("attention", x, out, "self_attn.out_proj", shape_.width);
  }

  // Keys and values of the encoder output are computed once, in the first step after an encode.
  Result<ValueId> cross_attention(int64_t layer, ValueId x) {
    const CrossId cross =
        builder_.cross_cache("cross cache " + std::to_string(layer), shape_.heads, shape_.width / shape_.heads);
    KVASS_ASSIGN_OR_RETURN(const ValueId h, norm("cross attention norm", x, layer_ + "encoder_attn_layer_norm"));
    KVASS_ASSIGN_OR_RETURN(const std::vector<ValueId> q, project(h, "encoder_attn", {"q"}));
    Status status;
    const auto keys = builder_.cond(
        "cross keys", builder_.is_initialised(cross), [&] { return builder_.alias(cross); },
        [&] {
          const ValueId source = builder_.source();
          const Result<std::vector<ValueId>> kv = project(source, "encoder_attn", {"k", "v"});
          if (kv.ok()) return builder_.update_cross_attn_cache(kv.value()[0], kv.value()[1], cross);
          status = kv.status();
          return builder_.alias(cross);
        });
    KVASS_RETURN_IF_ERROR(status);
    const ValueId out = builder_.cross_attention(q[0], keys, shape_.heads, scale_);
    return residual("cross attention", x, out, "encoder_attn.out_proj", shape_.width);
  }

  Binder& binder_;
  ProgramBuilder& builder_;
  const SpeechShape& shape_;
  float scale_;
  std::string layer_;  // prefix of the current layer's tensors
};

}  // namespace

Result<SpeechProgram> build_speech_program(const TensorSource& source, int64_t heads) {
  Binder binder(source);
  KVASS_ASSIGN_OR_RETURN(const SpeechShape shape, read_shape(binder, heads));
  Emitter emitter(binder, shape);
  KVASS_RETURN_IF_ERROR(emitter.encoder());
  KVASS_RETURN_IF_ERROR(emitter.decoder());
  KVASS_RETURN_IF_ERROR(binder.check_all_used());
  return std::move(binder).finish(shape);
}

}  // namespace kvass
