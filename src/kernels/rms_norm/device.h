// rms_norm.h on a device: the same arguments, all in device memory, and the same bits.
#pragma once

#include "device/dispatch.h"
#include "kernels/rms_norm/rms_norm.h"

namespace kvass {

KVASS_DECLARE_DEVICE_KERNEL(RmsNormArgs, rms_norm)

}  // namespace kvass
