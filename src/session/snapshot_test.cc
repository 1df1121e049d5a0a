// A stream that went through a file goes on as if it had not; a file that is not its own changes nothing.
#include "session/snapshot.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <set>

#include "damage.h"
#include "kvass/version.h"
#include "scratch.h"
#include "seed.h"
#include "session/fingerprint.h"
#include "session/snapshot_header.h"
#include "streams.h"
#include "tiny_encoder.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

const TinyModel& tiny() {
  static const TinyModel model;
  return model;
}

StreamState some_state() {
  StreamState state;
  state.sampling = {.temperature = 0.7f,
                    .top_k = 40,
                    .top_p = 0.9f,
                    .min_p = 0.05f,
                    .repeat_penalty = 1.1f,
                    .repeat_last_n = 5,
                    .seed = 0x123456789abcdef0,
                    .logit_bias = {{3, 1.5f}, {299, -2.0f}}};
  state.ignore_eos = true;
  state.stops = {"THE END", "", "\n\n"};
  state.recent = {1, 2, 3, 4, 299};
  state.pending = {7};
  state.undecoded = "\xe2\x82";
  state.held = "THE E";
  state.chat = {.chat_template = "{{ messages }}",
                .system = "be brief",
                .tools = "[]",
                .variables = "{}",
                .now = "2026-11-30T12:34:56",
                .messages = {"a", "b", "c"},
                .answer = {6, 5},
                .turn_ends = {9},
                .turns = 3,
                .text = "a b",
                .ids = {1, 2},
                .ends = {-1, 3}};
  return state;
}

// What a refusal must leave as it was.
struct Before {
  explicit Before(const Sequence& sequence)
      : block(sequence.block(), sequence.block() + sequence.plan().bytes),
        length(sequence.length()),
        first_held(sequence.first_held()) {}
  void expect_same(const Sequence& sequence) const {
    EXPECT_EQ(std::memcmp(block.data(), sequence.block(), block.size()), 0);
    EXPECT_EQ(length, sequence.length());
    EXPECT_EQ(first_held, sequence.first_held());
  }
  std::vector<uint8_t> block;
  int64_t length;
  std::vector<int64_t> first_held;
};

Status restore(const std::string& path, Sequence& sequence) {
  KVASS_ASSIGN_OR_RETURN(const Snapshot snapshot, Snapshot::open(path));
  return snapshot.restore(sequence);
}

class Resumed : public ::testing::TestWithParam<Math> {};

TEST_P(Resumed, AStreamGoesOnBitForBitWithOtherThreadsAndInstructions) {
  const Scratch scratch;
  const std::string path = scratch.file("stream");
  const std::vector<int32_t> tokens = tiny().tokens(340);
  const std::span<const int32_t> all(tokens);
  const EnginePtr engine = tiny_engine(tiny(), GetParam(), best_isa());
  const EnginePtr other = tiny_engine(tiny(), GetParam(), Isa::scalar);
  std::vector<CacheOptions> plans;
  for (const DType dtype : kDTypes) {
    plans.push_back(flat_caches(340, 16, dtype));
    plans.push_back(sink_caches(4, 40, 16, dtype));
  }
  plans.push_back(sink_caches(0, 30, 7));
  plans.push_back(sink_caches(70, 16, 40));
  for (const SinkPositions mode : {SinkPositions::original, SinkPositions::wrapped}) {
    plans.push_back(sink_caches(3, 20, 16));
    plans.back().sink_positions = mode;
  }
  for (const CacheOptions& caches : plans) {
    const std::vector<float> expected = run_stream(engine, caches, all, {caches.chunk}, 1);
    // Before anything is in, inside the sinks, before and after the wraps of the rings.
    for (const size_t length : {0, 1, 66, 130, 300}) {
      SCOPED_TRACE(::testing::Message() << "plan " << &caches - plans.data() << ", length " << length);
      const std::unique_ptr<Sequence> saved = make_sequence(engine, caches);
      const std::unique_ptr<Session> session = make_session(engine, caches.chunk);
      run_chunks(*session, *saved, all.first(length), {caches.chunk});
      ASSERT_EQ(save_snapshot(*saved, some_state(), path).message(), "");

      const std::unique_ptr<Session> session2 = make_session(other, caches.chunk, 3);
      const std::unique_ptr<Sequence> resumed = make_sequence(other, caches);
      run_chunks(*session2, *resumed, tiny().tokens(20, 9), {caches.chunk});  // a stream that is forgotten
      ASSERT_EQ(restore(path, *resumed).message(), "");
      EXPECT_EQ(resumed->length(), static_cast<int64_t>(length));
      EXPECT_EQ(resumed->rewind_floor(), saved->rewind_floor());
      const size_t count = 40;
      const std::vector<float> rest = run_chunks(*session2, *resumed, all.subspan(length, count), {7, 1, 3});
      const auto from = expected.begin() + static_cast<std::ptrdiff_t>(length * 300);
      EXPECT_SAME_BITS(std::vector<float>(from, from + static_cast<std::ptrdiff_t>(count * 300)), rest);
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Arithmetic, Resumed, ::testing::Values(Math::f32, Math::a16));

TEST(Snapshots, KeepWhatTheOwnerNeeds) {
  const Scratch scratch;
  const EnginePtr engine = tiny_engine(tiny(), Math::a16, best_isa());
  const std::unique_ptr<Sequence> sequence = make_sequence(engine, sink_caches(4, 20, 16));
  const StreamState state = some_state();
  ASSERT_EQ(save_snapshot(*sequence, state, scratch.file("s")).message(), "");
  const Result<Snapshot> snapshot = Snapshot::open(scratch.file("s"));
  ASSERT_TRUE(snapshot.ok()) << snapshot.status().message();
  const SnapshotInfo& info = snapshot->info();
  EXPECT_EQ(info.version, kSnapshotVersion);
  EXPECT_EQ(info.numerics, static_cast<uint32_t>(kNumericsVersion));
  EXPECT_EQ(info.fingerprint, engine->fingerprint());
  EXPECT_EQ(info.math, Math::a16);
  EXPECT_EQ(info.caches, sequence->options());
  EXPECT_EQ(info.length, 0);
  const StreamState& read = info.state;
  EXPECT_EQ(read.sampling.temperature, state.sampling.temperature);
  EXPECT_EQ(read.sampling.top_k, state.sampling.top_k);
  EXPECT_EQ(read.sampling.top_p, state.sampling.top_p);
  EXPECT_EQ(read.sampling.min_p, state.sampling.min_p);
  EXPECT_EQ(read.sampling.repeat_penalty, state.sampling.repeat_penalty);
  EXPECT_EQ(read.sampling.repeat_last_n, state.sampling.repeat_last_n);
  EXPECT_EQ(read.sampling.seed, state.sampling.seed);
  EXPECT_EQ(read.ignore_eos, state.ignore_eos);
  EXPECT_EQ(read.stops, state.stops);
  EXPECT_EQ(read.recent, state.recent);
  EXPECT_EQ(read.pending, state.pending);
  EXPECT_EQ(read.undecoded, state.undecoded);
  EXPECT_EQ(read.held, state.held);
  EXPECT_EQ(read.sampling.logit_bias, state.sampling.logit_bias);
  EXPECT_EQ(read.chat.chat_template, state.chat.chat_template);
  EXPECT_EQ(read.chat.system, state.chat.system);
  EXPECT_EQ(read.chat.tools, state.chat.tools);
  EXPECT_EQ(read.chat.variables, state.chat.variables);
  EXPECT_EQ(read.chat.now, state.chat.now);
  EXPECT_EQ(read.chat.messages, state.chat.messages);
  EXPECT_EQ(read.chat.answer, state.chat.answer);
  EXPECT_EQ(read.chat.turn_ends, state.chat.turn_ends);
  EXPECT_EQ(read.chat.turns, state.chat.turns);
  EXPECT_EQ(read.chat.text, state.chat.text);
  EXPECT_EQ(read.chat.ids, state.chat.ids);
  EXPECT_EQ(read.chat.ends, state.chat.ends);
}

TEST(Snapshots, TakeOnlyWhatTheStreamUses) {
  const Scratch scratch;
  const EnginePtr engine = tiny_engine(tiny(), Math::a16, best_isa());
  const CacheOptions caches = flat_caches(4096, 16);
  const std::unique_ptr<Session> session = make_session(engine, 16);
  const std::unique_ptr<Sequence> sequence = make_sequence(engine, caches);
  run_chunks(*session, *sequence, tiny().tokens(20), {16});
  ASSERT_EQ(save_snapshot(*sequence, {}, scratch.file("s")).message(), "");
  size_t tiles = 0;
  for (const LayerCache& layer : sequence->plan().layers) tiles += layer.shape.segment_bytes(1);
  EXPECT_EQ(Snapshot::open(scratch.file("s"))->info().body_bytes, tiles) << "a tile a layer and head";
  EXPECT_LT(std::filesystem::file_size(scratch.file("s")), sequence->plan().bytes / 8);
}

TEST(Snapshots, TheFingerprintIsTheModelsAndNotTheMachines) {
  const EnginePtr engine = tiny_engine(tiny(), Math::a16, best_isa());
  EXPECT_EQ(engine->fingerprint(), tiny_engine(tiny(), Math::f32, Isa::scalar)->fingerprint());
  TinyConfig seed, window;
  seed.seed += 1;
  window.window += 1;
  for (const TinyConfig& config : {seed, window}) {
    EXPECT_NE(engine->fingerprint(), tiny_engine(TinyModel(config), Math::a16, best_isa())->fingerprint());
  }
}

// Snapshots of earlier versions stay good: a new field must not change what an old program is.
TEST(Snapshots, TheFingerprintsOfKnownModelsStayAsTheyAre) {
  EXPECT_EQ(hash_text(tiny_engine(tiny(), Math::f32, Isa::scalar)->fingerprint()), "a174eeb57d9342910eb45122ebeda217");
  EXPECT_EQ(hash_text(tiny_engine(TinyModel(tiny_llama()), Math::f32, Isa::scalar)->fingerprint()),
            "5f11310f42631bdcddb80655e619b687");
  EXPECT_EQ(hash_text(TinyEncoder().engine(Isa::scalar)->fingerprint()), "8107214b4bdf4efdc746a15925dabfaf");
}

// Files of before heads were split name the same model.
TEST(Snapshots, TheFingerprintDoesNotTellHowTheHeadIsLaidOut) {
  const std::vector<uint8_t> bytes = tiny().gguf();
  const Gguf file = Gguf::parse(bytes, "tiny.gguf").value();
  ModelProgram model = build_program(file).value();
  const auto head = static_cast<size_t>(model.head);
  ThreadPool pool(1);
  const WeightStore split = load_weights(file, model, pool).value();
  model.head = kNone;
  const WeightStore whole = load_weights(file, model, pool).value();
  ASSERT_EQ(split.matrices[head].type, WeightType::Q8_0_split);
  ASSERT_EQ(whole.matrices[head].type, WeightType::Q8_0);
  EXPECT_EQ(fingerprint_of(model.program, split), fingerprint_of(model.program, whole));
}

// A stream of 100 tokens and its file.
class Refused : public ::testing::Test {
 protected:
  void SetUp() override {
    run_chunks(*session_, *sequence_, tokens_, {16});
    ASSERT_EQ(save_snapshot(*sequence_, some_state(), path_).message(), "");
    good_ = scratch_.read("s");
    run_chunks(*session_, *sequence_, tiny().tokens(30, 5), {16});  // elsewhere now
  }
  void refused(std::span<const uint8_t> bytes, std::initializer_list<const char*> words, Sequence* by = nullptr) {
    Sequence& sequence = by ? *by : *sequence_;
    const Before before(sequence);
    std::string message;
    if (const Result<Snapshot> snapshot = Snapshot::parse(bytes, "F"); snapshot.ok()) {
      message = snapshot->restore(sequence).message();
    } else {
      message = snapshot.status().message();
    }
    expect_words(message, {"F", ": expected ", ", got "});
    expect_words(message, words);
    before.expect_same(sequence);
  }
  // The file with another header under a valid checksum, and its body cut or filled to the size that it says.
  std::vector<uint8_t> with(const std::function<void(SnapshotInfo&)>& change, bool resize = false) {
    SnapshotInfo info = Snapshot::parse(good_, "F")->info();
    std::vector<uint8_t> body(good_.begin() + static_cast<std::ptrdiff_t>(info.header_bytes), good_.end());
    change(info);
    if (resize) body.resize(info.body_bytes);
    std::vector<uint8_t> file = write_snapshot_header(info, hash_bytes(body));
    file.insert(file.end(), body.begin(), body.end());
    return file;
  }

  const Scratch scratch_;
  const std::string path_ = scratch_.file("s");
  const EnginePtr engine_ = tiny_engine(tiny(), Math::a16, best_isa());
  const CacheOptions caches_ = sink_caches(4, 20, 16);
  const std::vector<int32_t> tokens_ = tiny().tokens(100);
  const std::unique_ptr<Session> session_ = make_session(engine_, 16);
  const std::unique_ptr<Sequence> sequence_ = make_sequence(engine_, caches_);
  std::vector<uint8_t> good_;
};

TEST_F(Refused, OtherModelsArithmeticsAndPlans) {
  EXPECT_EQ(Snapshot::parse(good_, "F")->restore(*make_sequence(engine_, caches_)).message(), "");
  TinyConfig config;
  config.seed += 1;
  const EnginePtr model = tiny_engine(TinyModel(config), Math::a16, best_isa());
  refused(good_, {"a snapshot of this model", "one of another"}, make_sequence(model, caches_).get());
  const EnginePtr math = tiny_engine(tiny(), Math::f32, best_isa());
  refused(good_, {"StreamOptions.math: expected f32, got a16"}, make_sequence(math, caches_).get());
  const auto plan = [&](const CacheOptions& options, std::initializer_list<const char*> words) {
    refused(good_, words, make_sequence(engine_, options).get());
  };
  plan(sink_caches(4, 20, 16, DType::bf16), {"storage of keys and values: expected bf16, got f16"});
  plan(flat_caches(24, 16), {"sinks: expected none, got some"});
  plan(sink_caches(4, 20, 17), {"chunk: expected 17, got 16"});
  plan(sink_caches(5, 19, 16), {"sink tokens: expected 5, got 4"});
  CacheOptions options = caches_;
  options.sink_positions = SinkPositions::original;
  plan(options, {"sink positions: expected original, got in-cache"});
  options = caches_;
  options.rotary_offset = 8;
  plan(options, {"rotary offset: expected 8, got 0"});
  options = caches_;
  options.context = 25;
  plan(options, {"context: expected 25, got 24"});
  options = caches_;
  options.context = 30;
  options.sink_window = 25;
  plan(options, {"context: expected 30, got 24"});
}

TEST_F(Refused, OtherVersions) {
  refused(with([](SnapshotInfo& info) { ++info.version; }), {"snapshot version 4, got 5"});
  refused(with([](SnapshotInfo& info) { --info.version; }), {"snapshot version 4, got 3"});
  refused(with([](SnapshotInfo& info) { ++info.numerics; }), {"numerics version 1, got 2"});
}

TEST_F(Refused, OtherFiles) {
  refused({}, {"a kvass snapshot", "another kind of file"});
  const std::vector<uint8_t> gguf = tiny().gguf();
  refused(gguf, {"a kvass snapshot", "another kind of file"});
  expect_words(Snapshot::open(scratch_.file("none")).status().message(), {"none", "No such file"});
  std::ofstream(scratch_.file("empty"));
  expect_words(Snapshot::open(scratch_.file("empty")).status().message(), {"empty"});
  EXPECT_FALSE(Snapshot::open(scratch_.file("")).ok());
}

TEST_F(Refused, EveryTruncatedFile) {
  Random random;
  const size_t header = Snapshot::parse(good_, "F")->info().header_bytes;
  const std::span<const uint8_t> file(good_);
  for (size_t size = 0; size < header; ++size) {
    const std::vector<uint8_t> cut(good_.begin(), good_.begin() + static_cast<std::ptrdiff_t>(size));
    refused(cut, {});
  }
  for (int round = 0; round < 50; ++round) {
    const int64_t size = random.integer(static_cast<int64_t>(header), static_cast<int64_t>(good_.size()) - 1);
    refused(file.first(static_cast<size_t>(size)), {"bytes of keys and values", "cut off"});
  }
  std::vector<uint8_t> longer = good_;
  longer.push_back(0);
  refused(longer, {"bytes of keys and values", "damaged"});
}

TEST_F(Refused, EveryChangedBit) {
  Random random;
  const size_t header = Snapshot::parse(good_, "F")->info().header_bytes;
  for (size_t at = 0; at < header; ++at) {
    std::vector<uint8_t> damaged = good_;
    damaged[at] = static_cast<uint8_t>(damaged[at] ^ (1 << random.integer(0, 7)));
    refused(damaged, {});
    if (at >= 24) refused(damaged, {"header with the checksum", "damaged"});
  }
  for (int round = 0; round < 100; ++round) {
    std::vector<uint8_t> damaged = good_;
    const int64_t at = random.integer(static_cast<int64_t>(header), static_cast<int64_t>(good_.size()) - 1);
    damaged[static_cast<size_t>(at)] ^= static_cast<uint8_t>(1 << random.integer(0, 7));
    refused(damaged, {"keys and values with the checksum", "damaged"});
  }
}

// What only a forger writes: the checksums are right.
TEST_F(Refused, ForgedFields) {
  const auto forged = [&](std::initializer_list<const char*> words, const std::function<void(SnapshotInfo&)>& change) {
    refused(with(change), words);
  };
  const char* fields = "fields of a snapshot";
  forged({fields}, [](SnapshotInfo& info) { info.length = -1; });
  forged({fields}, [](SnapshotInfo& info) { info.math = static_cast<Math>(3); });
  forged({fields}, [](SnapshotInfo& info) { info.caches.dtype = static_cast<DType>(200); });
  forged({fields}, [](SnapshotInfo& info) { info.caches.sink_positions = static_cast<SinkPositions>(3); });
  forged({fields}, [](SnapshotInfo& info) { info.state.undecoded = "1234"; });
  forged({fields}, [](SnapshotInfo& info) { info.state.recent.resize(6); });
  forged({fields}, [](SnapshotInfo& info) { info.state.sampling.temperature = -1.0f; });
  forged({fields}, [](SnapshotInfo& info) { info.state.sampling.repeat_last_n = -1; });
  forged({fields}, [](SnapshotInfo& info) { info.state.chat.turns = -1; });
  forged({fields}, [](SnapshotInfo& info) { info.state.chat.messages.pop_back(); });
  forged({fields}, [](SnapshotInfo& info) { info.state.chat.messages.push_back("d"); });
  forged({fields}, [](SnapshotInfo& info) { info.state.chat.chat_template = ""; });
  forged({fields}, [](SnapshotInfo& info) { info.state.pending = {}; });
  forged({fields}, [](SnapshotInfo& info) {
    info.state.chat.messages.pop_back();
    info.state.pending = {};
  });
  forged({fields}, [](SnapshotInfo& info) { info.state.chat.turn_ends.clear(); });
  forged({fields}, [](SnapshotInfo& info) { info.state.chat.ends.pop_back(); });
  forged({fields}, [](SnapshotInfo& info) { info.state.chat.ends[0] = 4; });
  forged({fields}, [](SnapshotInfo& info) { info.state.chat.ends[0] = -2; });
  forged({fields}, [](SnapshotInfo& info) { info.state.sampling.logit_bias[0].id = -1; });
  forged({"token id: expected 0 to 299, got 300"}, [](SnapshotInfo& info) { info.state.chat.ids[0] = 300; });
  forged({"token id: expected 0 to 299, got 300"}, [](SnapshotInfo& info) { info.state.chat.answer[0] = 300; });
  forged({"token id: expected 0 to 299, got 300"}, [](SnapshotInfo& info) { info.state.pending = {300}; });
  forged({"token id: expected 0 to 299, got -1"}, [](SnapshotInfo& info) { info.state.recent = {-1}; });
  forged({"length"}, [](SnapshotInfo& info) { info.length = INT64_MAX; });
  forged({"first position of layer 0"}, [](SnapshotInfo& info) { info.length = 1 << 20; });
  forged({"first position of layer 0"}, [](SnapshotInfo& info) { info.first_held[0] = -1; });
  forged({"first position of layer 1"}, [](SnapshotInfo& info) { info.first_held[1] = INT64_MAX; });
  forged({"first position of layer 1"}, [](SnapshotInfo& info) { info.first_held[1] = INT64_MIN; });
  forged({"layers"}, [](SnapshotInfo& info) { info.first_held.pop_back(); });
  forged({"layers"}, [](SnapshotInfo& info) { info.first_held.clear(); });
  forged({"source rows: expected 0 to 0, got 1"}, [](SnapshotInfo& info) { info.cross.rows = 1; });
  forged({"cross caches: expected 0, got 1"}, [](SnapshotInfo& info) { info.cross.filled = {-1}; });
  forged({"bytes of keys and values", "damaged"}, [](SnapshotInfo& info) { info.body_bytes -= 64; });
  forged({"bytes of keys and values", "cut off"}, [](SnapshotInfo& info) { info.body_bytes = SIZE_MAX; });
  refused(with([](SnapshotInfo& info) { info.body_bytes -= 64; }, /*resize=*/true), {"keys and values: expected"});
  refused(with([](SnapshotInfo& info) { info.body_bytes += 64; }, /*resize=*/true), {"keys and values: expected"});
}

}  // namespace
}  // namespace kvass
