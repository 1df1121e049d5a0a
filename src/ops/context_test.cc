// What the operators of one process share: contexts that are replaced while calls run, and choices of backends that a
// first call on a device changes.
#include "ops/context.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "../../python/shared_context.h"
#include "effort.h"

namespace kvass {
namespace {

using testing::effort;

// q, k, v and the gradient of the result, small enough for thousands of calls.
struct Call {
  static constexpr int64_t kRows = 5, kHeads = 4, kKvHeads = 2, kDim = 16;
  std::vector<float> q = numbers(kHeads), k = numbers(kKvHeads), v = numbers(kKvHeads), out = numbers(kHeads),
                     dq = numbers(kHeads), dk = numbers(kKvHeads), dv = numbers(kKvHeads);

  static std::vector<float> numbers(int64_t heads) {
    std::vector<float> values(static_cast<size_t>(heads * kRows * kDim));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 7919 % 101) / 50.0f - 1.0f;
    return values;
  }
  static Tensor view(std::vector<float>& of, int64_t heads) {
    Tensor tensor;
    tensor.data = of.data();
    tensor.dtype = DType::f32;
    tensor.rank = 4;
    tensor.shape = {1, heads, kRows, kDim};
    tensor.strides = {heads * kRows * kDim, kRows * kDim, kDim, 1};
    return tensor;
  }
  std::vector<float> run(OpContext& context) {
    const Status status =
        attention(context, view(q, kHeads), view(k, kKvHeads), view(v, kKvHeads), {}, view(out, kHeads));
    EXPECT_TRUE(status.ok()) << status.message();
    return out;
  }
};

TEST(SharedContext, IsReplacedWhileCallsRunAndTheyEndWithTheirOwn) {
  python::SharedContext shared;
  const std::vector<float> expected = Call().run(*shared.get().value());
  std::atomic<bool> done{false};
  std::atomic<int64_t> calls{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) {
    callers.emplace_back([&] {
      Call call;
      while (!done) {
        const std::shared_ptr<OpContext> context = shared.get().value();
        const std::vector<float> got = call.run(*context);
        EXPECT_EQ(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)), 0);
        ++calls;
      }
    });
  }
  for (int i = 0; i < effort(300, 40); ++i) {
    OpContext::Options options;
    options.threads = 1 + i % 3;
    shared.replace(OpContext::create(options).value());
  }
  while (calls == 0) std::this_thread::yield();
  done = true;
  for (std::thread& caller : callers) caller.join();
}

TEST(SharedContext, ThatIsReplacedLivesAsLongAsACallHoldsIt) {
  python::SharedContext shared;
  const std::shared_ptr<OpContext> held = shared.get().value();
  EXPECT_EQ(shared.get().value(), held);
  shared.replace(OpContext::create({1, ""}).value());
  EXPECT_NE(shared.get().value(), held);
  EXPECT_EQ(held.use_count(), 1);
  Call().run(*held);
}

// As the first call on a device does (State::use), again and again.
TEST(OpContext, EveryOperatorReadsTheChoicesOfBackendsUnderItsLock) {
  OpContext context = OpContext::create({2, ""}).value();
  std::atomic<bool> done{false};
  std::thread device([&] {
    OpContext::State& state = *context.state();
    for (size_t i = 0; !done; ++i) {
      const std::lock_guard lock(state.mutex);
      state.features.cuda = i % 2 == 0 ? std::string() : std::string(40 + i % 200, 'x');
    }
  });
  Call call;
  for (int i = 0; i < effort(2000, 100); ++i) {
    call.run(context);
    const Tensor q = Call::view(call.q, Call::kHeads), k = Call::view(call.k, Call::kKvHeads),
                 v = Call::view(call.v, Call::kKvHeads), out = Call::view(call.out, Call::kHeads);
    ASSERT_TRUE(attention_backward(context, q, k, v, out, {},
                                   {Call::view(call.dq, Call::kHeads), Call::view(call.dk, Call::kKvHeads),
                                    Call::view(call.dv, Call::kKvHeads)})
                    .ok());
    ASSERT_TRUE(update_cross_attn_cache(context, k, Call::view(call.dk, Call::kKvHeads)).ok());
  }
  done = true;
  device.join();
}

}  // namespace
}  // namespace kvass
