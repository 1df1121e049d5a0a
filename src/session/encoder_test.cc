// Programs with an encoder: the cross cache in every state, sequences at different states in one step, forks, errors,
// and the same bits however the work is cut up; all against a forward pass in double.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <numeric>

#include "program/op_spec.h"
#include "session/session.h"
#include "tiny_encoder_reference.h"

namespace kvass {
namespace {

using testing::Rows;
using testing::TinyEncoder;

Isa best_isa() { return choose_isa(detect_cpu_features(), "").value(); }

struct OpenStream {
  std::unique_ptr<Sequence> sequence;
  std::vector<int32_t> tokens;
};

class Encoder : public ::testing::Test {
 protected:
  void start(const testing::TinyEncoderConfig& config = {}, Isa isa = best_isa(), int threads = 2) {
    model_ = std::make_unique<TinyEncoder>(config);
    engine_ = model_->engine(isa);
    session_ = Session::create(engine_, {.rows = 16, .head_rows = 8, .sequences = 4, .threads = threads}).value();
  }
  std::unique_ptr<Sequence> sequence(DType dtype = DType::f32) {
    return Sequence::create(engine_, {.context = model_->config().context, .chunk = 16, .dtype = dtype}).value();
  }
  Status encode(Sequence& sequence, const std::vector<float>& input) {
    const std::array<int64_t, 2> shape = {model_->config().channels,
                                          static_cast<int64_t>(input.size()) / model_->config().channels};
    return session_->encode(sequence, {input.data(), DType::f32, shape});
  }
  // Logits of the last token of every run.
  std::vector<std::vector<float>> step(std::vector<std::pair<Sequence*, std::vector<int32_t>>> work) {
    std::vector<kvass::Run> runs;
    std::vector<int32_t> rows;
    int32_t row = -1;
    for (auto& [sequence, tokens] : work) {
      runs.push_back({sequence, sequence->length(), tokens});
      rows.push_back(row += static_cast<int32_t>(tokens.size()));
    }
    const Status status = session_->step({runs}).status();
    EXPECT_TRUE(status.ok()) << status.message();
    const std::span<const float> logits = session_->step({.logits = rows}).value().logits;
    std::vector<std::vector<float>> result;
    const size_t width = logits.size() / rows.size();
    for (size_t i = 0; i < rows.size(); ++i) {
      result.emplace_back(logits.begin() + static_cast<int64_t>(i * width),
                          logits.begin() + static_cast<int64_t>((i + 1) * width));
    }
    return result;
  }
  void expect_close(const std::vector<float>& got, const Rows& source, const std::vector<int32_t>& tokens) {
    const std::vector<double> expected = model_->decode(source, tokens).back();
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(got[i], expected[i], 2e-4) << i;
  }
  // Times that each kind of op of the branches ran since the last call.
  int64_t updates() { return since(op_kind("update_cross_attn_cache")); }
  int64_t since(OpKind kind) {
    const int64_t now = session_->executed(kind);
    return now - std::exchange(seen_[static_cast<size_t>(kind)], now);
  }

  std::unique_ptr<TinyEncoder> model_;
  std::shared_ptr<const Engine> engine_;
  std::unique_ptr<Session> session_;
  std::array<int64_t, 64> seen_{};
};

TEST_F(Encoder, FreshThenReusedCachesGiveTheReferencesLogits) {
  start();
  const auto stream = sequence();
  const std::vector<float> input = model_->input(140, 1);
  ASSERT_EQ(encode(*stream, input).message(), "");
  const Rows source = model_->encode(input);
  ASSERT_EQ(stream->cross()->rows(), 70);
  for (size_t r = 0; r < source.size(); ++r) {
    for (size_t i = 0; i < source[r].size(); ++i) {
      ASSERT_NEAR(stream->cross()->source()[r * source[r].size() + i], source[r][i], 1e-4) << r << " " << i;
    }
  }
  std::vector<int32_t> tokens = {3, 1, 4};
  expect_close(step({{stream.get(), tokens}})[0], source, tokens);
  EXPECT_EQ(updates(), model_->config().layers);
  for (const int32_t token : {1, 5, 9}) {
    tokens.push_back(token);
    expect_close(step({{stream.get(), {token}}})[0], source, tokens);
    EXPECT_EQ(updates(), 0);
    EXPECT_EQ(since(op_kind("source")), token == 1 ? model_->config().layers : 0);  // of the first step
  }
  EXPECT_EQ(session_->executed(op_kind("alias")), 3 * model_->config().layers);
}

TEST_F(Encoder, ReuseRunsNoProjectionOfTheSource) {
  start();
  const auto stream = sequence();
  ASSERT_TRUE(encode(*stream, model_->input(140, 1)).ok());
  step({{stream.get(), {3}}});
  std::vector<int64_t> before(session_->executed_ops().begin(), session_->executed_ops().end());
  step({{stream.get(), {4}}});
  const Program& program = engine_->program();
  int64_t idle = 0;
  for (const Op& op : program.ops) {
    if (op.kind != op_kind("cond")) continue;
    const Branch& otherwise = program.branches[static_cast<size_t>(op.branches[1])];
    for (int32_t i = otherwise.begin; i < otherwise.end; ++i) {
      EXPECT_EQ(session_->executed_ops()[static_cast<size_t>(i)], before[static_cast<size_t>(i)]);
      ++idle;
    }
  }
  EXPECT_EQ(idle, 3 * model_->config().layers);  // source, linear, update of each layer
}

TEST_F(Encoder, ResetAndShorterSourcesForgetWhatWasThere) {
  start();
  const auto stream = sequence();
  const std::vector<float> whole = model_->input(140, 1), shorter = model_->input(37, 2);
  ASSERT_TRUE(encode(*stream, whole).ok());
  step({{stream.get(), {3, 1, 4}}});
  EXPECT_TRUE(stream->cross()->initialised(0));
  ASSERT_TRUE(stream->clear().ok());
  EXPECT_FALSE(stream->cross()->initialised(0));
  EXPECT_EQ(stream->cross()->rows(), 0);
  ASSERT_TRUE(encode(*stream, shorter).ok());
  EXPECT_EQ(stream->cross()->rows(), 19);
  const std::vector<int32_t> tokens = {3, 1, 4, 7};
  expect_close(step({{stream.get(), tokens}})[0], model_->encode(shorter), tokens);
  EXPECT_EQ(updates(), 2 * model_->config().layers);
  EXPECT_EQ(stream->cross()->filled(1), 19);
  // A new encode without a reset of the stream: other keys from the next step on.
  ASSERT_TRUE(encode(*stream, whole).ok());
  EXPECT_FALSE(stream->cross()->initialised(1));
  ASSERT_TRUE(stream->rewind(0).ok());
  expect_close(step({{stream.get(), tokens}})[0], model_->encode(whole), tokens);
  // And a rewind alone keeps them.
  ASSERT_TRUE(stream->rewind(0).ok());
  updates();
  expect_close(step({{stream.get(), tokens}})[0], model_->encode(whole), tokens);
  EXPECT_EQ(updates(), 0);
}

TEST_F(Encoder, ThePredicateIsAskedForEachSequenceOfAStep) {
  start();
  const auto one = sequence(), two = sequence(), three = sequence();
  const std::vector<float> a = model_->input(140, 1), b = model_->input(60, 2), c = model_->input(1, 3);
  ASSERT_TRUE(encode(*one, a).ok());
  ASSERT_TRUE(encode(*two, b).ok());
  ASSERT_TRUE(encode(*three, c).ok());
  step({{two.get(), {5, 6}}});
  EXPECT_EQ(updates(), model_->config().layers);
  // `two` reuses between `one` and `three`, which compute.
  const auto logits = step({{one.get(), {3, 1}}, {two.get(), {7}}, {three.get(), {9}}});
  EXPECT_EQ(updates(), 2 * model_->config().layers);
  expect_close(logits[0], model_->encode(a), {3, 1});
  expect_close(logits[1], model_->encode(b), {5, 6, 7});
  expect_close(logits[2], model_->encode(c), {9});
  // The same, each alone: the same bits.
  for (auto& [stream, input, tokens, expected] : {std::tuple(one.get(), a, std::vector<int32_t>{3, 1}, logits[0]),
                                                  std::tuple(two.get(), b, std::vector<int32_t>{5, 6, 7}, logits[1]),
                                                  std::tuple(three.get(), c, std::vector<int32_t>{9}, logits[2])}) {
    ASSERT_TRUE(stream->clear().ok());
    ASSERT_TRUE(encode(*stream, input).ok());
    std::vector<float> alone;
    for (const int32_t token : tokens) alone = step({{stream, {token}}})[0];
    EXPECT_EQ(std::memcmp(alone.data(), expected.data(), alone.size() * sizeof(float)), 0);
  }
}

TEST_F(Encoder, APredicateMayScanTheCacheInstead) {
  testing::TinyEncoderConfig config;
  config.scans = true;
  start(config);
  const auto stream = sequence();
  for (const int64_t frames : {140, 60}) {
    const std::vector<float> input = model_->input(frames, 1);
    ASSERT_TRUE(encode(*stream, input).ok());
    EXPECT_FALSE(stream->cross()->any_nonzero(0));
    expect_close(step({{stream.get(), {3, 1}}})[0], model_->encode(input), {3, 1});
    EXPECT_EQ(updates(), config.layers);
    EXPECT_TRUE(stream->cross()->any_nonzero(0));
    expect_close(step({{stream.get(), {4}}})[0], model_->encode(input), {3, 1, 4});
    EXPECT_EQ(updates(), 0);
    ASSERT_TRUE(stream->clear().ok());
  }
}

TEST_F(Encoder, AForkSharesTheCrossCacheAndGoesItsOwnWay) {
  start();
  const auto stream = sequence();
  const std::vector<float> input = model_->input(140, 1), other = model_->input(80, 5);
  ASSERT_TRUE(encode(*stream, input).ok());
  step({{stream.get(), {3, 1, 4}}});
  updates();
  const auto fork = stream->fork().value();
  EXPECT_EQ(fork->cross(), stream->cross());
  const auto logits = step({{stream.get(), {1}}, {fork.get(), {9}}});
  EXPECT_EQ(updates(), 0);
  expect_close(logits[0], model_->encode(input), {3, 1, 4, 1});
  expect_close(logits[1], model_->encode(input), {3, 1, 4, 9});
  // One of them hears something else: the other keeps what it has.
  ASSERT_TRUE(encode(*fork, other).ok());
  EXPECT_NE(fork->cross(), stream->cross());
  EXPECT_TRUE(stream->cross()->initialised(0));
  ASSERT_TRUE(fork->rewind(0).ok());
  expect_close(step({{fork.get(), {2}}})[0], model_->encode(other), {2});
  expect_close(step({{stream.get(), {2}}})[0], model_->encode(input), {3, 1, 4, 1, 2});
  // A reset of a fork leaves it without, not the others.
  const auto second = stream->fork().value();
  ASSERT_TRUE(second->clear().ok());
  EXPECT_EQ(second->cross(), nullptr);
  EXPECT_TRUE(stream->cross()->initialised(0));
}

TEST_F(Encoder, BeamsThatTakeEachOthersPlaceHaveTheBitsOfTheirOwnStreams) {
  start();
  std::vector<OpenStream> beams(4);
  beams[0].sequence = sequence();
  ASSERT_TRUE(encode(*beams[0].sequence, model_->input(140, 1)).ok());
  beams[0].tokens = {3, 1, 4, 1, 5};
  step({{beams[0].sequence.get(), beams[0].tokens}});
  for (size_t i = 1; i < 4; ++i) {
    beams[i].sequence = beams[0].sequence->fork().value();
    beams[i].tokens = beams[0].tokens;
  }
  std::mt19937 random(4);
  std::vector<std::vector<float>> logits;
  for (int round = 0; round < 20; ++round) {
    const size_t from = random() % 4, to = random() % 4;  // sometimes itself
    ASSERT_TRUE(beams[to].sequence->copy_from(*beams[from].sequence).ok());
    beams[to].tokens = beams[from].tokens;
    if (round % 7 == 6) {  // a stream goes back, as others go on
      ASSERT_TRUE(beams[from].sequence->rewind(beams[from].sequence->length() - 2).ok());
      beams[from].tokens.resize(beams[from].tokens.size() - 2);
    }
    std::vector<std::pair<Sequence*, std::vector<int32_t>>> work;
    for (OpenStream& beam : beams) {
      beam.tokens.push_back(static_cast<int32_t>(random() % 50));
      work.push_back({beam.sequence.get(), {beam.tokens.back()}});
    }
    logits = step(work);
  }
  for (size_t i = 0; i < 4; ++i) {
    const auto alone = sequence();
    ASSERT_TRUE(encode(*alone, model_->input(140, 1)).ok());
    std::vector<float> last;
    for (size_t first = 0; first < beams[i].tokens.size(); first += 16) {
      const size_t count = std::min<size_t>(16, beams[i].tokens.size() - first);
      last =
          step({{alone.get(), std::vector<int32_t>(beams[i].tokens.begin() + static_cast<int64_t>(first),
                                                   beams[i].tokens.begin() + static_cast<int64_t>(first + count))}})[0];
    }
    EXPECT_EQ(std::memcmp(last.data(), logits[i].data(), last.size() * sizeof(float)), 0) << "beam " << i;
  }
}

TEST_F(Encoder, EveryCuttingThreadCountAndInstructionSetHasTheSameBits) {
  std::vector<float> expected, expected_source;
  for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512vnni}) {
    if (!isa_available(isa, detect_cpu_features())) continue;
    for (const int threads : {1, 3}) {
      start({}, isa, threads);
      const auto at_once = sequence(DType::f16), by_token = sequence(DType::f16);
      const std::vector<float> input = model_->input(139, 1);
      ASSERT_TRUE(encode(*at_once, input).ok());
      ASSERT_TRUE(encode(*by_token, input).ok());
      const std::vector<int32_t> tokens = {3, 1, 4, 1, 5, 9};
      const std::vector<float> logits = step({{at_once.get(), tokens}})[0];
      std::vector<float> again;
      for (const int32_t token : tokens) again = step({{by_token.get(), {token}}})[0];
      const std::vector<float> source(at_once->cross()->source(), at_once->cross()->source() + 70 * 32);
      if (expected.empty()) {
        expected = logits;
        expected_source = source;
      }
      for (const auto& got : {logits, again}) {
        EXPECT_EQ(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)), 0) << isa_name(isa) << threads;
      }
      EXPECT_EQ(std::memcmp(source.data(), expected_source.data(), source.size() * sizeof(float)), 0) << isa_name(isa);
    }
  }
}

TEST_F(Encoder, WeightsOfChosenHeadsAreTheirSoftmax) {
  start();
  const auto stream = sequence();
  ASSERT_TRUE(encode(*stream, model_->input(100, 1)).ok());
  const std::array<CrossHead, 2> heads = {CrossHead{1, 0}, CrossHead{0, 1}};
  std::vector<float> out(2 * 16 * 70, -1.0f);
  std::vector<float> q, k;  // of layer 0, head 1
  const Program& program = engine_->program();
  session_->set_probe([&](const ProbeView& probe) {
    const std::string& name = program.values[static_cast<size_t>(probe.value)].name;
    if (name == "layer 0 cross q") q.assign(probe.data, probe.data + probe.rows * probe.width);
    if (name == "layer 0 cross k") k.assign(probe.data, probe.data + probe.rows * probe.width);
  });
  const std::vector<int32_t> tokens = {3, 1, 4}, next = {5};
  const kvass::Run run{stream.get(), 0, tokens};
  ASSERT_EQ(session_->step({.runs = {&run, 1}, .cross_weights = {heads, out.data()}}).status().message(), "");
  ASSERT_EQ(q.size(), 3u * 32);
  ASSERT_EQ(k.size(), 50u * 32);
  for (size_t row = 0; row < 3; ++row) {
    std::vector<double> weights;
    double sum = 0.0;
    for (size_t j = 0; j < 50; ++j) {
      double score = 0.0;
      for (size_t d = 16; d < 32; ++d)
        score += static_cast<double>(q[row * 32 + d]) * static_cast<double>(k[j * 32 + d]);
      weights.push_back(std::exp(score / 4.0));
      sum += weights.back();
    }
    double all = 0.0;
    for (size_t j = 0; j < 50; ++j) {
      EXPECT_NEAR(out[(16 + row) * 70 + j], weights[j] / sum, 1e-5);
      all += static_cast<double>(out[row * 70 + j]);
    }
    EXPECT_NEAR(all, 1.0, 1e-5);
    EXPECT_EQ(out[row * 70 + 50], -1.0f);  // a shorter source
  }
  const std::array<CrossHead, 1> none = {CrossHead{0, 2}};
  const kvass::Run following{stream.get(), 3, next};
  EXPECT_FALSE(session_->step({.runs = {&following, 1}, .cross_weights = {none, out.data()}}).ok());
  EXPECT_FALSE(session_->step({.runs = {&following, 1}, .cross_weights = {heads, nullptr}}).ok());
  std::fill(out.begin(), out.end(), -1.0f);
  step({{stream.get(), {5}}});
  EXPECT_EQ(out[0], -1.0f);
}

TEST_F(Encoder, BadInputIsAnErrorThatChangesNothing) {
  start();
  const auto stream = sequence();
  const std::vector<float> input = model_->input(140, 1);
  const std::vector<int32_t> token = {1};
  const kvass::Run run{stream.get(), 0, token};
  EXPECT_NE(session_->step({std::span(&run, 1)}).status().message().find("an encode before its first step"),
            std::string::npos);
  ASSERT_TRUE(encode(*stream, input).ok());
  step({{stream.get(), {3}}});
  const auto refused = [&](std::vector<int64_t> shape, DType dtype, int64_t stride = 0) {
    const Status status = session_->encode(*stream, {input.data(), dtype, shape, stride});
    EXPECT_FALSE(status.ok());
    EXPECT_TRUE(stream->cross()->initialised(0));
    EXPECT_EQ(stream->cross()->rows(), 70);
    return status.message();
  };
  EXPECT_NE(refused({20, 140, 1}, DType::f32).find("rank 2"), std::string::npos);
  EXPECT_NE(refused({140}, DType::f32).find("rank 2"), std::string::npos);
  EXPECT_NE(refused({20, 141}, DType::f32).find("1 to 140 rows"), std::string::npos);
  EXPECT_NE(refused({20, 0}, DType::f32).find("1 to 140 rows"), std::string::npos);
  EXPECT_NE(refused({19, 140}, DType::f32).find("20 channels"), std::string::npos);
  EXPECT_NE(refused({20, 140}, DType::f16).find("f32"), std::string::npos);
  EXPECT_NE(refused({20, 140}, DType::f32, 139).find("stride"), std::string::npos);
  const auto shared = Sequence::create(engine_, {.context = 40, .chunk = 16, .dtype = DType::f16},
                                       CrossCache::create(engine_->program(), DType::f32).value());
  EXPECT_NE(shared.status().message().find("f16"), std::string::npos);
  // Positions that the model has not.
  const auto longer = Sequence::create(engine_, {.context = 64, .chunk = 16, .dtype = DType::f32}).value();
  ASSERT_TRUE(encode(*longer, input).ok());
  const std::vector<int32_t> tokens(16, 1);
  for (int64_t start : {0, 16, 32}) {
    const kvass::Run many{longer.get(), start, tokens};
    const Status status = session_->step({std::span(&many, 1)}).status();
    EXPECT_EQ(status.ok(), start < 32) << status.message();
  }
}

TEST_F(Encoder, AfterAnEncodeThereAreNoRowsToAskLogitsOf) {
  start();
  const auto stream = sequence();
  ASSERT_TRUE(encode(*stream, model_->input(140, 1)).ok());
  step({{stream.get(), {3}}});
  ASSERT_TRUE(encode(*stream, model_->input(140, 1)).ok());
  const std::array<int32_t, 1> row = {0};
  EXPECT_FALSE(session_->step({.logits = row}).ok());
}

}  // namespace
}  // namespace kvass
