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
  const std::string memory =
      report.memory.bytes == 0
          ? "not known"
          : fmt::format("{}, {} available", human_bytes(report.memory.bytes), human_bytes(report.memory.available));
  line("memory", memory + (report.memory.limit == 0 ? "" : ", limited to " + human_bytes(report.memory.limit)));
  line("huge pages", report.memory.huge_pages);
  std::vector<double> reads = report.reads;
  std::sort(reads.begin(), reads.end());
  line("memory reads", reads.empty()
                           ? ""
                           : fmt::format("{:.1f} GB/s ({:.1f} to {:.1f} in {} samples)", reads[reads.size() / 2] * 1e-9,
                                         reads.front() * 1e-9, reads.back() * 1e-9, reads.size()));
  std::string speeds;
  for (const MathSpeed& speed : report.speeds) {
    speeds += fmt::format("{}{} {:.0f}", speeds.empty() ? "" : ", ", math_name(speed.math), speed.multiply_adds * 1e-9);
  }
  line("multiply-adds", speeds.empty() ? "" : speeds + " G/s");
  for (const Backend& device : devices(report.backends)) {
    line(std::string(device_name(device.device)).c_str(), device.available ? "available" : "no: " + device.reason);
  }
  for (const std::string& note : report.notes) line("note", note);
}

void print_model(const ModelReport& report) {
  print("\n{}: {}, {}\n", report.path, report.format, report.family);
  print("  {}", plan_line(report.plan));
  if (!report.fits || !report.largest_context) {
    print("  whether it fits is not known\n");
    return;
  }
  print("  {} into the memory that is available; the largest context that does: {}\n",
        *report.fits ? "fits" : "does NOT fit",
        *report.largest_context == 0 ? "none" : fmt::format("{} tokens", *report.largest_context));
}

// A number, or null where it is not known.
template <class T>
nlohmann::json or_null(const std::optional<T>& value) {
  return value ? nlohmann::json(*value) : nlohmann::json(nullptr);
}
nlohmann::json or_null(size_t bytes) { return bytes == 0 ? nlohmann::json(nullptr) : nlohmann::json(bytes); }

nlohmann::json model_json(const ModelReport& model) {
  return {{"path", model.path},
          {"format", model.format},
          {"family", model.family},
          {"weight_bytes", model.plan.weight_bytes},
          {"cache_bytes", model.plan.cache_bytes()},
          {"arena_bytes", model.plan.arena_bytes},
          {"total_bytes", model.plan.total_bytes()},
          {"fits", or_null(model.fits)},
          {"largest_context", or_null(model.largest_context)}};
}

nlohmann::json report_json(const MachineReport& report, nlohmann::json models) {
  nlohmann::json speeds = nlohmann::json::object(), devices_json = nlohmann::json::array();
  for (const MathSpeed& speed : report.speeds) speeds[std::string(math_name(speed.math))] = speed.multiply_adds;
  for (const Backend& device : devices(report.backends)) {
    devices_json.push_back(
        {{"device", device_name(device.device)}, {"available", device.available}, {"reason", device.reason}});
  }
  return {
      {"version", KVASS_VERSION},
      {"numerics", kNumericsVersion},
      {"compiler", report.compiler},
      {"system", report.system},
      {"cpu", report.cpu},
      {"cpus", report.cpus},
      {"cache_bytes", report.cache_bytes},
      {"isa", report.isa},
      {"isas", report.isas},
      {"memory_bytes", or_null(report.memory.bytes)},
      {"available_bytes", report.memory.bytes == 0 ? nlohmann::json(nullptr) : nlohmann::json(report.memory.available)},
      {"limit_bytes", report.memory.limit},
      {"huge_pages", report.memory.huge_pages},
      {"read_bytes_per_s", report.reads},
      {"multiply_adds_per_s", std::move(speeds)},
      {"devices", std::move(devices_json)},
      {"notes", report.notes},
      {"models", std::move(models)}};
}

Status run(const DoctorFlags& flags) {
  KVASS_ASSIGN_OR_RETURN(const MachineReport report, examine_machine());
  // What is found of the machine and of other models is printed, whatever one model is.
  nlohmann::json models = nlohmann::json::array();
  Status first_error;
  if (!flags.json) print_machine(report);
  for (const std::string& path : flags.models) {
    const Result<ModelReport> model = examine_model(path, report.memory);
    if (!model.ok() && first_error.ok()) first_error = model.status();
    if (flags.json) {
      models.push_back(model.ok() ? model_json(model.value())
                                  : nlohmann::json{{"path", path}, {"error", model.status().message()}});
    } else if (model.ok()) {
      print_model(model.value());
    } else {
      print("\n{}\n  {}\n", one_line(valid_utf8(path)), shown_message(model.status()));
    }
  }
  KVASS_RETURN_IF_ERROR(flags.json ? print_json(report_json(report, std::move(models))) : flush_stdout());
  return first_error;
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
