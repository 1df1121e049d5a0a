#include "ops/linear/linear.h"

#include <algorithm>
#include <cassert>

#include "kernels/linear/linear.h"

namespace kvass {
namespace {

constexpr int64_t kRowBlock = 128;  // rows of one task: the kernels' own block
constexpr int64_t kLargestTask =
    512 << 10;                          // bytes of weights; small enough that no thread waits long for the last one
constexpr int64_t kTasksPerThread = 4;  // where the weights are small
constexpr int64_t kRowsPerQuantiseTask = 8;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool quantises(Math math, const PackedWeight& weight) {
  return math != Math::f32 && panel_format(weight.type).quantised;
}

// Panels of one task, for a share of `task_bytes`.
int64_t panels_per_task(const PackedWeight& w, int64_t task_bytes) {
  return std::max<int64_t>(1, task_bytes / (panel_bytes(w.type, w.k) + low_panel_bytes(w.type, w.k)));
}

}  // namespace

size_t activation_bytes(Math math, int64_t rows, int64_t k) {
  if (math == Math::f32) return 0;
  const size_t block = math == Math::a16 ? sizeof(ActivationBlock16) : sizeof(ActivationBlock8);
  return (static_cast<size_t>(rows * activation_blocks(k)) * block + 63) / 64 * 64;
}

void linear(const float* x, int64_t x_stride, int64_t rows, int64_t k, std::span<const LinearTarget> targets, Math math,
            void* activation_scratch, ThreadPool& threads, Isa isa) {
  if (rows <= 0) return;
  int64_t bytes = 0;
  bool quantised = false;
  for (const LinearTarget& target : targets) {
    assert(target.weight.k == k);
    bytes += matrix_bytes(target.weight.type, target.weight.n, target.weight.k);
    quantised |= quantises(math, target.weight);
  }

  if (quantised) {
    const QuantiseFunction quantise = math == Math::a16 ? quantise_a16_for(isa) : quantise_a8_for(isa);
    const int64_t row_bytes = activation_blocks(k) * static_cast<int64_t>(math == Math::a16 ? sizeof(ActivationBlock16)
                                                                                            : sizeof(ActivationBlock8));
    threads.run(divide_up(rows, kRowsPerQuantiseTask), [&](int64_t task, int) {
      const int64_t begin = task * kRowsPerQuantiseTask;
      quantise({x + begin * x_stride, x_stride, std::min(kRowsPerQuantiseTask, rows - begin), k,
                static_cast<uint8_t*>(activation_scratch) + begin * row_bytes});
    });
  }

  // Tasks are (target, block of rows, run of panels), numbered target by target.
  const int64_t row_blocks = divide_up(rows, kRowBlock);
  const int64_t task_bytes = std::min(kLargestTask, divide_up(bytes * row_blocks, kTasksPerThread * threads.threads()));
  const auto tasks_of = [&](const PackedWeight& w) {
    return divide_up(panel_count(w.n), panels_per_task(w, task_bytes)) * row_blocks;
  };
  int64_t tasks = 0;
  for (const LinearTarget& target : targets) tasks += tasks_of(target.weight);
  threads.run(tasks, [&](int64_t task, int) {
    const LinearTarget* target = targets.data();
    for (int64_t count = tasks_of(target->weight); task >= count; count = tasks_of(target->weight)) {
      task -= count;
      ++target;
    }
    const PackedWeight& w = target->weight;
    const int64_t panels = panels_per_task(w, task_bytes);
    const int64_t runs = divide_up(panel_count(w.n), panels);
    const int64_t row = task / runs * kRowBlock;
    const int64_t panel = task % runs * panels;
    LinearParams p;
    p.type = w.type;
    p.matrix = w.data;
    p.n = w.n;
    p.k = k;
    p.panel_begin = panel;
    p.panel_end = std::min(panel + panels, panel_count(w.n));
    p.rows = std::min(kRowBlock, rows - row);
    p.y = target->y + row * target->y_stride;
    p.y_stride = target->y_stride;
    if (!quantises(math, w)) {
      p.x = x + row * x_stride;
      p.x_stride = x_stride;
      return linear_f32_for(isa)(p);
    }
    const int64_t blocks = activation_blocks(k);
    p.x_stride = blocks;
    if (math == Math::a16) {
      p.x = static_cast<const ActivationBlock16*>(activation_scratch) + row * blocks;
      return linear_a16_for(isa)(p);
    }
    p.x = static_cast<const ActivationBlock8*>(activation_scratch) + row * blocks;
    return linear_a8_for(isa)(p);
  });
}

}  // namespace kvass
