// A copied sequence goes on as the one that it was copied from.
#include <gtest/gtest.h>

#include "streams.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

TEST(SequenceCopy, GoesOnAsTheOriginalAndApartFromIt) {
  const TinyModel model;
  const EnginePtr engine = tiny_engine(model, Math::a16, best_isa());
  const std::vector<int32_t> tokens = model.tokens(120);
  for (const CacheOptions& caches : {flat_caches(200, 16), sink_caches(3, 20, 16)}) {
    const std::unique_ptr<Session> session = make_session(engine, 16);
    const std::unique_ptr<Sequence> first = make_sequence(engine, caches), second = make_sequence(engine, caches);
    const std::span<const int32_t> all(tokens);
    run_chunks(*session, *first, all.first(70), {16});
    run_chunks(*session, *second, all.first(9), {16});
    ASSERT_TRUE(second->copy_from(*first).ok());
    EXPECT_EQ(second->length(), 70);
    const std::vector<float> original = run_chunks(*session, *first, all.subspan(70), {16});
    EXPECT_SAME_BITS(run_chunks(*session, *second, all.subspan(70), {7}), original);
    ASSERT_TRUE(second->copy_from(*second).ok());
    EXPECT_EQ(second->length(), 120);
  }
}

TEST(SequenceCopy, OfAnotherEngineOrPlanIsRefused) {
  const TinyModel model;
  const EnginePtr engine = tiny_engine(model, Math::a16, best_isa()), other = tiny_engine(model, Math::f32, best_isa());
  const std::unique_ptr<Sequence> sequence = make_sequence(engine, flat_caches(200, 16));
  for (const std::unique_ptr<Sequence>& source :
       {make_sequence(other, flat_caches(200, 16)), make_sequence(engine, flat_caches(201, 16)),
        make_sequence(engine, flat_caches(200, 16, DType::f32))}) {
    const Status status = sequence->copy_from(*source);
    EXPECT_NE(status.message().find("sequence to copy: expected "), std::string::npos) << status.message();
    EXPECT_EQ(sequence->length(), 0);
  }
}

}  // namespace
}  // namespace kvass
