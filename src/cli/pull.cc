// kvass pull: a model from a network into the cache folder.
#include "net/pull.h"

#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/command.h"
#include "cli/signals.h"

namespace kvass {
namespace {

struct PullFlags {
  PullOptions options;
  bool list = false;
  bool json = false;
};

// One line for each file: what has arrived on a terminal, otherwise the file once it is whole.
class Display {
 public:
  Display() : terminal_(::isatty(STDERR_FILENO) == 1) {}

  void begin(const PullSummary& summary) {
    int64_t bytes = 0;
    bool known = true;
    for (const PulledFile& file : summary.files) {
      known = known && file.bytes >= 0;
      bytes += std::max<int64_t>(file.bytes, 0);
    }
    say("kvass: {}{} in {} {}{}\n", summary.name, known ? ", " + human_bytes(static_cast<size_t>(bytes)) : "",
        summary.files.size(), summary.files.size() == 1 ? "file" : "files",
        summary.license.empty() ? "" : "; licence: " + summary.license + ", to be read before use");
  }

  void file(const std::string& name, int64_t done, int64_t total) {
    const auto now = std::chrono::steady_clock::now();
    const bool first = name != name_;
    if (first) {
      name_ = name;
      begin_ = now;
      begin_bytes_ = done;
      open_ = true;
    }
    const bool whole = done == total;
    if (whole && !open_) return;  // it was said
    if (!whole && (!terminal_ || (!first && now - shown_ < std::chrono::milliseconds(200)))) return;
    shown_ = now;
    const double seconds = std::chrono::duration<double>(now - begin_).count();
    std::string rate;
    if (seconds > 0.5) rate = fmt::format(", {:.1f} MB/s", static_cast<double>(done - begin_bytes_) / seconds / 1e6);
    const std::string of = total < 0 || whole ? "" : " of " + human_bytes(static_cast<size_t>(total));
    say("{}  {}: {}{}{}{}", terminal_ ? "\r\033[K" : "", name, human_bytes(static_cast<size_t>(done)), of, rate,
        whole ? "\n" : "");
    open_ = !whole;
  }

  void end() {
    if (terminal_ && open_) say("\n");
    open_ = false;
  }

 private:
  bool terminal_;
  bool open_ = false;  // the file is not whole yet
  std::string name_;
  std::chrono::steady_clock::time_point begin_, shown_;
  int64_t begin_bytes_ = 0;
};

Status show(const PullSummary& summary, const PullFlags& flags) {
  if (!flags.json) {
    if (!flags.list) return write_stdout(summary.path + "\n"), flush_stdout();
    for (const PulledFile& file : summary.files)
      print("{:>10}  {}\n", file.bytes < 0 ? "?" : human_bytes(static_cast<size_t>(file.bytes)), file.path);
    return flush_stdout();
  }
  nlohmann::json files = nlohmann::json::array();
  for (const PulledFile& file : summary.files) {
    nlohmann::json row = {{"path", file.path},
                          {"bytes", file.bytes < 0 ? nlohmann::json() : nlohmann::json(file.bytes)}};
    if (!flags.list) row["sha256"] = file.sha256;
    files.push_back(std::move(row));
  }
  return print_json({{"name", summary.name},
                     {"path", summary.path},
                     {"repository", summary.repository},
                     {"commit", summary.commit},
                     {"license", summary.license},
                     {"files", std::move(files)}});
}

Status run(const PullFlags& flags) {
  KVASS_ASSIGN_OR_RETURN(HttpClient client, HttpClient::create(cancelled()));
  if (flags.list) {
    KVASS_ASSIGN_OR_RETURN(const PullSummary summary, plan_pull(client, flags.options));
    return show(summary, flags);
  }
  Display display;
  const Result<PullSummary> summary =
      pull(client, flags.options,
           {.on_begin = [&](const PullSummary& begun) { display.begin(begun); },
            .on_file = [&](const std::string& name, int64_t done, int64_t total) { display.file(name, done, total); }});
  display.end();
  if (!summary.ok()) return summary.status();
  if (flags.options.out.empty()) say("kvass: {} may stand for MODEL in every command now\n", summary->name);
  return show(summary.value(), flags);
}

}  // namespace

CommandAction add_pull(CLI::App& command) {
  auto flags = std::make_shared<PullFlags>();
  command.description("Fetch a model from a hub, or from any address, into the cache folder; print its path");
  command.footer(
      "OWNER/REPO means the repository's only GGUF file, the one that is Q4_K_M, or a folder of config.json and "
      "weights.\n"
      ":WHICH is a file's path, a pattern with *, or a word of its name, as Q8_0; all parts of a split model come "
      "along.\n"
      "What was fetched is compared with the hub's hashes. A transfer that was cut goes on where it was.\n"
      "HF_ENDPOINT is another hub of the same kind; HF_TOKEN, HF_TOKEN_PATH or HF_HOME/token a token for it; proxies "
      "are\n"
      "those of https_proxy, http_proxy and no_proxy.\n"
      "Examples:\n"
      "  kvass pull OWNER/REPO-GGUF:Q8_0 --name mine\n"
      "  kvass run mine -p \"Once upon a time\"");
  command
      .add_option("MODEL", flags->options.model, "OWNER/REPO[@REVISION][:WHICH], or the address of a page or a file")
      ->required()
      ->type_name("");
  CLI::Option* name = command.add_option("--name", flags->options.name,
                                         "What the model is called (default: as its file or repository)");
  name->type_name("NAME");
  command
      .add_option("-o,--out", flags->options.out, "Into this folder instead of the cache folder, and without a name")
      ->type_name("FOLDER")
      ->excludes(name);
  command.add_flag("--list", flags->list, "Print what would be fetched, and fetch nothing");
  command.add_flag("--json", flags->json, "One JSON object on stdout instead of the path");
  return [flags] { return run(*flags); };
}

}  // namespace kvass
