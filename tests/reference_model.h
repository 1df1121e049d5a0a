// A plain forward pass of the tiny model in float64: the whole sequence at once, dense attention with an explicit
// visibility rule, keys rotated again for every query where StreamingLLM says so. It shares no code with the code under
// test.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include "kvass/sink_positions.h"
#include "reference_rotary.h"
#include "tiny_model.h"

namespace kvass::testing {

// With sinks the full layers (or all layers, if none is full) see the first `sink_tokens` positions and the latest
// `sink_window`, or their own window if that is shorter.
struct ReferenceSinks {
  bool on = false;
  int64_t sink_tokens = 0;
  int64_t sink_window = 0;
  SinkPositions positions = SinkPositions::in_cache;
  int64_t offset = 0;  // added to the positions after the sinks; not with in_cache
};

class ReferenceModel {
 public:
  using Row = std::vector<double>;

  explicit ReferenceModel(const TinyModel& model)
      : model_(model), config_(model.config()), full_(config_, true), sliding_(config_, false) {}

  // Logits of every position: [tokens][vocabulary].
  std::vector<Row> run(const std::vector<int32_t>& tokens, const ReferenceSinks& sinks = {}) const {
    std::vector<Row> x;
    const Row& table = model_.values("token_embd");
    for (int32_t token : tokens) {
      Row row(table.begin() + token * config_.width, table.begin() + (token + 1) * config_.width);
      if (config_.gemma()) {
        for (double& value : row) value *= std::sqrt(static_cast<double>(config_.width));
      }
      x.push_back(row);
    }
    for (int64_t layer = 0; layer < config_.layers; ++layer) run_layer(layer, sinks, x);
    std::vector<Row> logits;
    for (const Row& row : x) {
      Row out = project(config_.tied ? "token_embd" : "output", norm(row, "output_norm"), config_.vocabulary);
      if (config_.logit_cap > 0) {
        for (double& value : out) value = config_.logit_cap * std::tanh(value / config_.logit_cap);
      }
      logits.push_back(out);
    }
    return logits;
  }

 private:
  std::string name(int64_t layer, const char* part) const { return "blk." + std::to_string(layer) + "." + part; }

  Row norm(const Row& x, const std::string& weight) const {
    const Row& w = model_.values(weight);
    Row out(x.size());
    for (size_t begin = 0; begin < x.size(); begin += w.size()) {
      double sum = 0.0;
      for (size_t i = 0; i < w.size(); ++i) sum += x[begin + i] * x[begin + i];
      const double r = 1.0 / std::sqrt(sum / static_cast<double>(w.size()) + static_cast<double>(config_.epsilon));
      for (size_t i = 0; i < w.size(); ++i) out[begin + i] = x[begin + i] * r * w[i];
    }
    return out;
  }

  Row project(const std::string& weight, const Row& x, int64_t outputs) const {
    const Row& w = model_.values(weight);
    const Row* bias = model_.bias(weight);
    Row out = bias != nullptr ? *bias : Row(static_cast<size_t>(outputs), 0.0);
    for (size_t o = 0; o < out.size(); ++o) {
      for (size_t i = 0; i < x.size(); ++i) out[o] += w[o * x.size() + i] * x[i];
    }
    return out;
  }

  const ReferenceRotary& rotary(bool full) const { return full ? full_ : sliding_; }

  // The keys that query `q` sees, and their places for the rotation (the query's own place is last). With StreamingLLM
  // the sinks and the window are adjacent in the cache, and places are counted within the cache.
  struct Seen {
    std::vector<int64_t> keys;
    std::vector<int64_t> places;  // [keys]
  };
  Seen seen(int64_t q, bool full, const ReferenceSinks& sinks) const {
    Seen result;
    bool none_full = true;
    for (int64_t layer = 0; layer < config_.layers; ++layer) none_full = none_full && !config_.full(layer);
    const bool streaming = sinks.on && (full || none_full);
    const int64_t sink_window = full ? sinks.sink_window : std::min(sinks.sink_window, config_.window);
    for (int64_t k = 0; k <= q; ++k) {
      const bool sink = streaming && k < sinks.sink_tokens;
      const int64_t window = streaming ? sink_window : (full ? q + 1 : config_.window);
      if (!sink && q - k >= window) continue;
      result.keys.push_back(k);
      int64_t place = k;
      if (streaming && sinks.positions == SinkPositions::in_cache) {
        place = static_cast<int64_t>(result.places.size());
      } else if (streaming && !sink) {
        place += sinks.offset;
        if (sinks.positions == SinkPositions::wrapped) {
          while (place >= sinks.sink_tokens + 2 * sink_window) place -= 2 * sink_window;
        }
      }
      result.places.push_back(place);
    }
    return result;
  }

  Row attend(int64_t layer, int64_t q, const Row& query, const std::vector<Row>& k, const std::vector<Row>& v,
             const ReferenceSinks& sinks) const {
    const bool full = config_.full(layer);
    const Seen keys = seen(q, full, sinks);
    const int64_t d = config_.head_dim, group = config_.heads / config_.kv_heads;
    Row out(static_cast<size_t>(config_.heads * d), 0.0);
    for (int64_t kv = 0; kv < config_.kv_heads; ++kv) {
      std::vector<Row> rotated;
      for (size_t i = 0; i < keys.keys.size(); ++i) {
        rotated.push_back(rotary(full).rotate(k[static_cast<size_t>(keys.keys[i])].data() + kv * d, keys.places[i]));
      }
      for (int64_t head = kv * group; head < (kv + 1) * group; ++head) {
        const Row turned = rotary(full).rotate(query.data() + head * d, keys.places.back());
        Row scores;
        for (const Row& key : rotated) {
          double score = 0.0;
          for (size_t i = 0; i < key.size(); ++i) score += turned[i] * key[i];
          score /= std::sqrt(static_cast<double>(d));
          if (config_.attention_cap > 0) score = config_.attention_cap * std::tanh(score / config_.attention_cap);
          scores.push_back(score);
        }
        const double most = *std::max_element(scores.begin(), scores.end());
        double sum = 0.0;
        for (double& score : scores) sum += score = std::exp(score - most);
        for (size_t i = 0; i < scores.size(); ++i) {
          const double* value = v[static_cast<size_t>(keys.keys[i])].data() + kv * d;
          for (int64_t c = 0; c < d; ++c) out[static_cast<size_t>(head * d + c)] += scores[i] / sum * value[c];
        }
      }
    }
    return out;
  }

  double gate(double x) const {
    if (!config_.gemma()) return x / (1.0 + std::exp(-x));
    return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
  }
  static void add(Row& x, const Row& y) {
    for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  }
  Row norm_if(bool there, const Row& x, const std::string& weight) const { return there ? norm(x, weight) : x; }

  void run_layer(int64_t layer, const ReferenceSinks& sinks, std::vector<Row>& x) const {
    const int64_t q_width = config_.heads * config_.head_dim, kv_width = config_.kv_heads * config_.head_dim;
    const bool head = config_.head_norms(), post = config_.post_norms();
    std::vector<Row> q, k, v;
    for (const Row& row : x) {
      const Row h = norm(row, name(layer, "attn_norm"));
      q.push_back(norm_if(head, project(name(layer, "attn_q"), h, q_width), name(layer, "attn_q_norm")));
      k.push_back(norm_if(head, project(name(layer, "attn_k"), h, kv_width), name(layer, "attn_k_norm")));
      v.push_back(project(name(layer, "attn_v"), h, kv_width));
    }
    for (size_t row = 0; row < x.size(); ++row) {
      const Row attended = attend(layer, static_cast<int64_t>(row), q[row], k, v, sinks);
      const Row out = project(name(layer, "attn_output"), attended, config_.width);
      add(x[row], norm_if(post, out, name(layer, "post_attention_norm")));
      const Row h = norm(x[row], name(layer, "ffn_norm"));
      Row hidden = project(name(layer, "ffn_gate"), h, config_.hidden);
      const Row up = project(name(layer, "ffn_up"), h, config_.hidden);
      for (size_t i = 0; i < hidden.size(); ++i) hidden[i] = gate(hidden[i]) * up[i];
      const Row down = project(name(layer, "ffn_down"), hidden, config_.width);
      add(x[row], norm_if(post, down, name(layer, "post_ffw_norm")));
    }
  }

  const TinyModel& model_;
  TinyConfig config_;
  ReferenceRotary full_;
  ReferenceRotary sliding_;
};

}  // namespace kvass::testing
