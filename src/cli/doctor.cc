// kvass doctor: what kvass finds on this machine, and what models would take here.
#include "app/doctor.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "kvass/version.h"

namespace kvass {
namespace {

struct DoctorFlags {
  std::vector<std::string> models;
  bool json = false;
};

// A device of the build, by its first backend; the others say the same of it.
std::vector<Backend> devices(const std::vector<Backend>& backends) {
  std::vector<Backend> found;
  for (const Backend& backend : backends) {
    const auto same = [&](const Backend& other) { return other.device == backend.device; };
    if (backend.device != Device::cpu && std::none_of(found.begin(), found.end(), same)) found.push_back(backend);
  }
  return found;
}

void print_machine(const MachineReport& report) {
  const auto line = [](const char* name, const std::string& value) {
    print("{:<14} {}\n", name, value.empty() ? "not known" : value);
  };
  line("kvass", fmt::format("{}, numerics {}, built by {}", KVASS_VERSION, kNumericsVersion, report.compiler));
  line("system", report.system);
  line("cpu", fmt::format("{}, {} usable, last-level cache {}", report.cpu, report.cpus,
                          report.cache_bytes == 0 ? "not known" : human_bytes(report.cache_bytes)));
  line("instructions", fmt::format("{} (available: {})", report.isa, fmt::join(report.isas, ", ")));
  line("memory",
       fmt::format("{}, {} available{}", human_bytes(report.memory.bytes), human_bytes(report.memory.available),
                   report.memory.limit == 0 ? "" : ", limited to " + human_bytes(report.memory.limit)));
  line("huge pages", report.memory.huge_pages);
  std::vector<double> reads = report.reads;
  std::sort(reads.begin(), reads.end());
  line("memory reads", fmt::format("{:.1f} GB/s ({:.1f} to {:.1f} in {} samples)", reads[reads.size() / 2] * 1e-9,
                                   reads.front() * 1e-9, reads.back() * 1e-9, reads.size()));
  std::string speeds;
  for (const MathSpeed& speed : report.speeds) {
    speeds += fmt::format("{}{} {:.0f}", speeds.empty() ? "" : ", ", math_name(speed.math), speed.multiply_adds * 1e-9);
  }
  line("multiply-adds", speeds + " G/s");
  for (const Backend& device : devices(report.backends)) {
    line(std::string(device_name(device.device)).c_str(), device.available ? "available" : "no: " + device.reason);
  }
  for (const std::string& note : report.notes) line("note", note);
}

void print_model(const ModelReport& report) {
  print("\n{}: {}, {}\n", report.path, report.format, report.family);
  print("  {}", plan_line(report.plan));
  if (report.fits) {
    print("  fits into the memory that is available");
  } else {
    print("  does NOT fit into the memory that is available");
  }
  print("; the largest context that does: {}\n",
        report.largest_context == 0 ? "none" : fmt::format("{} tokens", report.largest_context));
}

nlohmann::json report_json(const MachineReport& report, const std::vector<ModelReport>& models) {
  nlohmann::json speeds = nlohmann::json::object(), devices_json = nlohmann::json::array(),
                 models_json = nlohmann::json::array();
  for (const MathSpeed& speed : report.speeds) speeds[std::string(math_name(speed.math))] = speed.multiply_adds;
  for (const Backend& device : devices(report.backends)) {
    devices_json.push_back(
        {{"device", device_name(device.device)}, {"available", device.available}, {"reason", device.reason}});
  }
  for (const ModelReport& model : models) {
    models_json.push_back({{"path", model.path},
                           {"format", model.format},
                           {"family", model.family},
                           {"weight_bytes", model.plan.weight_bytes},
                           {"cache_bytes", model.plan.cache_bytes()},
                           {"arena_bytes", model.plan.arena_bytes},
                           {"total_bytes", model.plan.total_bytes()},
                           {"fits", model.fits},
                           {"largest_context", model.largest_context}});
  }
  return {{"version", KVASS_VERSION},
          {"numerics", kNumericsVersion},
          {"compiler", report.compiler},
          {"system", report.system},
          {"cpu", report.cpu},
          {"cpus", report.cpus},
          {"cache_bytes", report.cache_bytes},
          {"isa", report.isa},
          {"isas", report.isas},
          {"memory_bytes", report.memory.bytes},
          {"available_bytes", report.memory.available},
          {"limit_bytes", report.memory.limit},
          {"huge_pages", report.memory.huge_pages},
          {"read_bytes_per_s", report.reads},
          {"multiply_adds_per_s", std::move(speeds)},
          {"devices", std::move(devices_json)},
          {"notes", report.notes},
          {"models", std::move(models_json)}};
}

Status run(const DoctorFlags& flags) {
  KVASS_ASSIGN_OR_RETURN(const MachineReport report, examine_machine());
  std::vector<ModelReport> models;
  for (const std::string& path : flags.models) {
    KVASS_ASSIGN_OR_RETURN(ModelReport model, examine_model(path, report.memory));
    models.push_back(std::move(model));
  }
  if (flags.json) return print_json(report_json(report, models));
  print_machine(report);
  for (const ModelReport& model : models) print_model(model);
  return flush_stdout();
}

}  // namespace

CommandAction add_doctor(CLI::App& command) {
  auto flags = std::make_shared<DoctorFlags>();
  command.description("Print what kvass finds on this machine, for a report of a fault; with models, what each takes");
  command.footer("Example:\n  kvass doctor model.gguf");
  command.add_option("MODEL", flags->models, "Model files, or names (kvass list)")->type_name("...");
  command.add_flag("--json", flags->json, "One JSON object instead of text");
  return [flags] { return run(*flags); };
}

}  // namespace kvass
