// What `kvass verify` says of a model that keeps its promise, and of cases that break it.
#include "app/verify.h"

#include <set>

#include "streams.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

const std::atomic<bool> g_never{false};

VerifyInput tiny_input(const EnginePtr& engine, size_t tokens = 330) {
  VerifyInput input;
  input.engine = engine;
  input.ids = TinyModel().tokens(tokens);
  input.threads = 2;
  return input;
}

// The text in planned chunks of 20, by any engine and storage type.
VerifyCase chunked(std::string name, std::string reference, EnginePtr engine, CacheOptions caches) {
  return {
      std::move(name), std::move(reference), [=](const VerifyInput& input, VerifyRecorder& recorder) -> Status {
        const std::unique_ptr<Sequence> sequence = make_sequence(engine, caches);
        const std::unique_ptr<Session> session = make_session(engine, 20);
        const std::span<const int32_t> ids(input.ids);
        for (size_t at = 0; at < ids.size(); at += 20) {
          const StepRun run{sequence.get(), sequence->length(), ids.subspan(at, std::min<size_t>(20, ids.size() - at))};
          KVASS_RETURN_IF_ERROR(recorder.step(*session, std::span(&run, 1)));
        }
        return {};
      }};
}

std::vector<VerifyRow> rows_of(const VerifyInput& input, const std::vector<VerifyCase>& cases) {
  Result<std::vector<VerifyRow>> rows = verify(input, cases, {}, g_never);
  EXPECT_TRUE(rows.ok()) << rows.status().message();
  return rows.ok() ? std::move(rows).value() : std::vector<VerifyRow>{};
}

TEST(Verify, EveryCaseOfATinyModelIsIdentical) {
  for (const Math math : {Math::a16, Math::f32}) {
    for (const TinyConfig& config : {TinyConfig{}, tiny_llama()}) {
      VerifyInput input = tiny_input(tiny_engine(TinyModel(config), math, best_isa()));
      if (math == Math::f32) input.kv = DType::q8;
      const std::vector<VerifyCase> cases = verify_cases(input);
      std::vector<std::string> told;
      const Result<std::vector<VerifyRow>> rows = verify(
          input, cases, [&](const VerifyRow& row) { told.push_back(row.name); }, g_never);
      ASSERT_TRUE(rows.ok()) << rows.status().message();
      ASSERT_EQ(rows->size(), cases.size());
      std::set<std::string> names;
      std::map<std::string, uint64_t> checksums;
      for (size_t i = 0; i < cases.size(); ++i) {
        const VerifyRow& row = rows.value()[i];
        EXPECT_TRUE(row.identical) << row.name << ": " << row.first_difference;
        EXPECT_EQ(row.first_difference, "");
        EXPECT_EQ(row.name, told[i]);
        EXPECT_TRUE(names.insert(row.name).second) << row.name << " stands there twice";
        checksums[row.name] = row.checksum;
        if (cases[i].reference.empty() || row.name.find("position)") != std::string::npos) continue;
        EXPECT_EQ(row.checksum, checksums.at(cases[i].reference)) << row.name;
      }
      EXPECT_NE(rows->front().checksum, rows->back().checksum) << "with and without sinks";
    }
  }
}

TEST(Verify, TheCachesOfItsCasesWrapAndThoseOfItsReferencesDoNot) {
  const EnginePtr engine = tiny_engine(TinyModel(), Math::a16, best_isa());
  const VerifyInput input = tiny_input(engine);
  // What the cases' first and last plans are for 330 tokens: sinks 4,41 in chunks of 7, and as one chunk.
  const auto ring = [&](int64_t chunk) {
    return make_sequence(engine, sink_caches(4, 41, chunk))->plan().layers[2].layout.ring_slots();
  };
  EXPECT_LT(2 * ring(7), 330);
  EXPECT_GT(ring(330), 330);
}

TEST(Verify, AnotherStorageTypeIsToldWithPositionLayerAndOperator) {
  const EnginePtr engine = tiny_engine(TinyModel(), Math::a16, best_isa());
  const VerifyInput input = tiny_input(engine, 100);
  const std::vector<VerifyRow> rows = rows_of(input, {chunked("f16", "", engine, flat_caches(100, 20)),
                                                      chunked("bf16", "f16", engine, flat_caches(100, 20, DType::bf16)),
                                                      chunked("q8", "f16", engine, flat_caches(100, 20, DType::q8)),
                                                      chunked("f16 again", "f16", engine, flat_caches(120, 33))});
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_FALSE(rows[1].identical);
  EXPECT_FALSE(rows[2].identical);
  EXPECT_NE(rows[1].checksum, rows[0].checksum);
  EXPECT_EQ(rows[1].first_difference, "position 0, layer 0 attention");
  EXPECT_TRUE(rows[3].identical) << rows[3].first_difference;
  EXPECT_EQ(rows[3].checksum, rows[0].checksum);
}

TEST(Verify, ASmallerWindowIsToldWhereItsFirstKeyIsMissing) {
  const EnginePtr engine = tiny_engine(TinyModel(), Math::a16, best_isa());
  const VerifyInput input = tiny_input(engine, 100);
  const std::vector<VerifyRow> rows = rows_of(input, {chunked("wide", "", engine, sink_caches(4, 60, 20)),
                                                      chunked("narrow", "wide", engine, sink_caches(4, 50, 20))});
  ASSERT_EQ(rows.size(), 2u);
  // Layer 2 is the first full one; position 54 is the first that would see key 4.
  EXPECT_EQ(rows[1].first_difference, "position 54, layer 2 attention");
}

TEST(Verify, AnotherWeightIsToldByItsOperator) {
  const TinyModel model;
  const EnginePtr engine = tiny_engine(model, Math::a16, best_isa());
  std::vector<uint8_t> bytes = model.gguf();
  const Gguf file = Gguf::parse(bytes, "tiny.gguf").value();
  const auto tensor = file.find_tensor("blk.3.ffn_norm.weight");
  ASSERT_TRUE(tensor != nullptr);
  float weight = 0.0f;
  uint8_t* first = const_cast<uint8_t*>(tensor->data);
  std::memcpy(&weight, first, sizeof weight);
  weight += 0.25f;
  std::memcpy(first, &weight, sizeof weight);
  const EnginePtr other = try_engine(file, Math::a16, best_isa()).value();
  const VerifyInput input = tiny_input(engine, 60);
  const std::vector<VerifyRow> rows = rows_of(input, {chunked("sound", "", engine, flat_caches(60, 20)),
                                                      chunked("broken", "sound", other, flat_caches(60, 20))});
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[1].first_difference, "position 0, layer 3 ffn norm");
}

TEST(Verify, ACaseThatStopsEarlyOrComparesWithNothingIsAnError) {
  const EnginePtr engine = tiny_engine(TinyModel(), Math::a16, best_isa());
  const VerifyInput input = tiny_input(engine, 60);
  const VerifyCase idle{"idle", "", [](const VerifyInput&, VerifyRecorder&) -> Status { return {}; }};
  const std::string few = verify(input, std::span(&idle, 1), {}, g_never).status().message();
  EXPECT_NE(few.find("case 'idle': expected every position"), std::string::npos) << few;
  const VerifyCase lone = chunked("lone", "nobody", engine, flat_caches(60, 20));
  EXPECT_FALSE(verify(input, std::span(&lone, 1), {}, g_never).ok());
  const std::atomic<bool> cancel{true};
  const std::string stopped = verify(input, verify_cases(input), {}, cancel).status().message();
  EXPECT_NE(stopped.find("interrupted"), std::string::npos) << stopped;
}

TEST(Verify, APositionThatComesAgainMustGiveTheSame) {
  const EnginePtr engine = tiny_engine(TinyModel(), Math::a16, best_isa());
  const VerifyInput input = tiny_input(engine, 60);
  const auto twice = [&](std::string name, DType second) {
    return VerifyCase{std::move(name), "once", [=](const VerifyInput& in, VerifyRecorder& recorder) -> Status {
                        KVASS_RETURN_IF_ERROR(chunked("", "", engine, flat_caches(60, 20, second)).run(in, recorder));
                        return chunked("", "", engine, flat_caches(60, 20)).run(in, recorder);
                      }};
  };
  const std::vector<VerifyRow> rows = rows_of(
      input, {chunked("once", "", engine, flat_caches(60, 20)), twice("same", DType::f16), twice("other", DType::f32)});
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_TRUE(rows[1].identical) << rows[1].first_difference;
  EXPECT_FALSE(rows[2].identical);
}

}  // namespace
}  // namespace kvass
