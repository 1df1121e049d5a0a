#include "app/doctor.h"

#include <algorithm>


namespace kvass {
namespace {

constexpr int kReads = 5;

size_t free_bytes(const platform::MemoryInfo& memory) {
  return memory.limit == 0 ? memory.available : std::min(memory.available, memory.limit);
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
  KVASS_ASSIGN_OR_RETURN(MachineProbe probe, MachineProbe::create(report.cpus));
  for (const Math math : {Math::f32, Math::a16, Math::a8}) {
    MathSpeed speed{math};
    for (int i = 0; i < kReads; ++i) {
      const MachineLimits limits = probe.measure(math);
      report.reads.push_back(limits.read_bytes);
      speed.multiply_adds = std::max(speed.multiply_adds, limits.multiply_adds);
    }
    report.speeds.push_back(speed);
  }
  report.backends = list_backends();
  add_notes(report);
  return report;
}

Result<ModelReport> examine_model(const std::string& path, const platform::MemoryInfo& memory) {
  KVASS_ASSIGN_OR_RETURN(const ModelFile file, ModelFile::open(path));
  KVASS_ASSIGN_OR_RETURN(const PlannedModel model, PlannedModel::of(file));
  ModelReport report{file.path(), file.format(), file.family(), file.stream_options(), {}, false, 0};
  KVASS_ASSIGN_OR_RETURN(report.plan, model.plan(report.options, /*head_rows=*/1));
  const size_t room = free_bytes(memory);
  report.fits = report.plan.total_bytes() <= room;
  KVASS_ASSIGN_OR_RETURN(report.largest_context, model.largest_context(report.options, /*head_rows=*/1, room));
  return report;
}

}  // namespace kvass
