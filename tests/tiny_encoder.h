// A small random encoder-decoder, its program and its weights: two convolutions, encoder and decoder layers with
// learned positions, a cross-attention cache for each decoder layer. tiny_encoder_reference.h has its forward pass in
// double.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "ops/linear/weight.h"
#include "program/builder.h"
#include "session/engine.h"

namespace kvass::testing {

struct TinyEncoderConfig {
  int64_t channels = 20, frames = 140, width = 32, hidden = 64, heads = 2, layers = 2, vocabulary = 50, context = 40;
  bool scans = false;  // the condition tests for values other than 0 instead of a flag
};

using Rows = std::vector<std::vector<double>>;

class TinyEncoder {
 public:
  explicit TinyEncoder(const TinyEncoderConfig& config = {}) : config_(config), random_(3) { build(); }

  const TinyEncoderConfig& config() const { return config_; }
  Program program() const { return program_; }
  std::shared_ptr<const Engine> engine(Isa isa, Math math = Math::f32) const;
  // [channels][frames]
  std::vector<float> input(int64_t frames, uint32_t seed) const {
    std::mt19937 random(seed);
    std::vector<float> values(static_cast<size_t>(config_.channels * frames));
    for (float& x : values) x = static_cast<float>(random()) * 0x1p-31f - 1.0f;
    return values;
  }

  Rows encode(const std::vector<float>& input) const;                         // the encoder output
  Rows decode(const Rows& source, const std::vector<int32_t>& tokens) const;  // logits of every token

 private:
  struct Numbers {
    int64_t outputs, inputs;
    std::vector<float> values;
  };
  WeightId matrix(const std::string& name, int64_t outputs, int64_t inputs, double size) {
    return put(name, outputs, inputs, size, 0.0);
  }
  WeightId vector(const std::string& name, int64_t width, double around) { return put(name, 0, width, 0.3, around); }
  WeightId put(const std::string& name, int64_t outputs, int64_t inputs, double size, double around) {
    Numbers numbers{outputs, inputs, {}};
    for (int64_t i = 0; i < std::max<int64_t>(outputs, 1) * inputs; ++i) {
      numbers.values.push_back(static_cast<float>(around + size * (static_cast<double>(random_()) * 0x1p-31 - 1.0)));
    }
    weights_.push_back(std::move(numbers));
    return outputs == 0 ? builder_.vector(name, inputs) : builder_.matrix(name, outputs, inputs);
  }
  struct Norm {
    WeightId weight, bias;
  };
  Norm norm(const std::string& name) {
    return {vector(name, config_.width, 1.0), vector(name + " b", config_.width, 0.0)};
  }
  struct Attention {
    Norm norm;
    WeightId q, k, v, out, out_bias;
  };
  Attention attention(const std::string& name) {
    const int64_t w = config_.width;
    return {norm(name + " norm"),           matrix(name + " q", w, w, 0.4),   matrix(name + " k", w, w, 0.4),
            matrix(name + " v", w, w, 0.3), matrix(name + " out", w, w, 0.3), vector(name + " out b", w, 0.0)};
  }
  struct Layer {
    Attention self, cross;  // cross: in decoder layers only
    Norm norm;
    WeightId up, up_bias, down;
    StateId state;
    CrossId keys;
  };
  Layer layer(const std::string& name, bool decoder) {
    Layer layer;
    layer.self = attention(name + " self");
    if (decoder) layer.cross = attention(name + " cross");
    layer.norm = norm(name + " ffn norm");
    layer.up = matrix(name + " up", config_.hidden, config_.width, 0.3);
    layer.up_bias = vector(name + " up b", config_.hidden, 0.0);
    layer.down = matrix(name + " down", config_.width, config_.hidden, 0.2);
    return layer;
  }
  void build();
  ValueId feed_forward(const Layer& layer, ValueId x);

  // The plain definitions (tiny_encoder_reference.h).
  Rows linear(const Rows& x, WeightId id) const;
  Rows bias(Rows x, WeightId id) const;
  Rows norm(const Rows& x, const Norm& norm) const;
  Rows attend(const Rows& q, const Rows& k, const Rows& v, bool causal) const;
  Rows convolve(const Rows& x, WeightId id, size_t stride) const;
  Rows feed_forward(const Layer& layer, Rows x) const;
  Rows position(Rows x, WeightId table) const;
  const Numbers& numbers(WeightId id) const { return weights_[static_cast<size_t>(id)]; }
  static Rows add(Rows a, const Rows& b);
  static Rows gelu(Rows x);

  TinyEncoderConfig config_;
  std::mt19937 random_;
  ProgramBuilder builder_;
  std::vector<Numbers> weights_;
  WeightId conv1_, conv1_bias_, conv2_, conv2_bias_, source_positions_, positions_, table_;
  Norm encoder_norm_, decoder_norm_;
  std::vector<Layer> encoder_, decoder_;
  Program program_;
};

inline void TinyEncoder::build() {
  const TinyEncoderConfig& c = config_;
  const int64_t source_rows = (c.frames + 1) / 2;
  const float scale = 1.0f / std::sqrt(static_cast<float>(c.width / c.heads));
  conv1_ = matrix("conv1", c.width, 3 * c.channels, 0.3);
  conv1_bias_ = vector("conv1 b", c.width, 0.0);
  conv2_ = matrix("conv2", c.width, 3 * c.width, 0.3);
  conv2_bias_ = vector("conv2 b", c.width, 0.0);
  source_positions_ = matrix("source positions", source_rows, c.width, 0.5);
  positions_ = matrix("positions", c.context, c.width, 0.5);
  table_ = matrix("table", c.vocabulary, c.width, 1.0);
  encoder_norm_ = norm("encoder norm");
  decoder_norm_ = norm("decoder norm");
  for (int64_t i = 0; i < c.layers; ++i) encoder_.push_back(layer("encoder " + std::to_string(i), false));
  for (int64_t i = 0; i < c.layers; ++i) decoder_.push_back(layer("decoder " + std::to_string(i), true));

  ProgramBuilder& b = builder_;
  b.encoder(source_rows, c.width, c.frames);
  b.begin_part("encode");
  ValueId x = b.gelu(b.bias("conv1 b", b.conv1d("conv1", b.input(c.channels), conv1_, 1), conv1_bias_));
  x = b.gelu(b.bias("conv2 b", b.conv1d("conv2", x, conv2_, 2), conv2_bias_));
  x = b.positions(x, source_positions_);
  const std::array<std::string, 3> names = {"q", "k", "v"};
  for (size_t i = 0; i < encoder_.size(); ++i) {
    const Attention& self = encoder_[i].self;
    b.set_scope("layer " + std::to_string(i));
    const ValueId h = b.layer_norm("norm", x, self.norm.weight, self.norm.bias, 1e-5f);
    const std::vector<ValueId> qkv = b.linear("qkv", h, std::array{self.q, self.k, self.v}, names);
    const ValueId out = b.linear("out", b.attend_rows(qkv[0], qkv[1], qkv[2], c.heads, scale), self.out);
    x = feed_forward(encoder_[i], b.add("residual", x, b.bias("out b", out, self.out_bias)));
  }
  b.set_scope("");
  b.store_source(b.layer_norm("encoder norm", x, encoder_norm_.weight, encoder_norm_.bias, 1e-5f));

  b.begin_part("body");
  x = b.positions(b.embed(table_, 1.0f), positions_);
  for (size_t i = 0; i < decoder_.size(); ++i) {
    Layer& layer = decoder_[i];
    b.set_scope("layer " + std::to_string(i));
    layer.state = b.cache("cache " + std::to_string(i), c.heads, c.width / c.heads, 0, kNone);
    layer.keys = b.cross_cache("cross " + std::to_string(i), c.heads, c.width / c.heads);
    ValueId h = b.layer_norm("norm", x, layer.self.norm.weight, layer.self.norm.bias, 1e-5f);
    const std::vector<ValueId> qkv = b.linear("qkv", h, std::array{layer.self.q, layer.self.k, layer.self.v}, names);
    b.cache_write(qkv[1], qkv[2], layer.state);
    h = b.linear("out", b.attention(qkv[0], layer.state, c.heads, scale, 0.0f), layer.self.out);
    x = b.add("residual", x, b.bias("out b", h, layer.self.out_bias));

    h = b.layer_norm("cross norm", x, layer.cross.norm.weight, layer.cross.norm.bias, 1e-5f);
    const ValueId q = b.linear("cross q", h, layer.cross.q);
    const ValueId there = c.scans ? b.any_nonzero(layer.keys) : b.is_initialised(layer.keys);
    const auto keys = b.cond(
        "keys", there, [&] { return b.alias(layer.keys); },
        [&] {
          const std::array<std::string, 2> kv = {"cross k", "cross v"};
          const std::vector<ValueId> made =
              b.linear("cross kv", b.source(), std::array{layer.cross.k, layer.cross.v}, kv);
          return b.update_cross_attn_cache(made[0], made[1], layer.keys);
        });
    h = b.linear("cross out", b.cross_attention(q, keys, c.heads, scale), layer.cross.out);
    x = feed_forward(layer, b.add("cross residual", x, b.bias("cross out b", h, layer.cross.out_bias)));
  }
  b.set_scope("");
  b.set_hidden(x);
  b.begin_part("head");
  const ValueId last = b.layer_norm("decoder norm", b.select_rows(x), decoder_norm_.weight, decoder_norm_.bias, 1e-5f);
  b.set_logits(b.linear("logits", last, table_));
  program_ = std::move(b).finish();
}

inline ValueId TinyEncoder::feed_forward(const Layer& layer, ValueId x) {
  ValueId h = builder_.layer_norm("ffn norm", x, layer.norm.weight, layer.norm.bias, 1e-5f);
  h = builder_.gelu(builder_.bias("up b", builder_.linear("up", h, layer.up), layer.up_bias));
  return builder_.add("ffn residual", x, builder_.linear("down", h, layer.down));
}

inline std::shared_ptr<const Engine> TinyEncoder::engine(Isa isa, Math math) const {
  WeightStore store;
  std::vector<size_t> offsets;
  size_t bytes = 0;
  for (const Numbers& w : weights_) {
    offsets.push_back(bytes);
    const size_t own =
        w.outputs == 0 ? w.values.size() * sizeof(float) : packed_bytes(WeightType::F32, w.outputs, w.inputs).value();
    bytes += (own + 63) / 64 * 64;
  }
  store.block = Block::map(bytes).value();
  for (size_t i = 0; i < weights_.size(); ++i) {
    const Numbers& w = weights_[i];
    uint8_t* to = store.block.data() + offsets[i];
    if (w.outputs == 0) {
      std::copy(w.values.begin(), w.values.end(), reinterpret_cast<float*>(to));
      store.vectors.push_back(reinterpret_cast<const float*>(to));
      store.matrices.push_back({});
    } else {
      pack_panels(WeightType::F32, reinterpret_cast<const uint8_t*>(w.values.data()), w.outputs, w.inputs, 0,
                  panel_count(w.outputs), to);
      store.vectors.push_back(nullptr);
      store.matrices.push_back({WeightType::F32, w.outputs, w.inputs, to});
    }
  }
  return Engine::create(program_, std::move(store), {math, isa}).value();
}

}  // namespace kvass::testing
