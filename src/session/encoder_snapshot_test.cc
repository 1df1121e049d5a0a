// Streams with a cross cache through a file, in every state that it has: another process and the exported program go on
// with the bits that one process gives, and no cross projection is computed again.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <functional>

#include "damage.h"
#include "kvp/kvp.h"
#include "program/op_spec.h"
#include "scratch.h"
#include "session/session.h"
#include "session/snapshot.h"
#include "session/snapshot_header.h"
#include "tiny_encoder.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

// A session over the model, and what a test does with sequences of it.
class Runner {
 public:
  Runner(const TinyEncoder& model, std::shared_ptr<const Engine> engine, DType dtype, int threads)
      : model_(model), engine_(std::move(engine)), dtype_(dtype) {
    session_ = Session::create(engine_, {.rows = 16, .head_rows = 4, .sequences = 2, .threads = threads}).value();
  }

  std::unique_ptr<Sequence> sequence() const {
    return Sequence::create(engine_, {.context = model_.config().context, .chunk = 16, .dtype = dtype_}).value();
  }
  void encode(Sequence& sequence, int64_t frames, uint32_t seed) {
    const std::vector<float> input = model_.input(frames, seed);
    const std::array<int64_t, 2> shape = {model_.config().channels, frames};
    EXPECT_EQ(session_->encode(sequence, {input.data(), DType::f32, shape}).message(), "");
  }
  std::vector<float> step(Sequence& sequence, std::vector<int32_t> tokens) {
    const kvass::Run run{&sequence, sequence.length(), tokens};
    EXPECT_EQ(session_->step({{&run, 1}}).status().message(), "");
    const auto last = static_cast<int32_t>(tokens.size() - 1);
    const std::span<const float> logits = session_->step({.logits = {&last, 1}}).value().logits;
    return {logits.begin(), logits.end()};
  }

  struct Rest {
    std::vector<float> logits;
    int64_t updates = 0;  // of cross caches
    int64_t sources = 0;  // reads of the source, which only projections need
  };
  // What follows: steps, after an encode where there is nothing yet.
  Rest rest(Sequence& sequence) {
    if (sequence.cross() == nullptr || sequence.cross()->rows() == 0) encode(sequence, 80, 9);
    Rest rest;
    const int64_t updates = session_->executed(op_kind("update_cross_attn_cache"));
    const int64_t sources = session_->executed(op_kind("source"));
    for (const std::vector<int32_t>& tokens : {std::vector<int32_t>{1}, {5, 9}, {2}}) {
      const std::vector<float> logits = step(sequence, tokens);
      rest.logits.insert(rest.logits.end(), logits.begin(), logits.end());
    }
    rest.updates = session_->executed(op_kind("update_cross_attn_cache")) - updates;
    rest.sources = session_->executed(op_kind("source")) - sources;
    return rest;
  }

 private:
  const TinyEncoder& model_;
  std::shared_ptr<const Engine> engine_;
  DType dtype_;
  std::unique_ptr<Session> session_;
};

struct State {
  const char* name;
  bool filled;  // nothing is projected any more
  std::function<std::unique_ptr<Sequence>(Runner&)> make;
};

const std::vector<State>& states() {
  static const std::vector<State> all = {
      {"fresh", false, [](Runner& run) { return run.sequence(); }},
      {"encoded", false,
       [](Runner& run) {
         auto stream = run.sequence();
         run.encode(*stream, 140, 1);
         return stream;
       }},
      {"filled", true,
       [](Runner& run) {
         auto stream = run.sequence();
         run.encode(*stream, 140, 1);
         run.step(*stream, {3, 1, 4});
         return stream;
       }},
      {"filled, and the stream at its beginning again", true,
       [](Runner& run) {
         auto stream = run.sequence();
         run.encode(*stream, 140, 1);
         run.step(*stream, {3, 1, 4});
         EXPECT_TRUE(stream->rewind(0).ok());
         return stream;
       }},
      {"reset", false,
       [](Runner& run) {
         auto stream = run.sequence();
         run.encode(*stream, 140, 1);
         run.step(*stream, {3, 1, 4});
         EXPECT_TRUE(stream->clear().ok());
         return stream;
       }},
      {"a shorter source where a longer one was", true,
       [](Runner& run) {
         auto stream = run.sequence();
         run.encode(*stream, 140, 1);
         run.step(*stream, {3, 1, 4});
         EXPECT_TRUE(stream->clear().ok());
         run.encode(*stream, 37, 2);
         run.step(*stream, {7, 2});
         return stream;
       }},
      {"a shorter source that no step has seen", false,
       [](Runner& run) {
         auto stream = run.sequence();
         run.encode(*stream, 140, 1);
         run.step(*stream, {3, 1, 4});
         run.encode(*stream, 37, 2);
         return stream;
       }},
      {"a fork whose origin went on to something else", true,
       [](Runner& run) {
         auto stream = run.sequence();
         run.encode(*stream, 140, 1);
         run.step(*stream, {3, 1, 4});
         auto fork = stream->fork().value();
         run.encode(*stream, 60, 3);
         run.step(*stream, {8});
         return fork;
       }},
  };
  return all;
}

Isa best_isa() { return choose_isa(detect_cpu_features(), "").value(); }

// The program and the weights of an engine, by way of a .kvp.
std::shared_ptr<const Engine> exported(const Engine& engine, const std::string& path) {
  KvpModel model;
  model.family = "tiny";
  model.trained_context = 40;
  model.math = engine.math();
  model.program = engine.program();
  model.caches = {.context = 40, .chunk = 16};
  model.methods = plan_methods(model.program, model.math, {.rows = 16}).value();
  Vocabulary vocabulary;
  vocabulary.pieces.resize(40);
  WeightStore weights;
  weights.matrices = engine.weights().matrices;
  weights.vectors = engine.weights().vectors;
  const std::vector<int64_t> lens = kept_tokens(model.program, model.caches).value();
  EXPECT_EQ(write_kvp(path, model, vocabulary, weights, lens).status().message(), "");
  KvpFile file = KvpFile::open(path).value();
  Program program = file.model().program;
  return Engine::create(std::move(program), std::move(file).take_weights(), {engine.math(), Isa::scalar}).value();
}

struct Kind {
  DType dtype;
  bool scans;  // the predicate
};

class CrossSnapshots : public ::testing::TestWithParam<Kind> {
 protected:
  TinyEncoder model() const {
    TinyEncoderConfig config;
    config.scans = GetParam().scans;
    return TinyEncoder(config);
  }
};

TEST_P(CrossSnapshots, GoOnInAnotherProcessWithoutProjectingAgain) {
  const TinyEncoder model = this->model();
  const Scratch scratch;
  const auto path = [&](size_t i) { return scratch.file("state" + std::to_string(i)); };
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Runner run(model, model.engine(best_isa()), GetParam().dtype, 2);
    bool good = true;
    for (size_t i = 0; i < states().size(); ++i) {
      good = good && save_snapshot(*states()[i].make(run), {}, path(i)).ok();
    }
    ::_exit(good ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);

  Runner whole(model, model.engine(best_isa()), GetParam().dtype, 2);
  const std::shared_ptr<const Engine> engine = model.engine(best_isa());
  Runner same(model, engine, GetParam().dtype, 3);
  Runner from_file(model, exported(*engine, scratch.file("model.kvp")), GetParam().dtype, 1);
  for (size_t i = 0; i < states().size(); ++i) {
    SCOPED_TRACE(states()[i].name);
    const Runner::Rest expected = whole.rest(*states()[i].make(whole));
    EXPECT_EQ(expected.updates, states()[i].filled ? 0 : model.config().layers);
    const Result<Snapshot> snapshot = Snapshot::open(path(i));
    ASSERT_TRUE(snapshot.ok()) << snapshot.status().message();
    for (Runner* run : {&same, &from_file}) {
      // Into streams in every state themselves.
      for (const State& before : states()) {
        SCOPED_TRACE(before.name);
        const auto stream = before.make(*run);
        ASSERT_EQ(snapshot->restore(*stream).message(), "");
        const Runner::Rest rest = run->rest(*stream);
        EXPECT_EQ(rest.updates, expected.updates);
        EXPECT_EQ(rest.sources, expected.sources);
        ASSERT_EQ(rest.logits.size(), expected.logits.size());
        EXPECT_EQ(std::memcmp(rest.logits.data(), expected.logits.data(), rest.logits.size() * sizeof(float)), 0);
      }
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Kinds, CrossSnapshots,
                         ::testing::Values(Kind{DType::f32, false}, Kind{DType::f16, false}, Kind{DType::q8, false},
                                           Kind{DType::f32, true}));

TEST(CrossSnapshot, SharersKeepWhatTheyHave) {
  const TinyEncoder model;
  const Scratch scratch;
  Runner run(model, model.engine(best_isa()), DType::f32, 1);
  const auto other = run.sequence();
  run.encode(*other, 60, 5);
  run.step(*other, {6});
  for (const char* name : {"filled", "none"}) {
    const auto saved = name[0] == 'f' ? states()[2].make(run) : run.sequence();
    ASSERT_EQ(save_snapshot(*saved, {}, scratch.file(name)).message(), "");
    const auto fork = other->fork().value(), twin = other->fork().value();
    ASSERT_EQ(Snapshot::open(scratch.file(name))->restore(*fork).message(), "");
    EXPECT_NE(fork->cross(), other->cross());
    EXPECT_EQ(twin->cross(), other->cross());
    EXPECT_EQ(twin->cross()->filled(0), 30);
    EXPECT_EQ(fork->cross() == nullptr, name[0] == 'n');
  }
}

TEST(CrossSnapshot, TakesOnlyWhatIsFilled) {
  const TinyEncoder model;
  const Scratch scratch;
  Runner run(model, model.engine(best_isa()), DType::f32, 1);
  const auto stream = run.sequence();
  const auto bytes = [&] {
    EXPECT_EQ(save_snapshot(*stream, {}, scratch.file("s")).message(), "");
    return Snapshot::open(scratch.file("s"))->info().body_bytes;
  };
  EXPECT_EQ(bytes(), 0u);
  run.encode(*stream, 37, 1);
  EXPECT_EQ(bytes(), 19u * 32 * 4) << "source rows";
  run.step(*stream, {3});
  // A tile of the stream and a tile of the source for each layer and head, of two.
  const size_t tile = TileShape{DType::f32, 2, 16}.tile_bytes();
  EXPECT_EQ(bytes(), 19u * 32 * 4 + 2u * static_cast<size_t>(model.config().layers) * 2 * tile);
}

TEST(CrossSnapshot, ForgedFillsAreRefused) {
  const TinyEncoder model;
  const Scratch scratch;
  Runner run(model, model.engine(best_isa()), DType::f32, 1);
  const auto stream = states()[2].make(run);
  ASSERT_EQ(save_snapshot(*stream, {}, scratch.file("s")).message(), "");
  const std::vector<uint8_t> good = scratch.read("s");
  const auto refused = [&](std::initializer_list<const char*> words, const std::function<void(SnapshotInfo&)>& change) {
    SnapshotInfo info = Snapshot::parse(good, "F")->info();
    const std::vector<uint8_t> body(good.begin() + static_cast<std::ptrdiff_t>(info.header_bytes), good.end());
    change(info);
    std::vector<uint8_t> file = write_snapshot_header(info, hash_bytes(body));
    file.insert(file.end(), body.begin(), body.end());
    const Result<Snapshot> snapshot = Snapshot::parse(file, "F");
    ASSERT_TRUE(snapshot.ok()) << snapshot.status().message();
    expect_words(snapshot->restore(*stream).message(), words);
    EXPECT_EQ(stream->length(), 3);
    EXPECT_EQ(stream->cross()->filled(0), 70);
  };
  refused({"source rows: expected 0 to 70, got 71"}, [](SnapshotInfo& info) { info.cross.rows = 71; });
  refused({"source rows", "-1"}, [](SnapshotInfo& info) { info.cross.rows = -1; });
  refused({"source rows"}, [](SnapshotInfo& info) { info.cross.rows = INT64_MAX; });
  refused({"keys and values"}, [](SnapshotInfo& info) { info.cross.rows = 69, info.cross.filled = {69, 69}; });
  refused({"cross caches: expected 0, got 2"}, [](SnapshotInfo& info) { info.cross.rows = 0; });
  refused({"cross caches: expected 2, got 1"}, [](SnapshotInfo& info) { info.cross.filled.pop_back(); });
  refused({"cross caches"}, [](SnapshotInfo& info) { info.cross.filled.resize(1000, -1); });
  refused({"keys of cross cache 1", "71"}, [](SnapshotInfo& info) { info.cross.filled[1] = 71; });
  refused({"keys of cross cache 0", "0"}, [](SnapshotInfo& info) { info.cross.filled[0] = 0; });
  refused({"keys of cross cache 0", "-2"}, [](SnapshotInfo& info) { info.cross.filled[0] = -2; });
  refused({"keys and values"}, [](SnapshotInfo& info) { info.cross.filled[0] = -1; });
}

}  // namespace
}  // namespace kvass
