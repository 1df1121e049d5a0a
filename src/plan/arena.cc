#include "plan/arena.h"

#include <algorithm>
#include <string>

namespace kvass {
namespace {

constexpr size_t kMaxArena = size_t{1} << 46;  // beyond any machine: a plan of this size is a mistake in the limits

struct Buffer {
  size_t bytes = 0;
  int32_t first = 0;  // op that writes it
  int32_t last = 0;   // last op that reads it
  size_t offset = 0;
};

size_t aligned(size_t bytes) { return (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment; }

bool works_in_place(OpKind kind) {
  return kind == OpKind::rms_norm || kind == OpKind::add || kind == OpKind::bias || kind == OpKind::gelu_gate ||
         kind == OpKind::silu_gate || kind == OpKind::softcap;
}

// Lifetimes; an in-place output joins the buffer of its first input. `buffer_of` maps values to buffers.
std::vector<Buffer> lifetimes(const Program& program, int64_t rows, int64_t head_rows, std::vector<size_t>& buffer_of) {
  std::vector<int32_t> last_read(program.values.size(), 0);
  std::vector<const Method*> written_in(program.values.size(), nullptr);
  const int32_t end = static_cast<int32_t>(program.ops.size());
  for (const Method& method : program.methods) {
    for (int32_t i = method.begin; i < method.end; ++i) {
      const Op& op = program.ops[static_cast<size_t>(i)];
      for (ValueId id : op.outputs) written_in[static_cast<size_t>(id)] = &method;
      for (ValueId id : op.inputs) {
        // A method may run again on what another one left: such a value is never written over.
        const bool own = written_in[static_cast<size_t>(id)] == &method;
        last_read[static_cast<size_t>(id)] = std::max(last_read[static_cast<size_t>(id)], own ? i : end);
      }
    }
  }
  // Results are read after the last op, by whoever runs the program.
  for (ValueId id : {program.hidden, program.logits}) last_read[static_cast<size_t>(id)] = end;
  std::vector<Buffer> buffers;
  buffer_of.assign(program.values.size(), 0);
  for (size_t i = 0; i < program.ops.size(); ++i) {
    const Op& op = program.ops[i];
    for (ValueId id : op.outputs) {
      const size_t v = static_cast<size_t>(id);
      const int32_t last = std::max(last_read[v], static_cast<int32_t>(i));
      if (works_in_place(op.kind)) {
        const size_t input = static_cast<size_t>(op.inputs[0]);
        if (last_read[input] == static_cast<int32_t>(i)) {
          buffer_of[v] = buffer_of[input];
          buffers[buffer_of[v]].last = last;
          continue;
        }
      }
      const Value& value = program.values[v];
      const int64_t extent = value.extent == Extent::chunk ? rows : head_rows;
      buffer_of[v] = buffers.size();
      buffers.push_back(
          {aligned(static_cast<size_t>(extent * value.width) * sizeof(float)), static_cast<int32_t>(i), last, 0});
    }
  }
  return buffers;
}

// Greedy by size: the largest first, each at the lowest offset that is free over its whole lifetime.
size_t place(std::vector<Buffer>& buffers) {
  std::vector<Buffer*> order;
  for (Buffer& buffer : buffers) order.push_back(&buffer);
  std::stable_sort(order.begin(), order.end(), [](const Buffer* a, const Buffer* b) { return a->bytes > b->bytes; });
  std::vector<const Buffer*> placed;  // by offset
  size_t end = 0;
  for (Buffer* buffer : order) {
    size_t offset = 0;
    for (const Buffer* other : placed) {
      if (other->last < buffer->first || buffer->last < other->first) continue;
      if (offset + buffer->bytes <= other->offset) break;
      offset = std::max(offset, other->offset + other->bytes);
    }
    buffer->offset = offset;
    end = std::max(end, offset + buffer->bytes);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), buffer,
                                   [](const Buffer* a, const Buffer* b) { return a->offset < b->offset; }),
                  buffer);
  }
  return end;
}

}  // namespace

Result<ArenaPlan> plan_arena(const Program& program, int64_t rows, int64_t head_rows,
                             std::span<const size_t> workspace_bytes) {
  if (rows < 1 || head_rows < 1)
    return bad_input("planned rows", "at least 1", std::to_string(std::min(rows, head_rows)));
  for (const Value& value : program.values) {
    const int64_t most = std::max(rows, head_rows);
    if (value.width < 1 || most > static_cast<int64_t>(kMaxArena) / 4 / value.width) {
      return bad_input("planned rows", "values below 64 TiB",
                       std::to_string(most) + " rows of " + std::to_string(value.width));
    }
  }
  std::vector<size_t> buffer_of;
  std::vector<Buffer> buffers = lifetimes(program, rows, head_rows, buffer_of);
  const size_t first_workspace = buffers.size();
  for (size_t i = 0; i < program.ops.size(); ++i) {
    buffers.push_back({aligned(workspace_bytes[i]), static_cast<int32_t>(i), static_cast<int32_t>(i), 0});
  }
  ArenaPlan plan;
  plan.bytes = place(buffers);
  for (const Buffer& buffer : buffers) plan.sum_bytes += buffer.bytes;
  for (int32_t op = 0; op < static_cast<int32_t>(program.ops.size()); ++op) {
    size_t live = 0;
    for (const Buffer& buffer : buffers) {
      if (buffer.first <= op && op <= buffer.last) live += buffer.bytes;
    }
    plan.bound_bytes = std::max(plan.bound_bytes, live);
  }
  for (size_t v : buffer_of) plan.values.push_back(buffers[v].offset);
  for (size_t i = first_workspace; i < buffers.size(); ++i) plan.workspace.push_back(buffers[i].offset);
  return plan;
}

}  // namespace kvass
