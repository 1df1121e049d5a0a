// A program of the core alone: a row of attention, and where a ring with sinks keeps its positions.
#include <kvass/layout.h>
#include <kvass/ops.h>

#include <cstdio>

#if defined(__AVX2__)
#error "the flags of kvass reach the programs that link it"
#endif

int main() {
  float q[16] = {1}, k[16] = {1}, v[16] = {3}, out[16] = {};
  kvass::Result<kvass::OpContext> context = kvass::OpContext::create({.threads = 1, .backends = ""});
  const auto tensor = [](float* data) { return kvass::Tensor(data, kvass::DType::f32, {1, 1, 1, 16}); };
  if (!context.ok() || !kvass::attention(context.value(), tensor(q), tensor(k), tensor(v), {}, tensor(out)).ok())
    return 1;
  const kvass::Result<kvass::Layout> layout = kvass::Layout::sink_ring(4, 60, 64);
  std::printf("out %g slot %d\n", static_cast<double>(out[0]), static_cast<int>(layout.value().slot(68)));
  return 0;
}
