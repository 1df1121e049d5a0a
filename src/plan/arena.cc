#include "plan/arena.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <map>
#include <string>

#include "program/op_spec.h"

namespace kvass {
namespace {

constexpr size_t kMaxArena = size_t{1} << 46;  // larger than any machine: the limits must be wrong

struct Buffer {
  size_t bytes = 0;
  int32_t first = 0;  // op that writes it
  int32_t last = 0;   // last op that reads it
  size_t offset = 0;

  bool meets(const Buffer& other) const { return first <= other.last && other.first <= last; }
};

size_t aligned(size_t bytes) { return (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment; }

// When each value lives, in op indices, and which values must share bytes.
struct Lifetimes {
  std::vector<int32_t> scope;      // [ops] the branch that contains the op; kNone: no branch
  std::vector<int32_t> written;    // [values] the op that writes it
  std::vector<int32_t> last_read;  // [values] the last op that reads it, or the number of ops: after the last
  std::vector<ValueId> result_of;  // [values] of a branch's result: the cond's output at the same place; else kNone
};

// Fills scope and result_of for ops [begin, end), which belong to `scope`.
void walk(const Program& program, int32_t begin, int32_t end, int32_t scope, Lifetimes& live) {
  for (int32_t i = begin; i < end; ++i) {
    const Op& op = program.ops[static_cast<size_t>(i)];
    live.scope[static_cast<size_t>(i)] = scope;
    for (BranchId id : op.branches) {
      const Branch& branch = program.branches[static_cast<size_t>(id)];
      for (size_t r = 0; r < branch.results.size(); ++r) {
        live.result_of[static_cast<size_t>(branch.results[r])] = op.outputs[r];
      }
      walk(program, branch.begin, branch.end, id, live);
      i = branch.end - 1;
    }
  }
}

Lifetimes lifetimes(const Program& program) {
  const int32_t end = static_cast<int32_t>(program.ops.size());
  Lifetimes live{std::vector<int32_t>(program.ops.size(), kNone), std::vector<int32_t>(program.values.size(), 0),
                 std::vector<int32_t>(program.values.size(), 0), std::vector<ValueId>(program.values.size(), kNone)};
  std::vector<int32_t> parent(program.branches.size(), kNone);  // the branch that contains the branch
  std::vector<int32_t> cond_end(program.branches.size(), 0);    // one past the last op of the branch's cond
  std::vector<const Part*> written_in(program.values.size(), nullptr);
  for (const Part& part : program.parts) {
    walk(program, part.begin, part.end, kNone, live);
    for (int32_t i = part.begin; i < part.end; ++i) {
      const Op& op = program.ops[static_cast<size_t>(i)];
      for (BranchId id : op.branches) {
        parent[static_cast<size_t>(id)] = live.scope[static_cast<size_t>(i)];
        cond_end[static_cast<size_t>(id)] = program.branches[static_cast<size_t>(op.branches.back())].end;
      }
      for (ValueId id : op.outputs) {
        written_in[static_cast<size_t>(id)] = &part;
        live.written[static_cast<size_t>(id)] = i;
      }
      for (ValueId id : op.inputs) {
        const size_t v = static_cast<size_t>(id);
        // A part may run several times on a value that another part wrote: such a value lives to the end. A branch
        // may run several times on a value from before its cond: such a value lives to the end of the cond (below).
        int32_t last = written_in[v] == &part ? i : end;
        if (!op.branches.empty()) {  // the condition is read again for each sequence
          last = std::max(last, program.branches[static_cast<size_t>(op.branches.back())].end);
        }
        const int32_t home = live.scope[static_cast<size_t>(live.written[v])];
        for (int32_t scope = live.scope[static_cast<size_t>(i)]; scope != home && scope != kNone;
             scope = parent[static_cast<size_t>(scope)]) {
          last = std::max(last, cond_end[static_cast<size_t>(scope)]);
        }
        live.last_read[v] = std::max(live.last_read[v], last);
      }
    }
  }
  // The caller reads the results after the last op. If it wants logits and argmax, it runs `greedy` first, so that the
  // logits may lie where `greedy` works.
  const ValueId argmax = program.argmax();
  live.last_read[static_cast<size_t>(program.hidden)] = end;
  if (argmax == kNone) {
    live.last_read[static_cast<size_t>(program.logits)] = end;
  } else {
    int32_t& last = live.last_read[static_cast<size_t>(program.logits)];
    last = std::max(last, program.find_part("greedy")->begin - 1);
    live.last_read[static_cast<size_t>(argmax)] = end;
  }
  for (size_t v = 0; v < live.written.size(); ++v) live.last_read[v] = std::max(live.last_read[v], live.written[v]);
  return live;
}

// The buffers of all values. An in-place output shares the buffer of its first input; a branch's result shares that of
// the cond's output. `buffer_of` maps values to buffers.
std::vector<Buffer> buffers_of(const Program& program, const RowLimits& rows, std::vector<size_t>& buffer_of) {
  const Lifetimes live = lifetimes(program);
  std::vector<Buffer> buffers;
  buffer_of.assign(program.values.size(), 0);
  for (size_t i = 0; i < program.ops.size(); ++i) {
    const Op& op = program.ops[i];
    for (ValueId id : op.outputs) {
      const size_t v = static_cast<size_t>(id);
      const Value& value = program.values[v];
      if (live.result_of[v] != kNone) {  // the cond comes earlier in the ops
        buffer_of[v] = buffer_of[static_cast<size_t>(live.result_of[v])];
        Buffer& buffer = buffers[buffer_of[v]];
        buffer.last = std::max(buffer.last, live.last_read[v]);
        continue;
      }
      if (op_spec(op.kind).in_place) {
        const size_t input = static_cast<size_t>(op.inputs[0]);
        const bool same_branch = live.scope[static_cast<size_t>(live.written[input])] == live.scope[i];
        if (live.last_read[input] == static_cast<int32_t>(i) && same_branch && live.result_of[input] == kNone &&
            program.values[input].view == View::none) {
          buffer_of[v] = buffer_of[input];
          buffers[buffer_of[v]].last = live.last_read[v];
          continue;
        }
      }
      size_t bytes = 0;
      if (value.view == View::none) {
        bytes = aligned(static_cast<size_t>(rows.of(program, value.extent) * value.width) * sizeof(float));
      }
      int32_t last = live.last_read[v];
      if (!op.branches.empty()) {  // the branches write it
        last = std::max(last, program.branches[static_cast<size_t>(op.branches.back())].end);
      }
      buffer_of[v] = buffers.size();
      buffers.push_back({bytes, static_cast<int32_t>(i), last, 0});
    }
  }
  return buffers;
}

// Places the buffers greedily in the given order: each at the lowest offset that is free over its whole lifetime.
// Returns the size of the arena in bytes.
size_t place_in_order(std::span<Buffer* const> order) {
  std::vector<const Buffer*> placed;  // by offset
  size_t end = 0;
  for (Buffer* buffer : order) {
    size_t offset = 0;
    for (const Buffer* other : placed) {
      if (!other->meets(*buffer)) continue;
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

// No order is best for every program. Tries four and keeps the best: by bytes, by bytes times lifetime, by lifetime
// (largest first), and in program order.
size_t place(std::vector<Buffer>& buffers) {
  const auto life = [](const Buffer* b) { return static_cast<size_t>(b->last - b->first + 1); };
  const std::function<bool(const Buffer*, const Buffer*)> orders[] = {
      [](const Buffer* a, const Buffer* b) { return a->bytes > b->bytes; },
      [&](const Buffer* a, const Buffer* b) { return a->bytes * life(a) > b->bytes * life(b); },
      [&](const Buffer* a, const Buffer* b) { return life(a) > life(b); },
      [](const Buffer* a, const Buffer* b) { return a->first < b->first; },
  };
  size_t best = 0;
  std::vector<size_t> offsets;
  for (const auto& before : orders) {
    std::vector<Buffer*> order;
    for (Buffer& buffer : buffers) {
      if (buffer.bytes != 0) order.push_back(&buffer);
    }
    std::stable_sort(order.begin(), order.end(), before);
    const size_t bytes = place_in_order(order);
    if (!offsets.empty() && bytes >= best) continue;
    best = bytes;
    offsets.clear();
    for (const Buffer& buffer : buffers) offsets.push_back(buffer.offset);
  }
  for (size_t i = 0; i < buffers.size(); ++i) buffers[i].offset = offsets[i];
  return best;
}

std::vector<Buffer> all_buffers(const Program& program, const RowLimits& rows, std::span<const size_t> workspace_bytes,
                                std::vector<size_t>& buffer_of) {
  std::vector<Buffer> buffers = buffers_of(program, rows, buffer_of);
  for (size_t i = 0; i < program.ops.size(); ++i) {
    buffers.push_back({aligned(workspace_bytes[i]), static_cast<int32_t>(i), static_cast<int32_t>(i), 0});
  }
  return buffers;
}

// The largest number of bytes live at one op.
size_t most_live(const Program& program, const std::vector<Buffer>& buffers) {
  std::vector<size_t> begins(program.ops.size() + 2, 0), ends(program.ops.size() + 2, 0);
  for (const Buffer& buffer : buffers) {
    begins[static_cast<size_t>(buffer.first)] += buffer.bytes;
    ends[static_cast<size_t>(buffer.last) + 1] += buffer.bytes;
  }
  size_t most = 0;
  size_t live = 0;
  for (size_t op = 0; op < program.ops.size(); ++op) {
    live += begins[op];
    live -= ends[op];
    most = std::max(most, live);
  }
  return most;
}

void measure(const Program& program, const std::vector<Buffer>& buffers, ArenaPlan& plan) {
  plan.sum_bytes = 0;
  for (const Buffer& buffer : buffers) plan.sum_bytes += buffer.bytes;
  plan.bound_bytes = most_live(program, buffers);
}

// Checks that buffers that live at the same time do not overlap. Goes through the ops in order, keeps the live buffers
// sorted by offset, and compares each new buffer with its neighbours.
Status check_apart(const std::vector<Buffer>& buffers) {
  std::vector<const Buffer*> begins, ends;
  for (const Buffer& buffer : buffers) {
    if (buffer.bytes != 0) begins.push_back(&buffer);
  }
  ends = begins;
  std::sort(begins.begin(), begins.end(), [](const Buffer* a, const Buffer* b) { return a->first < b->first; });
  std::sort(ends.begin(), ends.end(), [](const Buffer* a, const Buffer* b) { return a->last < b->last; });
  std::map<size_t, const Buffer*> live;  // by offset
  size_t ended = 0;
  for (const Buffer* buffer : begins) {
    for (; ended < ends.size() && ends[ended]->last < buffer->first; ++ended) live.erase(ends[ended]->offset);
    const auto [at, fresh] = live.emplace(buffer->offset, buffer);
    const auto next = std::next(at);
    const Buffer* other = nullptr;
    if (!fresh) {
      other = at->second;
    } else if (next != live.end() && next->first < buffer->offset + buffer->bytes) {
      other = next->second;
    } else if (at != live.begin() && std::prev(at)->first + std::prev(at)->second->bytes > buffer->offset) {
      other = std::prev(at)->second;
    }
    if (other == nullptr) continue;
    return bad_input("arena", "bytes of its own for everything that lives at one time",
                     "two that meet at byte " + std::to_string(std::max(buffer->offset, other->offset)) + ", of op " +
                         std::to_string(other->first) + " and op " + std::to_string(buffer->first));
  }
  return {};
}

Status check_limits(const Program& program, const RowLimits& rows) {
  const int64_t least = std::min({rows.chunk, rows.head, rows.sequences});
  if (least < 1) return bad_input("planned rows", "at least 1", std::to_string(least));
  for (const Value& value : program.values) {
    const int64_t most = rows.of(program, value.extent);
    if (value.width < 1 || most < 0 || most > static_cast<int64_t>(kMaxArena) / 4 / value.width) {
      return bad_input("planned rows", "values below 64 TiB",
                       std::to_string(most) + " rows of " + std::to_string(value.width));
    }
  }
  return {};
}

}  // namespace

int64_t RowLimits::of(const Program& program, Extent extent) const {
  switch (extent) {
    case Extent::chunk:
      return chunk;
    case Extent::head:
      return head;
    case Extent::frames:
      return program.source.frames;
    case Extent::source:
      return program.source.rows;
    case Extent::sequence:
      return sequences;
  }
  return 0;
}

Result<ArenaPlan> plan_arena(const Program& program, const RowLimits& rows, std::span<const size_t> workspace_bytes) {
  KVASS_RETURN_IF_ERROR(check_limits(program, rows));
  std::vector<size_t> buffer_of;
  std::vector<Buffer> buffers = all_buffers(program, rows, workspace_bytes, buffer_of);
  const size_t first_workspace = buffers.size() - program.ops.size();
  ArenaPlan plan;
  plan.bytes = place(buffers);
  measure(program, buffers, plan);
  for (size_t v : buffer_of) plan.values.push_back(buffers[v].offset);
  for (size_t i = first_workspace; i < buffers.size(); ++i) plan.workspace.push_back(buffers[i].offset);
  return plan;
}

Status measure_arena(const Program& program, const RowLimits& rows, std::span<const size_t> workspace_bytes,
                     ArenaPlan& plan) {
  KVASS_RETURN_IF_ERROR(check_limits(program, rows));
  std::vector<size_t> buffer_of;
  measure(program, all_buffers(program, rows, workspace_bytes, buffer_of), plan);
  return {};
}

Status check_arena(const Program& program, const RowLimits& rows, std::span<const size_t> workspace_bytes,
                   const ArenaPlan& plan) {
  KVASS_RETURN_IF_ERROR(check_limits(program, rows));
  if (plan.values.size() != program.values.size() || plan.workspace.size() != program.ops.size()) {
    return bad_input("arena",
                     std::to_string(program.values.size()) + " values, " + std::to_string(program.ops.size()) + " ops",
                     std::to_string(plan.values.size()) + ", " + std::to_string(plan.workspace.size()));
  }
  std::vector<size_t> buffer_of;
  std::vector<Buffer> buffers = all_buffers(program, rows, workspace_bytes, buffer_of);
  // All values of one buffer must have the same offset: that of the first.
  std::vector<bool> placed(buffers.size(), false);
  const auto put = [&](size_t buffer, size_t offset, const std::string& name) -> Status {
    if (buffers[buffer].bytes == 0) return {};
    if (offset % kArenaAlignment != 0 || offset > plan.bytes || buffers[buffer].bytes > plan.bytes - offset) {
      return bad_input("arena: place of '" + name + "'",
                       std::to_string(buffers[buffer].bytes) + " aligned bytes inside " + std::to_string(plan.bytes),
                       "offset " + std::to_string(offset));
    }
    if (placed[buffer] && buffers[buffer].offset != offset) {
      return bad_input("arena: place of '" + name + "'",
                       std::to_string(buffers[buffer].offset) + ", where it is made in place", std::to_string(offset));
    }
    placed[buffer] = true;
    buffers[buffer].offset = offset;
    return {};
  };
  std::vector<bool> written(program.values.size(), false);
  for (const Op& op : program.ops) {
    for (ValueId id : op.outputs) written[static_cast<size_t>(id)] = true;
  }
  for (size_t v = 0; v < buffer_of.size(); ++v) {
    if (written[v]) KVASS_RETURN_IF_ERROR(put(buffer_of[v], plan.values[v], program.values[v].name));
  }
  const size_t first_workspace = buffers.size() - program.ops.size();
  for (size_t i = 0; i < program.ops.size(); ++i) {
    KVASS_RETURN_IF_ERROR(put(first_workspace + i, plan.workspace[i], "workspace of " + program.ops[i].name));
  }
  return check_apart(buffers);
}

}  // namespace kvass
