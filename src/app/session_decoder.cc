// A session as a SpeechDecoder.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>

#include "app/speech_model.h"
#include "base/float16.h"

namespace kvass {
namespace {

float stored(const uint8_t* at, DType type) {
  if (type == DType::f32) {
    float value = 0.0f;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  uint16_t bits = 0;
  std::memcpy(&bits, at, sizeof bits);
  return type == DType::f16 ? f16_to_float(bits) : bf16_to_float(bits);
}

}  // namespace

Result<std::unique_ptr<SessionDecoder>> SessionDecoder::create(const SpeechModel& model,
                                                               const SpeechSessionOptions& options) {
  std::unique_ptr<SessionDecoder> decoder(new SessionDecoder);
  decoder->shape_ = model.shape;
  SessionOptions session;
  session.rows = std::max(model.shape.context, options.sequences);
  session.head_rows = std::max<int64_t>(options.sequences, 2);  // a prompt asks for its start and its end
  session.sequences = options.sequences;
  session.threads = options.threads;
  KVASS_ASSIGN_OR_RETURN(decoder->session_, Session::create(model.engine, session));
  CacheOptions caches;
  caches.context = caches.chunk = model.shape.context;
  caches.dtype = options.caches;
  for (int64_t i = 0; i < options.sequences; ++i) {
    KVASS_ASSIGN_OR_RETURN(decoder->sequences_.emplace_back(), Sequence::create(model.engine, caches));
  }
  decoder->order_.resize(decoder->sequences_.size());
  std::iota(decoder->order_.begin(), decoder->order_.end(), size_t{0});
  std::vector<const Op*> attentions;  // [decoder layers]
  for (const Op& op : model.engine->program().ops) {
    if (op.kind == OpKind::cross_attention) attentions.push_back(&op);
  }
  for (const auto& [layer, head] : model.alignment_heads) {
    if (layer < 0 || layer >= static_cast<int64_t>(attentions.size()) || head < 0 || head >= model.shape.heads) {
      return bad_input(
          model.path + ": alignment heads",
          "layers below " + std::to_string(attentions.size()) + " and heads below " + std::to_string(model.shape.heads),
          std::to_string(layer) + ", " + std::to_string(head));
    }
    decoder->heads_.push_back({layer, head, attentions[static_cast<size_t>(layer)]});
  }
  return decoder;
}

size_t SessionDecoder::cache_bytes() const {
  size_t bytes = 0;
  for (const auto& sequence : sequences_) bytes += sequence->cache_bytes();
  return bytes;
}

Status SessionDecoder::encode(const float* mel) {
  const auto begin = std::chrono::steady_clock::now();
  // The others let go of what the encoder left, so that it is written where it was.
  for (size_t i = 1; i < order_.size(); ++i) KVASS_RETURN_IF_ERROR(sequences_[order_[i]]->clear());
  live_ = 0;
  const std::array<int64_t, 2> shape = {shape_.mels, shape_.frames};
  KVASS_RETURN_IF_ERROR(session_->encode(*sequences_[order_[0]], {mel, DType::f32, shape}));
  encode_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  ++encoded_windows_;
  return {};
}

Status SessionDecoder::begin(std::span<const int32_t> tokens) {
  Sequence& sequence = *sequences_[order_[0]];
  KVASS_RETURN_IF_ERROR(sequence.rewind(0));
  live_ = 1;
  const kvass::Run run{&sequence, 0, tokens};
  return session_->step({&run, 1});
}

Result<std::span<const float>> SessionDecoder::prefill(std::span<const int32_t> tokens, std::span<const int32_t> rows) {
  KVASS_RETURN_IF_ERROR(begin(tokens));
  return session_->logits(rows);
}

Result<std::span<const float>> SessionDecoder::step(std::span<const int32_t> parents, std::span<const int32_t> tokens) {
  if (tokens.size() != parents.size() || tokens.empty() || tokens.size() > sequences_.size()) {
    return bad_input("sequences of a step", "1 to " + std::to_string(sequences_.size()), std::to_string(tokens.size()));
  }
  // The first child of a sequence is that sequence; others take one that nobody continues.
  constexpr size_t kNobody = SIZE_MAX;
  std::vector<size_t> next(tokens.size(), kNobody);
  std::vector<bool> taken(sequences_.size(), false);
  for (size_t i = 0; i < parents.size(); ++i) {
    if (parents[i] < 0 || static_cast<size_t>(parents[i]) >= live_) {
      return bad_input("parent of a sequence", "one of " + std::to_string(live_) + " live ones",
                       std::to_string(parents[i]));
    }
    const size_t sequence = order_[static_cast<size_t>(parents[i])];
    if (!taken[sequence]) next[i] = sequence;
    taken[sequence] = true;
  }
  for (size_t i = 0; i < next.size(); ++i) {
    if (next[i] != kNobody) continue;
    // Where it stood before is likeliest to have most in common.
    size_t free = order_[i];
    if (taken[free]) free = static_cast<size_t>(std::find(taken.begin(), taken.end(), false) - taken.begin());
    KVASS_RETURN_IF_ERROR(sequences_[free]->copy_from(*sequences_[order_[static_cast<size_t>(parents[i])]]));
    next[i] = free;
    taken[free] = true;
  }
  std::copy(next.begin(), next.end(), order_.begin());
  size_t at = next.size();
  for (size_t i = 0; i < taken.size(); ++i) {
    if (!taken[i] || std::find(next.begin(), next.end(), i) == next.end()) order_[at++] = i;
  }
  live_ = next.size();
  std::vector<kvass::Run> runs;
  std::vector<int32_t> rows;
  for (size_t i = 0; i < live_; ++i) {
    Sequence& sequence = *sequences_[order_[i]];
    runs.push_back({&sequence, sequence.length(), tokens.subspan(i, 1)});
    rows.push_back(static_cast<int32_t>(i));
  }
  KVASS_RETURN_IF_ERROR(session_->step(runs));
  return session_->logits(rows);
}

Status SessionDecoder::align(std::span<const int32_t> tokens,
                             const std::function<void(int64_t, const float*)>& on_logits, float* attention) {
  // The queries of the layers that have such heads, as they stand when the attention has read them.
  std::map<const Op*, std::vector<float>> queries;
  for (const Head& head : heads_) queries[head.op];
  session_->set_probe([&](const ProbeView& view) {
    for (auto& [op, rows] : queries) {
      if (op->inputs[0] == view.value) rows.assign(view.data, view.data + view.rows * view.width);
    }
  });
  const Status status = begin(tokens);
  session_->set_probe(nullptr);
  KVASS_RETURN_IF_ERROR(status);
  const auto count = static_cast<int64_t>(tokens.size());
  session_->pool().run(static_cast<int64_t>(heads_.size()), [&](int64_t i, int) {
    const Head& head = heads_[static_cast<size_t>(i)];
    attend(head, queries.at(head.op), count, attention + i * count * shape_.source_rows);
  });
  const int64_t block = session_->options().head_rows;
  for (int64_t first = 0; first < count; first += block) {
    std::vector<int32_t> rows(static_cast<size_t>(std::min(block, count - first)));
    std::iota(rows.begin(), rows.end(), static_cast<int32_t>(first));
    KVASS_ASSIGN_OR_RETURN(const std::span<const float> logits, session_->logits(rows));
    for (size_t i = 0; i < rows.size(); ++i) {
      on_logits(first + static_cast<int64_t>(i), logits.data() + i * static_cast<size_t>(shape_.vocabulary));
    }
  }
  return {};
}

// softmax(q · k · scale) of a head's rows over all keys of the source; queries [count][width], out
// [count][source_rows].
void SessionDecoder::attend(const Head& head, const std::vector<float>& queries, int64_t count, float* out) {
  CrossCache& cross = *sequences_[order_[0]]->cross();
  const TileShape& shape = cross.shape(head.op->cross);
  const KeySegment segment = cross.segment(head.op->cross);
  const int64_t keys = std::min(cross.filled(head.op->cross), shape_.source_rows);
  const auto size = static_cast<size_t>(shape.head_dim);
  std::vector<float> tile(size * kTileKeys);
  for (int64_t t = 0; t * kTileKeys < keys; ++t) {
    const uint8_t* const from = segment.data + static_cast<size_t>(head.head * segment.tiles + t) * shape.tile_bytes();
    for (size_t i = 0; i < tile.size(); ++i) tile[i] = stored(from + i * dtype_bytes(shape.dtype), shape.dtype);
    const int64_t here = std::min(kTileKeys, keys - t * kTileKeys);
    for (int64_t row = 0; row < count; ++row) {
      const float* const q = queries.data() + row * shape_.width + head.head * shape.head_dim;
      float scores[kTileKeys] = {};
      for (size_t d = 0; d < size; ++d) {
        for (size_t lane = 0; lane < kTileKeys; ++lane) scores[lane] += q[d] * tile[d * kTileKeys + lane];
      }
      std::copy_n(scores, here, out + row * shape_.source_rows + t * kTileKeys);
    }
  }
  for (int64_t row = 0; row < count; ++row) {
    float* const line = out + row * shape_.source_rows;
    const float most = *std::max_element(line, line + keys);
    double sum = 0.0;
    for (int64_t i = 0; i < keys; ++i) {
      line[i] = std::exp((line[i] - most) * head.op->scale);
      sum += static_cast<double>(line[i]);
    }
    for (int64_t i = 0; i < keys; ++i) line[i] = static_cast<float>(static_cast<double>(line[i]) / sum);
    std::fill(line + keys, line + shape_.source_rows, 0.0f);
  }
}

}  // namespace kvass
