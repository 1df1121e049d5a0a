// A step's tables on a device: what Frame holds, packed as tightly as the step needs and brought over in one copy,
// and for each layer where in its sequences' caches the rows are written and read. All memory is mapped when a session
// is created.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "device/runtime.h"
#include "exec/frame.h"
#include "kernels/attention/device.h"
#include "ops/cache_write/cache_write.h"

namespace kvass {

class DeviceTables {
 public:
  // Of one cache state, in the device's memory. Rows are those of the step.
  struct Layer {
    const float* cos = nullptr;  // [rows][head_dim / 2]; null: no rotary embedding
    const float* sin = nullptr;
    const float* sink_cos = nullptr;  // null: as cos and sin
    const float* sink_sin = nullptr;
    const RowVisibility* visible = nullptr;              // [rows]
    const CacheWriteRun* write_runs = nullptr;           // [runs]
    const DeviceAttentionRun* attention_runs = nullptr;  // [runs]
    // The most spans that the rows of a run see between them, of sink keys and of others.
    int64_t sink_spans = 0;
    int64_t body_spans = 0;
  };

  // Bytes of the device's memory, and as many of this machine's.
  static size_t bytes(const Program& program, const RowLimits& limits);
  static Result<DeviceTables> create(const DeviceRuntime& runtime, const Program& program, const RowLimits& limits);
  DeviceTables(DeviceTables&& other) noexcept;
  DeviceTables& operator=(DeviceTables&&) = delete;
  ~DeviceTables();

  // Brings the tables of a step over. What was brought before has been used.
  Status begin(const Program& program, Frame& frame, DeviceStream stream);
  Status select(const Frame& frame, DeviceStream stream);

  const int32_t* tokens() const { return tokens_; }      // [rows]
  const int32_t* run_of() const { return run_of_; }      // [rows] -> runs
  const int32_t* selected() const { return selected_; }  // [head rows]
  int64_t rows() const { return rows_; }
  int64_t runs() const { return runs_; }
  int64_t most_rows() const { return most_rows_; }  // of a run
  const Layer& layer(StateId state) const { return layers_[static_cast<size_t>(state)]; }

 private:
  DeviceTables() = default;
  template <class T>
  T* take(int64_t count, T** there);  // here, to be filled in; `there`: where it comes to lie
  template <class T>
  const T* put(const T* from, int64_t count);
  void put_attention(const Program& program, Frame& frame, StateId id);
  Status upload(size_t begin, DeviceStream stream);

  const DeviceRuntime* runtime_ = nullptr;
  DeviceBlock there_;
  uint8_t* here_ = nullptr;  // pinned
  size_t bytes_ = 0;
  size_t used_ = 0;
  size_t step_end_ = 0;  // `selected` follows
  const int32_t* tokens_ = nullptr;
  const int32_t* run_of_ = nullptr;
  const int32_t* selected_ = nullptr;
  int64_t rows_ = 0;
  int64_t runs_ = 0;
  int64_t most_rows_ = 0;
  std::vector<Layer> layers_;  // [states]
};

}  // namespace kvass
