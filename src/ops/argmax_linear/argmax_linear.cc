#include "ops/argmax_linear/argmax_linear.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

#include "kernels/linear/screen.h"

namespace kvass {
namespace {

constexpr int64_t kTasks = 64;  // of either pass
constexpr int64_t kLeastPanels = 8;

struct Tasks {
  int64_t panels;  // of one
  int64_t count;
};

Tasks divide(int64_t panels) {
  const int64_t each = std::max(kLeastPanels, (panels + kTasks - 1) / kTasks);
  return {each, (panels + each - 1) / each};
}

// Of a block of 32 activations x, with s = amax / qmax the step of their rounding to integers q: q is rint(x / s) of a
// quotient that is off by less than 0.01, so s q is within 0.51 s of x. With e what the
// block's weights have beside their high halves (kernels/linear/screen.h), |Σ s q e| is at most ‖s q‖ · ‖e‖. The
// largest activations are taken out of that norm, one after the other, and bounded singly, while that makes the bound
// smaller for an ‖e‖ of the usual size.
ScreenedBlock bound(const float* x, double qmax) {
  constexpr double kTypicalError = 26.5, kLargestError = 7.5;  // √(32 · 255 / 12) for even quants; of one k
  double magnitudes[kBlock], squares = 0.0, amax = 0.0;
  for (int i = 0; i < kBlock; ++i) {
    magnitudes[i] = std::fabs(static_cast<double>(x[i]));
    squares += magnitudes[i] * magnitudes[i];
    amax = std::max(amax, magnitudes[i]);
  }
  const double off = 0.51 * amax / qmax;  // of one k; of all, √32 times that
  double singles = 0.0;
  for (;;) {
    double* largest = std::max_element(magnitudes, magnitudes + kBlock);
    const double left = std::max(0.0, squares - *largest * *largest);
    if (!(kTypicalError * (std::sqrt(squares) - std::sqrt(left)) > kLargestError * *largest)) break;
    squares = left;
    singles += *largest + off;
    *largest = 0.0;
  }
  constexpr double kUp = 1.0 + 0x1p-20;  // covers the rounding of this computation
  return {static_cast<float>((std::sqrt(squares) + 5.7 * off) * kUp),
          static_cast<float>(4.0 * kLargestError * singles * kUp)};
}

// Brings a panel nearer while another is computed: those that are left lie far apart.
void fetch(const PackedWeight& weight, int64_t index) {
  const PanelParts panel = panel_at(weight.type, weight.data, weight.n, weight.k, index);
  const int64_t bytes = cells_bytes(panel_format(weight.type), weight.k);
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(panel.cells + i);
  for (int64_t i = 0; i < low_panel_bytes(weight.type, weight.k); i += 64) __builtin_prefetch(panel.low + i);
}

void take_larger(Argmax& best, const Argmax& other) {
  if (other.index >= 0 && (best.index < 0 || other.value > best.value)) best = other;
}

}  // namespace

size_t screen_bytes(int64_t n, int64_t k) {
  const size_t bytes = static_cast<size_t>(panel_count(n)) * sizeof(ScreenedPanel) +
                       static_cast<size_t>(activation_blocks(k)) * sizeof(ScreenedBlock);
  return (bytes + 63) / 64 * 64;
}

Argmax argmax_linear(const float* x, const PackedWeight& weight, Math math, float* y, void* activation_scratch,
                     void* scratch, ThreadPool& threads, Isa isa) {
  assert(weight.type == WeightType::Q8_0_split && math != Math::f32);
  const bool wide = math == Math::a16;
  const int64_t panels = panel_count(weight.n);
  ScreenedPanel* screened = static_cast<ScreenedPanel*>(scratch);
  ScreenedBlock* blocks = reinterpret_cast<ScreenedBlock*>(screened + panels);
  (wide ? quantise_a16_for(isa) : quantise_a8_for(isa))({x, weight.k, 1, weight.k, activation_scratch});
  for (int64_t b = 0; b < weight.k / kBlock; ++b) blocks[b] = bound(x + b * kBlock, wide ? kQmax16 : kQmax8);

  const Tasks tasks = divide(panels);
  const auto for_tasks = [&](auto&& body) {  // body(task, first panel, end)
    threads.run(tasks.count, [&](int64_t task, int) {
      body(task, task * tasks.panels, std::min(panels, (task + 1) * tasks.panels));
    });
  };
  int64_t likely[kTasks];  // panel with the largest estimate
  const ScreenFunction screen = wide ? screen_a16_for(isa) : screen_a8_for(isa);
  for_tasks([&](int64_t task, int64_t begin, int64_t end) {
    screen({weight.data, weight.n, weight.k, begin, end, activation_scratch, blocks, screened});
    likely[task] =
        std::max_element(screened + begin, screened + end,
                         [](const ScreenedPanel& a, const ScreenedPanel& b) { return a.likely < b.likely; }) -
        screened;
  });

  const LinearFunction multiply = wide ? linear_a16_for(isa) : linear_a8_for(isa);
  const ArgmaxKernel argmax = argmax_for(isa);
  const auto compute = [&](int64_t panel) {
    const int64_t first = panel * kPanelOutputs;
    multiply({weight.type, weight.data, weight.n, weight.k, panel, panel + 1, activation_scratch,
              activation_blocks(weight.k), 1, y, weight.n});
    Argmax best = argmax(y + first, std::min<int64_t>(kPanelOutputs, weight.n - first));
    if (best.index >= 0) best.index += first;
    return best;
  };
  int64_t best_panel = likely[0];
  for (int64_t task = 1; task < tasks.count; ++task) {
    if (screened[likely[task]].likely > screened[best_panel].likely) best_panel = likely[task];
  }
  const Argmax start = compute(best_panel);
  const float least = start.index < 0 ? -std::numeric_limits<float>::infinity() : start.value;

  Argmax found[kTasks];
  for_tasks([&](int64_t task, int64_t begin, int64_t end) {
    Argmax best;
    const auto next = [&](int64_t panel) {  // that can hold the largest
      const float value = best.index < 0 ? least : std::max(least, best.value);
      while (panel < end && screened[panel].most < value) ++panel;
      return panel;
    };
    for (int64_t panel = next(begin); panel < end;) {
      const int64_t after = next(panel + 1);
      if (after < end) fetch(weight, after);
      take_larger(best, compute(panel));
      panel = after;
    }
    found[task] = best;
  });
  Argmax best;
  for (int64_t task = 0; task < tasks.count; ++task) take_larger(best, found[task]);
  return best;
}

}  // namespace kvass
