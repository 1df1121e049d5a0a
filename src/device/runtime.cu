// The table of device/runtime.h for CUDA and for HIP. The emulation has its own, in emulate.cc.
#include "device/code.h"

#if !defined(KVASS_EMULATE_CUDA)

#include <algorithm>
#include <cstring>

namespace kvass::KVASS_DEVICE {
namespace {

constexpr size_t kUploadBytes = 2048;  // within what a kernel's arguments may take

struct UploadParams {
  void* to;
  int64_t bytes;
  unsigned char data[kUploadBytes];
};

KVASS_KERNEL void upload_kernel(const UploadParams params) {
  for (int64_t i = thread_index(); i < params.bytes; i += block_threads()) {
    static_cast<unsigned char*>(params.to)[i] = params.data[i];
  }
}

KVASS_RUNTIME(Stream_t) of(DeviceStream stream) { return static_cast<KVASS_RUNTIME(Stream_t)>(stream); }
KVASS_RUNTIME(Event_t) of_event(DeviceEvent event) { return static_cast<KVASS_RUNTIME(Event_t)>(event); }

Status available() {
#if !defined(__HIPCC__)
  // Without a driver GetDeviceCount would report a driver that is too old.
  int version = 0;
  if (cudaDriverGetVersion(&version) == cudaSuccess && version == 0)
    return Status::error(StatusCode::device, "no driver is installed");
#endif
  int count = 0;
  const auto error = KVASS_RUNTIME(GetDeviceCount)(&count);
  if (error != KVASS_RUNTIME(ErrorNoDevice)) KVASS_RETURN_IF_ERROR(status_of(error, "count of devices"));
  if (count == 0) return Status::error(StatusCode::device, "the driver knows of none");
  return {};
}

Result<DeviceProperties> properties() {
  int device = 0;
  KVASS_RETURN_IF_ERROR(status_of(KVASS_RUNTIME(GetDevice)(&device), "current device"));
#if defined(__HIPCC__)
  hipDeviceProp_t found;
  const auto most_shared = hipDeviceAttributeMaxSharedMemoryPerBlock;
  const auto clock = hipDeviceAttributeMemoryClockRate;
  const auto bus = hipDeviceAttributeMemoryBusWidth;
#else
  cudaDeviceProp found;
  const auto most_shared = cudaDevAttrMaxSharedMemoryPerBlockOptin;
  const auto clock = cudaDevAttrMemoryClockRate;
  const auto bus = cudaDevAttrGlobalMemoryBusWidth;
#endif
  KVASS_RETURN_IF_ERROR(status_of(KVASS_RUNTIME(GetDeviceProperties)(&found, device), "properties of the device"));
  DeviceProperties result;
  result.name = found.name;
  result.processors = found.multiProcessorCount;
  int value = 0;
  KVASS_RETURN_IF_ERROR(
      status_of(KVASS_RUNTIME(DeviceGetAttribute)(&value, most_shared, device), "shared memory of the device"));
  result.shared_bytes = static_cast<size_t>(value);
  int kilohertz = 0, bits = 0;
  if (KVASS_RUNTIME(DeviceGetAttribute)(&kilohertz, clock, device) == KVASS_RUNTIME(Success) &&
      KVASS_RUNTIME(DeviceGetAttribute)(&bits, bus, device) == KVASS_RUNTIME(Success)) {
    result.bandwidth = 2.0 * kilohertz * 1e3 * (bits / 8.0);  // two transfers a clock
  }
  size_t free_bytes = 0, total = 0;
  KVASS_RETURN_IF_ERROR(status_of(KVASS_RUNTIME(MemGetInfo)(&free_bytes, &total), "memory of the device"));
  result.memory_bytes = free_bytes;
  return result;
}

Result<void*> allocate(size_t bytes) {
  void* memory = nullptr;
  KVASS_RETURN_IF_ERROR(status_of(KVASS_RUNTIME(Malloc)(&memory, bytes), "memory of the device"));
  return memory;
}
void release(void* memory) { (void)KVASS_RUNTIME(Free)(memory); }
Result<void*> allocate_host(size_t bytes) {
  void* memory = nullptr;
#if defined(__HIPCC__)
  KVASS_RETURN_IF_ERROR(status_of(hipHostMalloc(&memory, bytes, hipHostMallocDefault), "pinned memory"));
#else
  KVASS_RETURN_IF_ERROR(status_of(cudaMallocHost(&memory, bytes), "pinned memory"));
#endif
  return memory;
}
void release_host(void* memory) {
#if defined(__HIPCC__)
  (void)hipHostFree(memory);
#else
  (void)cudaFreeHost(memory);
#endif
}

Status copy(void* to, const void* from, size_t bytes, CopyKind kind, DeviceStream stream) {
  if (bytes == 0) return {};
  const auto direction = kind == CopyKind::to_device ? KVASS_RUNTIME(MemcpyHostToDevice)
                         : kind == CopyKind::to_host ? KVASS_RUNTIME(MemcpyDeviceToHost)
                                                     : KVASS_RUNTIME(MemcpyDeviceToDevice);
  return status_of(KVASS_RUNTIME(MemcpyAsync)(to, from, bytes, direction, of(stream)), "a copy");
}

Status fill(void* to, uint8_t byte, size_t bytes, DeviceStream stream) {
  if (bytes == 0) return {};
  return status_of(KVASS_RUNTIME(MemsetAsync)(to, byte, bytes, of(stream)), "filling memory");
}

Status upload(void* to, const void* from, size_t bytes, DeviceStream stream) {
  for (size_t at = 0; at < bytes; at += kUploadBytes) {
    UploadParams params;
    params.to = static_cast<uint8_t*>(to) + at;
    const size_t count = std::min(kUploadBytes, bytes - at);
    params.bytes = static_cast<int64_t>(count);
    std::memcpy(params.data, static_cast<const uint8_t*>(from) + at, count);
    KVASS_RETURN_IF_ERROR(launch(&upload_kernel, "upload", {}, 128, 0, stream, params));
  }
  return {};
}

Result<DeviceStream> create_stream() {
  KVASS_RUNTIME(Stream_t) stream = nullptr;
  KVASS_RETURN_IF_ERROR(
      status_of(KVASS_RUNTIME(StreamCreateWithFlags)(&stream, KVASS_RUNTIME(StreamNonBlocking)), "a stream"));
  return DeviceStream(stream);
}
void destroy_stream(DeviceStream stream) { (void)KVASS_RUNTIME(StreamDestroy)(of(stream)); }
Status synchronise(DeviceStream stream) {
  return status_of(KVASS_RUNTIME(StreamSynchronize)(of(stream)), "waiting for the device");
}
Result<bool> capturing(DeviceStream stream) {
  KVASS_RUNTIME(StreamCaptureStatus) state = KVASS_RUNTIME(StreamCaptureStatusNone);
  if (stream == nullptr) return false;  // the default stream is never captured
  KVASS_RETURN_IF_ERROR(status_of(KVASS_RUNTIME(StreamIsCapturing)(of(stream), &state), "a stream's capture"));
  return state != KVASS_RUNTIME(StreamCaptureStatusNone);
}

Result<DeviceEvent> create_event() {
  KVASS_RUNTIME(Event_t) event = nullptr;
  KVASS_RETURN_IF_ERROR(status_of(KVASS_RUNTIME(EventCreate)(&event), "an event"));
  return DeviceEvent(event);
}
void destroy_event(DeviceEvent event) { (void)KVASS_RUNTIME(EventDestroy)(of_event(event)); }
Status record(DeviceEvent event, DeviceStream stream) {
  return status_of(KVASS_RUNTIME(EventRecord)(of_event(event), of(stream)), "recording an event");
}
Status wait(DeviceStream stream, DeviceEvent event) {
  return status_of(KVASS_RUNTIME(StreamWaitEvent)(of(stream), of_event(event), 0), "waiting for an event");
}
Result<double> seconds(DeviceEvent begin, DeviceEvent end) {
  KVASS_RETURN_IF_ERROR(status_of(KVASS_RUNTIME(EventSynchronize)(of_event(end)), "waiting for an event"));
  float milliseconds = 0.0f;
  KVASS_RETURN_IF_ERROR(
      status_of(KVASS_RUNTIME(EventElapsedTime)(&milliseconds, of_event(begin), of_event(end)), "time between events"));
  return milliseconds * 1e-3;
}

}  // namespace

// For the host only: hipcc would also put this constant on the device, where these functions do not exist.
#if !defined(__HIP_DEVICE_COMPILE__)
constinit const DeviceRuntime device_runtime = {
#if defined(__HIPCC__)
    .device = Device::rocm,
    .name = "rocm",
#else
    .device = Device::cuda,
    .name = "cuda",
#endif
    .available = &available,
    .properties = &properties,
    .allocate = &allocate,
    .release = &release,
    .allocate_host = &allocate_host,
    .release_host = &release_host,
    .copy = &copy,
    .fill = &fill,
    .upload = &upload,
    .create_stream = &create_stream,
    .destroy_stream = &destroy_stream,
    .synchronise = &synchronise,
    .capturing = &capturing,
    .create_event = &create_event,
    .destroy_event = &destroy_event,
    .record = &record,
    .wait = &wait,
    .seconds = &seconds,
};
#endif

}  // namespace kvass::KVASS_DEVICE

#endif
