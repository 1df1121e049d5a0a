// Streams that go back: whatever a sequence has been through, it goes on as a fresh one that was fed its history.
#include <gtest/gtest.h>

#include <cstring>

#include "seed.h"
#include "streams.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

CacheOptions with_checkpoints(CacheOptions options, int64_t places) {
  options.checkpoints = places;
  return options;
}

const std::vector<CacheOptions>& layouts() {
  static const std::vector<CacheOptions> all = {with_checkpoints(flat_caches(1000, 16), 3),
                                                with_checkpoints(sink_caches(4, 70, 16), 3),
                                                with_checkpoints(sink_caches(66, 130, 33), 2),
                                                with_checkpoints(sink_caches(0, 20, 8), 1),
                                                with_checkpoints(flat_caches(1000, 16, DType::q8), 2),
                                                with_checkpoints(sink_caches(4, 70, 16, DType::q8), 2)};
  return all;
}

// A stream and the tokens that it should be equal to.
class Player {
 public:
  Player(const EnginePtr& engine, const CacheOptions& options, Random& random)
      : engine_(engine),
        random_(random),
        session_(make_session(engine, options.chunk)),
        sequence_(make_sequence(engine, options)) {}

  Sequence& sequence() { return *sequence_; }
  size_t length() const { return history_.size(); }

  void feed(size_t count) {
    std::vector<int32_t> tokens;
    for (size_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>(random_.integer(3, 200)));
    run_chunks(*session_, *sequence_, tokens, {random_.integer(1, sequence_->plan().chunk)});
    history_.insert(history_.end(), tokens.begin(), tokens.end());
  }
  bool rewind(int64_t length) {
    if (!sequence_->rewind(length).ok()) return false;
    history_.resize(static_cast<size_t>(length));
    return true;
  }
  void become_fork() {
    std::unique_ptr<Sequence> fork = sequence_->fork().value();
    std::swap(fork, sequence_);
  }
  // Another sequence becomes this one as it was at a length; what that had is gone.
  bool become_copy(int64_t length) {
    std::unique_ptr<Sequence> copy = make_sequence(engine_, sequence_->options());
    std::vector<int32_t> other;
    for (int64_t i = random_.integer(0, 150); i > 0; --i)
      other.push_back(static_cast<int32_t>(random_.integer(3, 200)));
    if (!other.empty()) run_chunks(*session_, *copy, other, {copy->plan().chunk});
    if (!copy->copy_from(*sequence_, length).ok()) return false;
    std::swap(copy, sequence_);
    history_.resize(static_cast<size_t>(length));
    return true;
  }

  // The next tokens' logits are those of a fresh stream with this history.
  void expect_fresh() {
    EXPECT_EQ(sequence_->length(), static_cast<int64_t>(history_.size()));
    const std::unique_ptr<Sequence> fresh = make_sequence(engine_, sequence_->options());
    run_chunks(*session_, *fresh, history_, {sequence_->plan().chunk});
    std::vector<int32_t> next;
    for (int i = 0; i < 5; ++i) next.push_back(static_cast<int32_t>(random_.integer(3, 200)));
    const std::vector<float> expected = run_chunks(*session_, *fresh, next, {5});
    EXPECT_SAME_BITS(run_chunks(*session_, *sequence_, next, {5}), expected);
    history_.insert(history_.end(), next.begin(), next.end());
  }

 private:
  EnginePtr engine_;
  Random& random_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<Sequence> sequence_;
  std::vector<int32_t> history_;
};

EnginePtr engine() {
  static const EnginePtr one = tiny_engine(TinyModel(), Math::a16, best_isa());
  return one;
}

TEST(Rewind, ToWhatTheRingsHoldIsAsIfTheStreamHadNeverGoneFurther) {
  Random random;
  for (const CacheOptions& options : layouts()) {
    SCOPED_TRACE(::testing::Message() << "sinks " << options.sink_tokens << ", window " << options.sink_window);
    Player player(engine(), options, random);
    for (const size_t count : {10u, 100u, 300u}) {
      player.feed(count);
      const int64_t length = player.sequence().length(), floor = player.sequence().rewind_floor();
      EXPECT_TRUE(player.rewind(random.integer(floor, length)));
      player.expect_fresh();
      EXPECT_TRUE(player.rewind(std::max(floor, player.sequence().rewind_floor())));
      player.expect_fresh();
    }
    EXPECT_TRUE(player.rewind(0));
    player.expect_fresh();
  }
}

TEST(Rewind, BelowTheFloorIsRefusedAndNothingHasChanged) {
  Random random;
  Player player(engine(), with_checkpoints(sink_caches(4, 70, 16), 2), random);
  player.feed(400);
  Sequence& sequence = player.sequence();
  const std::vector<uint8_t> before(sequence.block(), sequence.block() + sequence.cache_bytes());
  const int64_t floor = sequence.rewind_floor();
  ASSERT_GT(floor, 250);
  for (const int64_t length : {floor - 1, int64_t{100}, int64_t{5}, int64_t{-1}, int64_t{401}}) {
    const Status status = sequence.rewind(length);
    EXPECT_NE(status.message().find("rewind: expected a position"), std::string::npos) << status.message();
  }
  EXPECT_EQ(sequence.length(), 400);
  EXPECT_EQ(std::memcmp(before.data(), sequence.block(), before.size()), 0);
  player.expect_fresh();
  // What was overwritten stays lost after going back, whatever the length says.
  ASSERT_TRUE(player.rewind(floor + 5));
  EXPECT_FALSE(player.rewind(floor - 1));
  player.expect_fresh();
}

TEST(Checkpoint, AChangedTailIsRunAgainWithoutThePrefix) {
  Random random;
  for (const CacheOptions& options : layouts()) {
    SCOPED_TRACE(::testing::Message() << "sinks " << options.sink_tokens << ", window " << options.sink_window);
    Player player(engine(), options, random);
    player.feed(251);
    ASSERT_TRUE(player.sequence().checkpoint().ok());
    for (int tail = 0; tail < 3; ++tail) {
      player.feed(static_cast<size_t>(random.integer(150, 400)));
      ASSERT_TRUE(player.rewind(251));
      player.expect_fresh();
    }
  }
}

TEST(Checkpoint, IsGoneOnceTheStreamGoesAnotherWayBeforeIt) {
  Random random;
  Player player(engine(), with_checkpoints(sink_caches(4, 70, 16), 2), random);
  player.feed(100);
  ASSERT_TRUE(player.sequence().checkpoint().ok());
  player.feed(5);
  ASSERT_TRUE(player.sequence().checkpoint().ok());
  EXPECT_EQ(player.sequence().checkpoints(), (std::vector<int64_t>{100, 105}));
  ASSERT_TRUE(player.rewind(102));
  EXPECT_EQ(player.sequence().checkpoints(), (std::vector<int64_t>{100, 105})) << "nothing is overwritten yet";
  player.feed(300);
  EXPECT_EQ(player.sequence().checkpoints(), std::vector<int64_t>{100});
  EXPECT_FALSE(player.rewind(105));
  EXPECT_TRUE(player.rewind(100));
  player.expect_fresh();
  ASSERT_TRUE(player.sequence().clear().ok());
  EXPECT_TRUE(player.sequence().checkpoints().empty());
}

TEST(Checkpoint, TheOldestMakesRoomAndWithoutPlacesThereIsNone) {
  Random random;
  Player player(engine(), with_checkpoints(sink_caches(4, 70, 16), 2), random);
  for (int i = 0; i < 3; ++i) {
    player.feed(50);
    ASSERT_TRUE(player.sequence().checkpoint().ok());
    ASSERT_TRUE(player.sequence().checkpoint().ok()) << "again at the same position";
  }
  EXPECT_EQ(player.sequence().checkpoints(), (std::vector<int64_t>{100, 150}));
  Player none(engine(), sink_caches(4, 70, 16), random);
  EXPECT_NE(none.sequence().checkpoint().message().find("CacheOptions.checkpoints"), std::string::npos);
}

TEST(Fork, GoesOnApartFromTheOriginalAndRewindsAsItDoes) {
  Random random;
  for (const CacheOptions& options : layouts()) {
    for (const size_t length : {1u, 3u, 64u, 90u, 500u}) {
      SCOPED_TRACE(::testing::Message() << "window " << options.sink_window << ", length " << length);
      Player player(engine(), options, random);
      player.feed(length);
      const int64_t floor = player.sequence().rewind_floor();
      player.become_fork();
      EXPECT_EQ(player.sequence().rewind_floor(), floor);
      EXPECT_TRUE(player.sequence().checkpoints().empty());
      ASSERT_TRUE(player.rewind(random.integer(floor, player.sequence().length())));
      player.expect_fresh();
    }
  }
}

TEST(Copy, AtAnyPlaceToRewindToIsTheStreamOfThatLength) {
  Random random;
  for (const CacheOptions& options : layouts()) {
    SCOPED_TRACE(::testing::Message() << "sinks " << options.sink_tokens << ", window " << options.sink_window);
    Player player(engine(), options, random);
    player.feed(180);
    ASSERT_TRUE(player.sequence().checkpoint().ok());
    player.feed(300);
    const int64_t floor = player.sequence().rewind_floor();
    EXPECT_EQ(player.sequence().rewind_place(200), floor == 0 ? 200 : 180);
    EXPECT_EQ(player.sequence().rewind_place(179), floor == 0 ? 179 : 0);
    EXPECT_EQ(player.sequence().rewind_place(470), 470);
    EXPECT_EQ(player.sequence().rewind_place(9999), 480);
    if (floor > 0) EXPECT_FALSE(player.become_copy(179));
    Sequence* const original = &player.sequence();
    ASSERT_TRUE(player.become_copy(180));
    EXPECT_NE(&player.sequence(), original);
    player.expect_fresh();
    player.feed(300);
    ASSERT_TRUE(player.become_copy(random.integer(player.sequence().rewind_floor(), player.sequence().length())));
    player.expect_fresh();
    ASSERT_TRUE(player.become_copy(0));
    player.expect_fresh();
  }
}

TEST(Rewind, RandomJourneysEndAsFreshStreams) {
  Random random;
  for (int journey = 0; journey < 18; ++journey) {
    const CacheOptions& options = layouts()[static_cast<size_t>(journey) % layouts().size()];
    Player player(engine(), options, random);
    for (int step = 0; step < 25 && player.length() < 900; ++step) {
      switch (random.integer(0, 5)) {
        case 5:
          player.become_copy(player.sequence().rewind_place(random.integer(0, player.sequence().length())));
          break;
        case 0:
          player.rewind(random.integer(0, player.sequence().length()));
          break;
        case 1:
          if (!player.sequence().checkpoints().empty()) player.rewind(player.sequence().checkpoints().back());
          break;
        case 2:
          (void)player.sequence().checkpoint();
          break;
        case 3:
          player.become_fork();
          break;
        default:
          player.feed(static_cast<size_t>(random.integer(1, 90)));
      }
    }
    if (player.length() < 900) player.expect_fresh();
  }
}

}  // namespace
}  // namespace kvass
