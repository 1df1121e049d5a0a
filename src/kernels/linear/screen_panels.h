// The screen of panels (screen.h), written once over a lane set V and the dots of its linear kernels: Dots::high(panel,
// b, x) is Σ high q_a of block b. Included by the units of one instruction set only. No state.
#pragma once

#include "kernels/linear/screen.h"
#include "kernels/linear/unpack.h"

namespace kvass {

inline constexpr int64_t kScreenAhead = 6144;  // bytes that are fetched ahead

template <class V, class Dots, class Block>
static void screen_panels(const ScreenParams& p) {
  using F = typename V::F;
  using U = Unpack<V, WeightType::Q8_0_split>;
  const Block* x = static_cast<const Block*>(p.x);
  const int64_t blocks = p.k / kBlock;
  const int64_t block_bytes = panel_bytes(WeightType::Q8_0_split, p.k) / blocks;  // a panel's, evenly
  const F lowest = V::set1(-__builtin_inff());
  for (int64_t index = p.panel_begin; index < p.panel_end; ++index) {
    const PanelParts panel = panel_at(WeightType::Q8_0_split, p.matrix, p.n, p.k, index);
    F estimate = V::zero(), error = V::zero();
    for (int64_t b = 0; b < blocks; ++b) {
      for (int64_t i = 0; i < block_bytes; i += 64) {
        __builtin_prefetch(panel.errors + b * block_bytes + kScreenAhead + i);
      }
      const F scale = U::scale(panel, b, 0);
      const F high = V::to_float(Dots::high(panel, b, x));
      const F v = V::fma(V::set1(16.0f), high, V::set1(7.5f * x[b].sum));
      estimate = V::fma(v, V::mul(scale, V::set1(x[b].scale)), estimate);
      const F of_high = V::to_float(V::load_u8(panel.errors + b * kPanelOutputs));
      const F of_block = V::fma(of_high, V::set1(p.blocks[b].norm), V::set1(p.blocks[b].singles));
      error = V::fma(V::abs(scale), of_block, error);
    }
    const F most = V::add(V::fma(error, V::set1(screen_slack(p.k)), estimate), V::set1(0x1p-100f));
    p.out[index] = {V::reduce_max(V::select(V::gt(most, lowest), most, V::set1(__builtin_inff()))),
                    V::reduce_max(V::max(estimate, lowest))};
  }
}

}  // namespace kvass
