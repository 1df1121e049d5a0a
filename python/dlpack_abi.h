// The structs of the DLPack specification (version 1, with the exchange table of 1.3) that the binding reads: what a
// framework's tensor is in memory, and the functions that a tensor type offers under `__dlpack_c_exchange_api__`, by
// which a call sees a tensor without an intermediate object. Names and order are the specification's ABI.
#pragma once

#include <cstdint>

namespace kvass::python {

struct DlDevice {
  int32_t device_type;
  int32_t device_id;
};

struct DlDataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};
inline constexpr uint8_t kDlInt = 0, kDlUint = 1, kDlFloat = 2, kDlBfloat = 4, kDlComplex = 5, kDlBool = 6;

struct DlTensor {
  void* data;
  DlDevice device;
  int32_t ndim;
  DlDataType dtype;
  int64_t* shape;    // [ndim]
  int64_t* strides;  // [ndim] elements; null: row-major
  uint64_t byte_offset;
};

struct DlVersion {
  uint32_t major;
  uint32_t minor;
};

struct DlManagedTensor {
  DlVersion version;
  void* context;
  void (*deleter)(DlManagedTensor*);
  uint64_t flags;
  DlTensor tensor;
};

using DlSetError = void (*)(void* context, const char* kind, const char* message);

// Functions return 0, or something else with a Python exception set (the allocator: after it has called `set_error`).
struct DlExchange {
  DlVersion version;
  DlExchange* older;
  int (*allocate)(DlTensor* prototype, DlManagedTensor** out, void* context, DlSetError set_error);
  int (*managed_from_object)(void* object, DlManagedTensor** out);
  int (*object_from_managed)(DlManagedTensor* tensor, void** object);  // takes the tensor over
  int (*view_of_object)(void* object, DlTensor* out);                  // null where there is none
  int (*work_stream)(int32_t device_type, int32_t device_id, void** stream);
};

}  // namespace kvass::python
