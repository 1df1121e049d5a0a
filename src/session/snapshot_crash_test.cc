// Saving that does not come to its end: whatever happens at whatever instant, the file is the old or the new snapshot.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>

#include "damage.h"
#include "scratch.h"
#include "seed.h"
#include "session/snapshot.h"
#include "streams.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

class Saving : public ::testing::Test {
 protected:
  void SetUp() override {
    run_chunks(*session_, *first_, model_.tokens(200), {16});
    run_chunks(*session_, *second_, model_.tokens(300, 1), {16});
    ASSERT_EQ(save_snapshot(*first_, {}, path_).message(), "");
    old_ = scratch_.read("s");
  }

  const TinyModel model_;
  const Scratch scratch_;
  const std::string path_ = scratch_.file("s");
  const EnginePtr engine_ = tiny_engine(model_, Math::a16, best_isa());
  const std::unique_ptr<Session> session_ = make_session(engine_, 16);
  const std::unique_ptr<Sequence> first_ = make_sequence(engine_, sink_caches(4, 200, 16));
  const std::unique_ptr<Sequence> second_ = make_sequence(engine_, sink_caches(4, 200, 16));
  std::vector<uint8_t> old_;
};

TEST_F(Saving, KilledAt200InstantsTheFileIsTheOldOrTheNewSnapshot) {
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_EQ(save_snapshot(*second_, {}, scratch_.file("new")).message(), "");
  const auto save = std::chrono::steady_clock::now() - begin;
  // Time for some saves of either kind, however busy the machine is.
  const int64_t longest = std::max<int64_t>(8000, 6 * (save / std::chrono::microseconds(1)));
  const std::vector<uint8_t> fresh = scratch_.read("new");
  ASSERT_NE(old_, fresh);
  Random random;
  int old_found = 0, interrupted = 0;
  for (int round = 0; round < 200; ++round) {
    const auto wait = static_cast<useconds_t>(random.integer(0, longest));
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      for (bool first = false;; first = !first) {
        if (!save_snapshot(first ? *first_ : *second_, {}, path_).ok()) ::_exit(1);
      }
    }
    ::usleep(wait);
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "a save failed";
    const std::vector<uint8_t> found = scratch_.read("s");
    ASSERT_TRUE(found == old_ || found == fresh) << "round " << round << ", " << found.size() << " bytes";
    old_found += found == old_;
    interrupted += scratch_.files() > 3;  // a temporary, beside both snapshots and the lock
  }
  // Both happened, and some kills came in the middle of the work. The next save has removed their temporaries.
  EXPECT_GT(old_found, 0);
  EXPECT_LT(old_found, 200);
  EXPECT_GT(interrupted, 0);
  ASSERT_EQ(save_snapshot(*second_, {}, path_).message(), "");
  EXPECT_EQ(scratch_.files(), 2u);
}

TEST_F(Saving, AFullDiskLeavesTheOldFileAndNothingElse) {
  const auto ignored = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  // In the first write, between two, and in the header, which comes last, where the limit is the smallest.
  for (const rlim_t bytes : {rlim_t{100}, rlim_t{5000}, rlim_t{old_.size() - 1}}) {
    const rlimit small{bytes, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
    const Status status = save_snapshot(*second_, {}, path_);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    expect_words(status.message(), {path_.c_str(), "expected room for a new file, got File too large"});
    EXPECT_EQ(scratch_.read("s"), old_);
    EXPECT_EQ(scratch_.files(), 1u) << "a temporary was left";
  }
  std::signal(SIGXFSZ, ignored);
  EXPECT_EQ(save_snapshot(*second_, {}, path_).message(), "");
  EXPECT_NE(scratch_.read("s"), old_);
}

TEST_F(Saving, APlaceThatTakesNoFileIsSaidAndLeftAlone) {
  const std::string below = path_ + "/s", nowhere = scratch_.file("none/s"), folder = scratch_.file("folder");
  std::filesystem::create_directory(folder);
  expect_words(save_snapshot(*second_, {}, below).message(), {below.c_str(), "a folder", "which is none"});
  expect_words(save_snapshot(*second_, {}, nowhere).message(), {nowhere.c_str(), "a folder", "No such file"});
  expect_words(save_snapshot(*second_, {}, folder).message(), {folder.c_str(), "the name of a file", "a folder"});
  EXPECT_EQ(scratch_.read("s"), old_);
  EXPECT_EQ(scratch_.files(), 2u);
}

TEST_F(Saving, TheNewFileKeepsTheOldOnesPermissions) {
  namespace fs = std::filesystem;
  fs::permissions(path_, fs::perms::owner_read | fs::perms::owner_write);
  ASSERT_EQ(save_snapshot(*second_, {}, path_).message(), "");
  EXPECT_EQ(fs::status(path_).permissions(), fs::perms::owner_read | fs::perms::owner_write);
}

}  // namespace
}  // namespace kvass
