#include <gtest/gtest.h>

#include <functional>

#include "effort.h"
#include "kernels/quantise_q8/quantise_q8.h"
#include "kernels/rotary/rotate_row.h"
#include "ops/attention/test_stream.h"
#include "seed.h"

namespace kvass {
namespace {

// A stream of a random form. The trial number chooses the type, so that a few trials cover all types.
TestStream random_stream(std::mt19937_64& random, int trial) {
  const auto below = [&](uint64_t n) { return static_cast<int64_t>(random() % n); };
  const int64_t head_dims[] = {16, 32, 64, 80, 96, 128, 256, 512};
  TestStream stream;
  stream.seed = random();
  stream.shape.dtype = kDTypes[trial % 4];
  stream.shape.head_dim = head_dims[below(8)];
  stream.shape.kv_heads = 1 + below(3);
  stream.heads = stream.shape.kv_heads * (1 + below(below(3) == 0 ? 17 : 5));
  stream.sinks = below(2) == 0 ? 0 : 1 + below(below(4) == 0 ? 600 : 70);
  stream.window = below(3) == 0 ? 0 : 1 + below(300);
  stream.softcap = below(4) == 0 ? 5.0f : 0.0f;
  stream.rotary = below(2) == 0;
  stream.sink_rotary = stream.rotary && below(2) == 0;
  stream.sink_logits = below(4) == 0;
  return stream;
}

// True for every second trial, and for every second trial of each type.
bool alternates(int trial) { return (trial + trial / 4) % 2 == 0; }

std::string describe(const TestStream& s, int64_t begin, int64_t end) {
  return "seed " + std::to_string(s.seed) + " " + std::string(dtype_name(s.shape.dtype)) + " heads " +
         std::to_string(s.heads) + "/" + std::to_string(s.shape.kv_heads) + " head_dim " +
         std::to_string(s.shape.head_dim) + " sinks " + std::to_string(s.sinks) + " window " +
         std::to_string(s.window) + " rows [" + std::to_string(begin) + ", " + std::to_string(end) + ")";
}

int64_t tiles_for(int64_t keys) { return (keys + kTileKeys - 1) / kTileKeys; }

// A cache that keeps all positions below `length`.
TestCache flat_cache(const TestStream& stream, int64_t length) {
  TestCache cache(stream.shape, stream.sinks, tiles_for(length) + 1);
  stream.fill(cache, 0, length);
  return cache;
}

TEST(Attention, FastKernelsEqualTheReferenceBitwise) {
  const uint64_t seed = testing::test_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int trial = 0; trial < testing::effort(60, 12); ++trial) {
    const TestStream stream = random_stream(random, trial);
    const int64_t start = static_cast<int64_t>(random() % 900);
    const int64_t rows = 1 + static_cast<int64_t>(random() % (trial % 3 == 0 ? 70 : 9));
    TestCache cache = flat_cache(stream, start + rows);
    TestRows batch(stream);
    batch.add(stream, cache, start, start + rows);
    const std::vector<float> expected = batch.attend(Isa::scalar, 1);
    for (Isa isa : available_isas()) {
      EXPECT_TRUE(same_bits(batch.attend(isa, 1), expected))
          << isa_name(isa) << " " << describe(stream, start, start + rows);
      EXPECT_TRUE(same_bits(batch.attend(isa, 2), expected))
          << isa_name(isa) << " " << describe(stream, start, start + rows);
    }
  }
}

TEST(Attention, RandomKeyPaddingEqualsTheReferenceBitwise) {
  std::mt19937_64 random(7);
  for (int trial = 0; trial < testing::effort(12, 4); ++trial) {
    TestStream stream = random_stream(random, trial);
    TestCache cache = flat_cache(stream, 700);
    TestRows batch(stream);
    batch.add(stream, cache, 680, 700);
    std::vector<uint64_t> sink_valid(static_cast<size_t>(cache.sink().tiles + 1)),
        body_valid(static_cast<size_t>(cache.ring().tiles));
    for (uint64_t& word : sink_valid) word = random();
    for (uint64_t& word : body_valid)
      word = alternates(trial) ? random() : ~(random() & random() & random() & random());
    batch.runs()[0].sink_valid = sink_valid.data();
    batch.runs()[0].body_valid = body_valid.data();
    const std::vector<float> expected = batch.attend(Isa::scalar, 1);
    for (Isa isa : available_isas()) {
      EXPECT_TRUE(same_bits(batch.attend(isa, 3), expected)) << isa_name(isa) << " " << describe(stream, 680, 700);
    }
  }
}

TEST(Attention, AnyChunkingEqualsOnePrefill) {
  const uint64_t seed = testing::test_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int trial = 0; trial < testing::effort(6, 4); ++trial) {
    TestStream stream = random_stream(random, trial);
    stream.shape.head_dim = 64;
    const int64_t length = 600;
    TestCache whole = flat_cache(stream, length);
    TestRows prefill(stream);
    prefill.add(stream, whole, 0, length);
    const std::vector<float> expected = prefill.attend(best_isa(), 2);

    TestCache growing(stream.shape, stream.sinks, tiles_for(length) + 1);
    std::vector<float> pieces;
    for (int64_t at = 0; at < length;) {
      const int64_t rows =
          std::min<int64_t>(length - at, 1 + static_cast<int64_t>(random() % (alternates(trial) ? 90 : 7)));
      stream.fill(growing, at, at + rows);  // what comes later is still NaN
      TestRows chunk(stream);
      chunk.add(stream, growing, at, at + rows);
      const std::vector<float> out = chunk.attend(best_isa(), 1 + static_cast<int>(random() % 3));
      pieces.insert(pieces.end(), out.begin(), out.end());
      at += rows;
    }
    EXPECT_TRUE(same_bits(pieces, expected)) << describe(stream, 0, length);
  }
}

TEST(Attention, RingAfterWrapsEqualsFlatCacheWithTheSameSinks) {
  const uint64_t seed = testing::test_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int trial = 0; trial < testing::effort(10, 4); ++trial) {
    TestStream stream = random_stream(random, trial);
    stream.window = 1 + static_cast<int64_t>(random() % 300);
    const int64_t rows = 1 + static_cast<int64_t>(random() % 40);
    const int64_t start = 1500 + static_cast<int64_t>(random() % 500);
    TestCache flat = flat_cache(stream, start + rows);
    TestRows expected(stream);
    expected.add(stream, flat, start, start + rows);

    // The ring has the fewest whole tiles in which the newest and the oldest keys never share a slot. It is written
    // from the beginning of the stream.
    TestCache ring(stream.shape, stream.sinks, (stream.window + rows - 1 + 2 * (kTileKeys - 1)) / kTileKeys);
    stream.fill(ring, 0, start + rows);
    TestRows wrapped(stream);
    wrapped.add(stream, ring, start, start + rows);
    for (Isa isa : available_isas()) {
      EXPECT_TRUE(same_bits(wrapped.attend(isa, 2), expected.attend(isa, 1))) << describe(stream, start, start + rows);
    }
  }
}

TEST(Attention, ThreadsAndSpanSplitsDoNotChangeBits) {
  TestStream stream;
  stream.seed = 11;
  struct Shape {
    int64_t heads, kv_heads, head_dim, start, rows;
  };
  // One row over many spans; more spans than fit into one wave; a chunk; several KV heads.
  for (const Shape& shape :
       {Shape{4, 1, 64, 9000, 1}, Shape{32, 1, 16, 24000, 1}, Shape{4, 1, 32, 1500, 100}, Shape{8, 8, 32, 3000, 2}}) {
    stream.heads = shape.heads;
    stream.shape = {DType::f16, shape.kv_heads, shape.head_dim};
    stream.sinks = 600;
    stream.sink_logits = true;
    TestCache cache = flat_cache(stream, shape.start + shape.rows);
    TestRows batch(stream);
    batch.add(stream, cache, shape.start, shape.start + shape.rows);
    const std::vector<float> expected = batch.attend(best_isa(), 1);
    for (int threads : {2, 3, 8})
      EXPECT_TRUE(same_bits(batch.attend(best_isa(), threads), expected)) << threads << " threads";
    EXPECT_TRUE(same_bits(batch.attend(Isa::scalar, 2), expected));
  }
}

TEST(Attention, BatchOfRunsEqualsEachAlone) {
  std::mt19937_64 random(5);
  for (int trial = 0; trial < 4; ++trial) {
    const int threads = 1 << trial;
    TestStream form = random_stream(random, trial);
    const int64_t starts[] = {0, 700, 5, 1300};
    const int64_t counts[] = {40, 1, 0, 3};
    TestRows batch(form);
    std::vector<TestCache> caches;
    caches.reserve(4);
    std::vector<float> alone;
    for (size_t i = 0; i < 4; ++i) {
      TestStream stream = form;
      stream.seed = i;
      caches.push_back(flat_cache(stream, starts[i] + counts[i]));
      batch.add(stream, caches.back(), starts[i], starts[i] + counts[i]);
      TestRows one(form);
      one.add(stream, caches.back(), starts[i], starts[i] + counts[i]);
      const std::vector<float> out = one.attend(best_isa(), 1);
      alone.insert(alone.end(), out.begin(), out.end());
    }
    EXPECT_TRUE(same_bits(batch.attend(best_isa(), threads), alone));
  }
}

TEST(Attention, InvisibleKeysThatAreNaNOrInfiniteChangeNothing) {
  TestStream stream;
  stream.seed = 3;
  stream.heads = 4;
  stream.sinks = 4;
  stream.window = 50;
  for (DType dtype : kDTypes) {
    stream.shape.dtype = dtype;
    TestCache clean = flat_cache(stream, 400);
    TestRows expected(stream);
    expected.add(stream, clean, 290, 300);
    const std::vector<float> bad(64, std::numeric_limits<float>::infinity());
    const std::vector<float> worse(64, std::numeric_limits<float>::quiet_NaN());
    TestCache dirty(stream.shape, stream.sinks, tiles_for(400) + 1);
    stream.fill(dirty, 0, 4);
    stream.fill(dirty, 241, 300);
    for (int64_t position = 10; position < 241; ++position) dirty.write(position, bad.data(), worse.data());
    for (int64_t position = 300; position < 320; ++position) dirty.write(position, worse.data(), bad.data());
    TestRows rows(stream);
    rows.add(stream, dirty, 290, 300);
    for (Isa isa : available_isas()) EXPECT_TRUE(same_bits(rows.attend(isa, 2), expected.attend(isa, 1)));
  }
}

TEST(Attention, RowThatSeesNaNIsNaNAndItsNeighboursAreNot) {
  TestStream stream;
  stream.heads = 2;
  TestCache cache = flat_cache(stream, 100);
  const std::vector<float> nan(64, std::numeric_limits<float>::quiet_NaN());
  cache.write(95, nan.data(), nan.data());
  TestRows rows(stream);
  rows.add(stream, cache, 90, 100);
  for (Isa isa : available_isas()) {
    const std::vector<float> out = rows.attend(isa, 1);
    for (size_t i = 0; i < out.size(); ++i)
      EXPECT_EQ(std::isnan(out[i]), i / 128 >= 5) << isa_name(isa) << " element " << i;
  }
}

TEST(Attention, RowWithoutKeysIsPositiveZero) {
  for (bool logits : {false, true}) {
    TestStream stream;
    stream.heads = 16;
    stream.sinks = 4;
    stream.sink_logits = logits;
    TestCache cache = flat_cache(stream, 200);
    TestRows rows(stream);
    rows.add(stream, cache, 190, 200);
    for (size_t i = 2; i < 7; ++i) rows.visible(0)[i] = {0, 150, 150};
    for (Isa isa : available_isas()) {
      for (int threads : {1, 2}) {
        const std::vector<float> out = rows.attend(isa, threads);
        const size_t width = 16 * 64;
        for (size_t i = 2 * width; i < 7 * width; ++i) ASSERT_EQ(std::bit_cast<uint32_t>(out[i]), 0u);
        for (size_t i = 0; i < 2 * width; ++i) ASSERT_NE(out[i], 0.0f);
      }
    }
  }
}

TEST(Attention, RunWithoutAnyKeysIsPositiveZero) {
  TestStream stream;
  TestCache cache(stream.shape, 0, 1);
  TestRows rows(stream);
  rows.add(stream, cache, 0, 3);
  for (RowVisibility& row : rows.visible(0)) row = {};
  for (Isa isa : available_isas()) {
    for (int threads : {1, 2}) {
      for (float x : rows.attend(isa, threads)) ASSERT_EQ(std::bit_cast<uint32_t>(x), 0u);
    }
  }
}

TEST(Attention, PositionsNearTheLimitOfInt64Work) {
  TestStream stream;
  stream.heads = 4;
  stream.sinks = 4;
  stream.window = 200;
  // 2^62 positions later, a whole number of spans and of turns of the ring, the same keys have the same offsets.
  const int64_t tiles = 8;
  const int64_t far = int64_t{1} << 62;
  TestCache near_ring(stream.shape, stream.sinks, tiles), far_ring(stream.shape, stream.sinks, tiles);
  TestRows near_rows(stream), far_rows(stream);
  stream.fill(near_ring, 0, 4);
  stream.fill(far_ring, 0, 4);
  for (int64_t position = 700; position < 1040; ++position) {
    near_ring.write(position, stream.key(position).data(), stream.channel(position).data());
    far_ring.write(position + far, stream.key(position).data(), stream.channel(position).data());
  }
  near_rows.add(stream, near_ring, 1000, 1040);
  far_rows.add(stream, far_ring, far + 1000, far + 1040);
  far_rows.q() = near_rows.q();
  for (Isa isa : available_isas()) EXPECT_TRUE(same_bits(far_rows.attend(isa, 2), near_rows.attend(isa, 1)));
}

// One query and head, rotated for sink keys or for the others. With q8 keys: the values that its bytes represent.
std::vector<double> query_double(const TestStream& stream, const AttentionArgs& args, int64_t row, int64_t head,
                                 bool in_sink, bool quantised) {
  const int64_t head_dim = stream.shape.head_dim;
  const int64_t half = head_dim / 2;
  const float* cos = in_sink && args.sink_cos ? args.sink_cos : args.cos;
  const float* sin = in_sink && args.sink_sin ? args.sink_sin : args.sin;
  const float* x = args.q + row * args.q_stride + head * head_dim;
  std::vector<float> rotated(x, x + head_dim);
  if (quantised) {
    if (cos) scalar::rotate_row(x, cos + row * half, sin + row * half, rotated.data(), 1, head_dim);
    std::vector<int8_t> q(rotated.size());
    const double scale = scalar::quantise_q8(rotated.data(), head_dim, q.data());
    std::vector<double> result(q.begin(), q.end());
    for (double& y : result) y *= scale;
    return result;
  }
  std::vector<double> result(rotated.begin(), rotated.end());
  for (int64_t i = 0; cos && i < half; ++i) {
    const double c = cos[row * half + i], s = sin[row * half + i], a = x[i], b = x[i + half];
    result[static_cast<size_t>(i)] = a * c - b * s;
    result[static_cast<size_t>(i + half)] = b * c + a * s;
  }
  return result;
}

// One row and head in float64. `exact`: with q8, computed from the numbers before quantisation.
std::vector<double> attend_double(const TestStream& stream, const TestCache& cache, const AttentionArgs& args,
                                  int64_t row, int64_t position, int64_t head, bool exact = false) {
  const int64_t head_dim = stream.shape.head_dim;
  const int64_t kv_head = head / (stream.heads / stream.shape.kv_heads);
  const RowVisibility visible = stream.visible(position);
  const bool quantised = stream.shape.dtype == DType::q8 && !exact;
  const std::vector<double> query = query_double(stream, args, row, head, false, quantised);
  const std::vector<double> sink_query = query_double(stream, args, row, head, true, quantised);
  const auto stored = [&](uint64_t kind, int64_t at) {
    const std::vector<float> x = stream.head(kind, at, kv_head);
    return exact ? std::vector<double>(x.begin(), x.end()) : cache.rounded(x);
  };
  std::vector<double> scores, out(static_cast<size_t>(head_dim));
  std::vector<int64_t> positions;
  for (int64_t key = 0; key < visible.end; ++key) {
    if (key < stream.sinks ? key >= visible.sink_end : key < visible.begin) continue;
    const bool in_sink = key < stream.sinks && args.sink_cos;
    const std::vector<double>& q = in_sink ? sink_query : query;
    const std::vector<double> k = stored(1, key);
    double score = 0.0;
    for (size_t d = 0; d < q.size(); ++d) score += q[d] * k[d];
    score *= args.scale;
    if (args.softcap != 0.0f) score = args.softcap * std::tanh(score / args.softcap);
    scores.push_back(score);
    positions.push_back(key);
  }
  double m = args.sink_logits ? args.sink_logits[head] : -1e300;
  for (double score : scores) m = std::max(m, score);
  double l = args.sink_logits ? std::exp(args.sink_logits[head] - m) : 0.0;
  for (size_t j = 0; j < scores.size(); ++j) {
    const double p = std::exp(scores[j] - m);
    l += p;
    const std::vector<double> v = stored(2, positions[j]);
    for (size_t d = 0; d < v.size(); ++d) out[d] += p * v[d];
  }
  for (double& x : out) x /= l;
  return out;
}

TEST(Attention, IsWithinAFewEpsilonsOfFloat64AlsoWithTwoQueriesARow) {
  const uint64_t seed = testing::test_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int trial = 0; trial < testing::effort(12, 4); ++trial) {
    TestStream stream = random_stream(random, trial);
    if (alternates(trial)) {
      stream.sinks = 1 + static_cast<int64_t>(random() % 20);
      stream.rotary = stream.sink_rotary = true;
    }
    const int64_t start = static_cast<int64_t>(random() % 1000);
    const int64_t rows = 3;
    TestCache cache = flat_cache(stream, start + rows);
    TestRows batch(stream);
    batch.add(stream, cache, start, start + rows);
    const std::vector<float> out = batch.attend(best_isa(), 2);
    double error = 0.0, peak = 0.0;
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t head = 0; head < stream.heads; ++head) {
        const std::vector<double> truth = attend_double(stream, cache, batch.args(), row, start + row, head);
        for (size_t d = 0; d < truth.size(); ++d) {
          const size_t at = static_cast<size_t>(row * stream.heads + head) * truth.size() + d;
          error = std::max(error, std::abs(out[at] - truth[d]));
          peak = std::max(peak, std::abs(truth[d]));
        }
      }
    }
    EXPECT_LE(error, 0x1p-18 * peak) << describe(stream, start, start + rows);  // 32 epsilons of float32
  }
}

// Keys, values and the query have errors of up to 1/254 of their head's largest number. With scores of a few units and
// averages over many keys, the error of the result is several times smaller, relative to its peak.
TEST(Attention, OfQ8CachesIsNearTheFloat64OfWhatWasQuantised) {
  for (const int64_t head_dim : {64, 128, 256}) {
    TestStream stream;
    stream.seed = 77;
    stream.shape = {DType::q8, 2, head_dim};
    stream.heads = 8;
    TestCache cache = flat_cache(stream, 600);
    TestRows batch(stream);
    batch.add(stream, cache, 598, 600);
    const std::vector<float> out = batch.attend(best_isa(), 2);
    double error = 0.0, peak = 0.0;
    for (int64_t row = 0; row < 2; ++row) {
      for (int64_t head = 0; head < stream.heads; ++head) {
        const std::vector<double> truth = attend_double(stream, cache, batch.args(), row, 598 + row, head, true);
        for (size_t d = 0; d < truth.size(); ++d) {
          const double got = out[static_cast<size_t>(row * stream.heads + head) * truth.size() + d];
          error = std::max(error, std::abs(got - truth[d]));
          peak = std::max(peak, std::abs(truth[d]));
        }
      }
    }
    EXPECT_LE(error, 0.02 * peak) << "head_dim " << head_dim;
    EXPECT_GE(error, 1e-5 * peak) << "head_dim " << head_dim;  // proves that it is quantised
  }
}

}  // namespace
}  // namespace kvass
