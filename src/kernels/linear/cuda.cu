// The launchers of kernels/linear/device.h, the quantisers and the lookup of rows.
#include "device/code.h"
#include "kernels/linear/cuda_many.h"
#if !defined(__HIPCC__)
#include "kernels/linear/cuda_matrix.h"
#endif

namespace kvass::KVASS_DEVICE {
namespace {

int64_t blocks_for(int64_t count, int64_t size) { return (count + size - 1) / size; }

// --- Activations. A thread takes an element; what a block of 32 has in common each of its threads finds for itself.

constexpr int kQuantiseThreads = 256;

template <class Block>
struct Quantised;
template <>
struct Quantised<ActivationBlock8> {
  using Quant = int8_t;
  static constexpr float kQmax = kQmax8;
  KVASS_METHOD static int place(int i) { return i; }
  // q [32] of the block, k ascending.
  KVASS_METHOD static void sums(const int32_t* q, ActivationBlock8& block) {
    int32_t pairs[2][2] = {};  // [half][pair]
    for (int i = 0; i < kBlock; ++i) pairs[i / 16][i % 4 / 2] += q[i];
    block.sum = static_cast<float>(pairs[0][0] + pairs[1][0] + pairs[0][1] + pairs[1][1]);
    KVASS_UNROLL
    for (int pair = 0; pair < 2; ++pair) {
      block.negated_pair_sums[0][pair] = static_cast<int16_t>(-(pairs[0][pair] + pairs[1][pair]));
      block.negated_pair_sums[1][pair] = static_cast<int16_t>(-pairs[0][pair]);
      block.negated_pair_sums[2][pair] = static_cast<int16_t>(-pairs[1][pair]);
    }
  }
};
template <>
struct Quantised<ActivationBlock16> {
  using Quant = int16_t;
  static constexpr float kQmax = kQmax16;
  KVASS_METHOD static int place(int i) { return i / 4 * 4 + (i % 4 == 1 ? 2 : i % 4 == 2 ? 1 : i % 4); }
  KVASS_METHOD static void sums(const int32_t* q, ActivationBlock16& block) {
    int32_t halves[2] = {};
    for (int i = 0; i < kBlock; ++i) halves[i / 16] += q[i];
    block.sum = static_cast<float>(halves[0] + halves[1]);
    block.negated_sums[0] = -(halves[0] + halves[1]);
    block.negated_sums[1] = -halves[0];
    block.negated_sums[2] = -halves[1];
  }
};

template <class Block>
KVASS_KERNEL void KVASS_BLOCK_THREADS(kQuantiseThreads) quantise_rows(const QuantiseParams p) {
  float* values = reinterpret_cast<float*>(shared_memory());                // [threads]
  int32_t* quants = reinterpret_cast<int32_t*>(values + kQuantiseThreads);  // [threads]
  constexpr int kBlocks = kQuantiseThreads / kBlock;
  const int thread = thread_index(), element = thread % kBlock, first = thread - element;
  const int64_t blocks = (p.k + kBlock - 1) / kBlock;
  const int64_t index = block_x() * kBlocks + thread / kBlock;
  const bool there = index < p.rows * blocks;
  const int64_t row = index / blocks, k = index % blocks * kBlock + element;
  const float x = there && k < p.k ? p.x[row * p.x_stride + k] : 0.0f;
  values[thread] = x;
  barrier();
  float amax = 0.0f;
  bool finite = true;
  for (int i = 0; i < kBlock; ++i) {
    const float magnitude = D::abs(values[first + i]);
    finite &= bits_of_float(magnitude) < 0x7f800000u;
    amax = magnitude > amax ? magnitude : amax;
  }
  const bool some = finite && amax >= kAmaxFloor;
  const int32_t q = some ? D::to_int(mul_rn(x, div_rn(Quantised<Block>::kQmax, amax))) : 0;
  quants[thread] = q;
  barrier();
  if (!there) return;
  Block& block = static_cast<Block*>(p.activations)[index];
  block.q[Quantised<Block>::place(element)] = static_cast<typename Quantised<Block>::Quant>(q);
  if (element != 0) return;
  block.scale = some ? div_rn(amax, Quantised<Block>::kQmax) : finite ? 0.0f : float_from_bits(0x7fc00000u);
  Quantised<Block>::sums(quants + first, block);
}

template <class Block>
Status launch_quantise(const QuantiseParams& p, DeviceStream stream) {
  const int64_t blocks = p.rows * activation_blocks(p.k);
  return launch(&quantise_rows<Block>, "quantise rows", Grid{blocks_for(blocks, kQuantiseThreads / kBlock), 1, 1},
                kQuantiseThreads, 2 * kQuantiseThreads * sizeof(float), stream, p);
}

// --- Products.

template <int kPanels>
int64_t groups_of(const DeviceLinearParams& p) {
  int64_t groups = 0;
  for (int i = 0; i < p.targets_count; ++i) groups += panel_groups<kPanels>(p.targets[i].n);
  return groups;
}

ValueBytes value_bytes(WeightType type) {
  const PanelValues values = panel_values(type);
  ValueBytes bytes;
  for (int i = 0; i < 8; ++i) {
    bytes.first |= uint64_t{static_cast<uint8_t>(values.of[i])} << 8 * i;
    bytes.last |= uint64_t{static_cast<uint8_t>(values.of[8 + i])} << 8 * i;
  }
  return bytes;
}
template <WeightType kType>
LinearTask task_of(const DeviceLinearParams& p) {
  return {p, panel_bytes(kType, p.k), value_bytes(p.type)};
}

template <WeightType kType, class Block>
Status launch_many(const LinearTask& task, DeviceStream stream) {
  const Grid grid{groups_of<kManyPanels>(task.p), blocks_for(task.p.rows, kManyRows), 1};
  return launch(&linear_many<kType, Block>, "linear", grid, kManyThreads, sizeof(ManyChunk<kType, Block>), stream,
                task);
}

template <WeightType kType, class Block>
Status launch_quantised(const DeviceLinearParams& p, DeviceStream stream) {
  const LinearTask task = task_of<kType>(p);
  if (p.rows == 1) {
    return launch(&linear_few<kType, Block, 1>, "linear", Grid{groups_of<1>(p), 1, 1}, kFewThreads,
                  few_shared<kType, 1>(), stream, task);
  }
  if (p.rows <= kFewRows) {
    return launch(&linear_few<kType, Block, kFewRows>, "linear", Grid{groups_of<1>(p), 1, 1}, kFewThreads,
                  few_shared<kType, kFewRows>(), stream, task);
  }
#if defined(__HIPCC__)
  return launch_many<kType, Block>(task, stream);
#else
  const Grid grid{groups_of<kMatrixPanels>(p), blocks_for(p.rows, kMatrixRows), 1};
  using Chunk = MatrixChunk<Block, Panel<kType>::kHalfMinima>;
  return launch(&linear_matrix<kType, Block>, "linear", grid, kMatrixThreads, sizeof(Chunk), stream, task);
#endif
}

template <WeightType kType>
Status launch_f32(const DeviceLinearParams& p, DeviceStream stream) {
  const LinearTask task = task_of<kType>(p);
  if (p.rows <= kFewRows) {
    return launch(&linear_few_f32<kType>, "linear", Grid{groups_of<1>(p), 1, 1}, kFewThreads, few_float_shared(),
                  stream, task);
  }
  return launch(&linear_many_f32<kType>, "linear", Grid{groups_of<kManyPanels>(p), blocks_for(p.rows, kManyRows), 1},
                kManyThreads, sizeof(ManyFloats), stream, task);
}

// --- Rows of a weight.

constexpr int kEmbedThreads = 128;

struct EmbedTask {
  DeviceEmbedParams p;
  int64_t panel_bytes;
  ValueBytes values;
};

template <WeightType kType>
KVASS_KERNEL void KVASS_BLOCK_THREADS(kEmbedThreads) embed_rows(const EmbedTask task) {
  using P = Panel<kType>;
  const int64_t row = block_x(), id = task.p.ids[row];
  const P panel{task.p.panels + id / kPanelOutputs * task.panel_bytes, static_cast<int>(id % kPanelOutputs),
                task.values};
  float* y = task.p.y + row * task.p.k;
  if constexpr (!P::kFormat.quantised) {
    for (int64_t k = thread_index(); k < task.p.k; k += kEmbedThreads) y[k] = mul_rn(panel.element(k), task.p.factor);
  } else {
    for (int64_t b = thread_index(); b < task.p.k / kBlock; b += kEmbedThreads) {
      uint32_t words[8];
      panel.quants(b, words);
      KVASS_UNROLL
      for (int h = 0; h < P::kScales; ++h) {
        const float scale = panel.scale(b, h);
        float minimum = 0.0f;
        if constexpr (P::kFormat.minimum) minimum = panel.minimum(b, h);
        KVASS_UNROLL
        for (int i = h * kBlock / P::kScales; i < (h + 1) * kBlock / P::kScales; ++i) {
          float w = mul_rn(scale, P::quant(words, i));
          if constexpr (P::kFormat.minimum) w = sub_rn(w, minimum);
          y[b * kBlock + i] = mul_rn(w, task.p.factor);
        }
      }
    }
  }
}

// --- By type.

// body.template operator()<kernel_type>(); a type whose quants are in two pieces is uploaded in one
// (ops/linear/weight.h).
template <class Body>
Status for_type(WeightType type, Body&& body) {
  return for_kernel_type(type, [&]<WeightType kType>() -> Status {
    if constexpr (panel_format(kType).split) {
      return Status::error(StatusCode::internal, "linear: weights in two pieces on a device");
    } else {
      return body.template operator()<kType>();
    }
  });
}

// launch.template operator()<type>() for a quantised type.
template <class Launch>
Status for_quantised(WeightType type, Launch&& launch) {
  return for_type(type, [&]<WeightType kType>() -> Status {
    if constexpr (panel_format(kType).quantised) {
      return launch.template operator()<kType>();
    } else {
      return Status::error(StatusCode::internal, "linear: float weights meet float activations");
    }
  });
}

template <class Block>
Status launch_any_quantised(const DeviceLinearParams& p, DeviceStream stream) {
  return for_quantised(p.type, [&]<WeightType kType>() { return launch_quantised<kType, Block>(p, stream); });
}

#if defined(KVASS_EMULATE_CUDA)
template <class Block>
Status launch_any_many(const DeviceLinearParams& p, DeviceStream stream) {
  return for_quantised(p.type,
                       [&]<WeightType kType>() { return launch_many<kType, Block>(task_of<kType>(p), stream); });
}
#endif

}  // namespace

Status quantise_a8(const QuantiseParams& p, DeviceStream stream) {
  return launch_quantise<ActivationBlock8>(p, stream);
}
Status quantise_a16(const QuantiseParams& p, DeviceStream stream) {
  return launch_quantise<ActivationBlock16>(p, stream);
}

Status linear_f32(const DeviceLinearParams& p, DeviceStream stream) {
  return for_type(p.type, [&]<WeightType kType>() { return launch_f32<kType>(p, stream); });
}
Status linear_a8(const DeviceLinearParams& p, DeviceStream stream) {
  return launch_any_quantised<ActivationBlock8>(p, stream);
}
Status linear_a16(const DeviceLinearParams& p, DeviceStream stream) {
  return launch_any_quantised<ActivationBlock16>(p, stream);
}

#if defined(KVASS_EMULATE_CUDA)
Status linear_a8_without_matrices(const DeviceLinearParams& p, DeviceStream stream) {
  return launch_any_many<ActivationBlock8>(p, stream);
}
Status linear_a16_without_matrices(const DeviceLinearParams& p, DeviceStream stream) {
  return launch_any_many<ActivationBlock16>(p, stream);
}
#endif

Status embed(const DeviceEmbedParams& p, DeviceStream stream) {
  return for_type(p.type, [&]<WeightType kType>() {
    return launch(&embed_rows<kType>, "embed", Grid{p.rows, 1, 1}, kEmbedThreads, 0, stream,
                  EmbedTask{p, panel_bytes(kType, p.k), value_bytes(p.type)});
  });
}

}  // namespace kvass::KVASS_DEVICE
