// The kernels of elementwise/device.h: one thread for each element.
#include "device/code.h"
#include "device/lane.h"
#include "kernels/elementwise/device.h"
#include "kernels/functions.h"

namespace kvass::KVASS_DEVICE {
namespace {

constexpr int kThreads = 256;

KVASS_DEVICE_FN int64_t element() { return block_x() * kThreads + thread_index(); }

struct Add {
  KVASS_METHOD static float of(float a, float b) { return add_rn(a, b); }
};
struct GeluGate {
  KVASS_METHOD static float of(float a, float b) { return mul_rn(kvass::gelu_tanh<D>(a), b); }
};
struct SiluGate {
  KVASS_METHOD static float of(float a, float b) { return mul_rn(kvass::silu<D>(a), b); }
};

template <class Function>
KVASS_KERNEL void KVASS_BLOCK_THREADS(kThreads) pair_elements(const DevicePairParams p) {
  const int64_t i = element();
  if (i < p.n) p.y[i] = Function::of(p.a[i], p.b[i]);
}

KVASS_KERNEL void KVASS_BLOCK_THREADS(kThreads) bias_elements(const DeviceBiasParams p) {
  const int64_t i = element();
  if (i < p.rows * p.width) p.y[i] = add_rn(p.x[i], p.b[i % p.width]);
}

KVASS_KERNEL void KVASS_BLOCK_THREADS(kThreads) softcap_elements(const DeviceSoftcapParams p) {
  const int64_t i = element();
  if (i < p.n) p.y[i] = kvass::softcap<D>(p.x[i], p.cap);
}

KVASS_KERNEL void KVASS_BLOCK_THREADS(kThreads) select_elements(const DeviceSelectParams p) {
  const int64_t i = element();
  if (i < p.rows * p.width) p.y[i] = p.x[p.ids[i / p.width] * p.width + i % p.width];
}

template <class Params>
Status launch_elements(void (*kernel)(Params), const char* name, int64_t n, const Params& params, DeviceStream stream) {
  return launch(kernel, name, Grid{(n + kThreads - 1) / kThreads, 1, 1}, kThreads, 0, stream, params);
}

}  // namespace

Status add(const DevicePairParams& p, DeviceStream stream) {
  return launch_elements(&pair_elements<Add>, "add", p.n, p, stream);
}
Status gelu_gate(const DevicePairParams& p, DeviceStream stream) {
  return launch_elements(&pair_elements<GeluGate>, "gelu_gate", p.n, p, stream);
}
Status silu_gate(const DevicePairParams& p, DeviceStream stream) {
  return launch_elements(&pair_elements<SiluGate>, "silu_gate", p.n, p, stream);
}
Status bias(const DeviceBiasParams& p, DeviceStream stream) {
  return launch_elements(&bias_elements, "bias", p.rows * p.width, p, stream);
}
Status softcap(const DeviceSoftcapParams& p, DeviceStream stream) {
  return launch_elements(&softcap_elements, "softcap", p.n, p, stream);
}
Status select_rows(const DeviceSelectParams& p, DeviceStream stream) {
  return launch_elements(&select_elements, "select_rows", p.rows * p.width, p, stream);
}

}  // namespace kvass::KVASS_DEVICE
