#include "app/doctor.h"

#include <algorithm>

#include "app/text.h"
#include "base/cpu.h"

namespace kvass {
namespace {

constexpr int kReads = 5;

// Nothing: not known.
std::optional<size_t> free_bytes(const platform::MemoryInfo& memory) {
  if (memory.bytes == 0) return memory.limit == 0 ? std::nullopt : std::optional(memory.limit);
  return memory.limit == 0 ? memory.available : std::min(memory.available, memory.limit);
}

// Reads and multiply-adds, where there is memory for it; otherwise a note.
Status measure(MachineReport& report) {
  Result<MachineProbe> probe = MachineProbe::create(report.cpus);
  if (!probe.ok()) {
    report.notes.push_back("Nothing was measured. " + probe.status().message() + ".");
    return {};
  }
  for (const Math math : {Math::f32, Math::a16, Math::a8}) {
    MathSpeed speed{math};
    for (int i = 0; i < (math == Math::f32 ? kReads : 1); ++i) {
      KVASS_ASSIGN_OR_RETURN(const MachineLimits limits, probe->measure(math));
      report.reads.push_back(limits.read_bytes);
      speed.multiply_adds = std::max(speed.multiply_adds, limits.multiply_adds);
    }
    report.speeds.push_back(speed);
  }
  if (probe->buffer_bytes() < 2 * report.cache_bytes) {
    report.notes.push_back("Reads were measured in a buffer of " + human_bytes(probe->buffer_bytes()) +
                           ", for want of memory: the caches may have made them faster.");
  }
  return {};
}

void add_notes(MachineReport& report) {
  const auto note = [&](std::string text) { report.notes.push_back(std::move(text)); };
  if (report.isa == isa_name(Isa::scalar)) {
    note("No vector instruction set is used: everything works, many times slower.");
  } else if (!report.isas.empty() && report.isa != report.isas.back()) {
    note("KVASS_ISA forces the instruction set " + report.isa + "; this machine has " + report.isas.back() + ".");
  }
  if (report.memory.huge_pages.find("[never]") != std::string::npos) {
    note("Huge pages are off (/sys/kernel/mm/transparent_hugepage/enabled): weights in huge pages get small ones.");
  }
  if (report.memory.limit != 0) note("Memory is limited below what the machine has (a container, or ulimit -v).");
  const auto [low, high] = std::minmax_element(report.reads.begin(), report.reads.end());
  if (report.memory.bytes == 0) note("How much memory there is cannot be read (/proc/meminfo).");
  if (low != high && *high > 1.25 * *low) {
    note("The read speed changes while it is measured: other work, or a shared machine. Speeds will vary as well.");
  }
}

}  // namespace

Result<MachineReport> examine_machine() {
  MachineReport report;
  report.system = platform::system_name();
  report.cpu = platform::cpu_name();
#if defined(__clang__)
  report.compiler = "Clang " __clang_version__;
#else
  report.compiler = "GCC " __VERSION__;
#endif
  report.cpus = usable_cpus();
  KVASS_ASSIGN_OR_RETURN(const Isa isa, default_isa());
  report.isa = isa_name(isa);
  report.isas = available_isas();
  report.memory = platform::memory_info();
  report.cache_bytes = platform::last_level_cache_bytes();
  KVASS_RETURN_IF_ERROR(measure(report));
  report.backends = list_backends();
  add_notes(report);
  return report;
}

Result<ModelReport> examine_model(const std::string& path, const platform::MemoryInfo& memory) {
  KVASS_ASSIGN_OR_RETURN(const ModelFile file, ModelFile::open(path));
  KVASS_ASSIGN_OR_RETURN(const PlannedModel model, PlannedModel::of(file));
  ModelReport report{file.path(), file.format(), file.family(), file.stream_options(), {}, {}, {}};
  KVASS_ASSIGN_OR_RETURN(report.plan, model.plan(report.options, /*head_rows=*/1));
  const std::optional<size_t> room = free_bytes(memory);
  if (!room) return report;
  report.fits = report.plan.total_bytes() <= *room;
  KVASS_ASSIGN_OR_RETURN(report.largest_context, model.largest_context(report.options, /*head_rows=*/1, *room));
  return report;
}

}  // namespace kvass
