#include "net/pull.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "app/model_names.h"
#include "base/hash.h"
#include "base/new_file.h"
#include "base/os_error.h"
#include "base/platform.h"
#include "net/download.h"
#include "net/hub.h"

namespace kvass {
namespace {

namespace fs = std::filesystem;

struct Job {
  PullSummary summary;
  HubModel model;
  std::string folder;     // that the files go into
  std::string link;       // models/NAME of the cache folder; empty: none
  std::string link_text;  // what it says
};

// The link that gives a model its name may be made again, but does not come to mean another model.
Status check_name(const Job& job) {
  std::error_code error;
  const fs::file_status there = fs::symlink_status(job.link, error);
  if (!fs::exists(there)) return {};
  const fs::path target = fs::is_symlink(there) ? fs::read_symlink(job.link, error) : fs::path();
  if (target == job.link_text || (fs::is_symlink(there) && !fs::exists(job.link, error))) return {};
  return bad_input("name", "one that is free",
                   "'" + job.summary.name + "', which is " + (target.empty() ? job.link : target.string()));
}

// Where in the cache folder the files of one source are: nothing else comes to lie there.
std::string place_of(const HubName& name) {
  if (name.repository.empty()) {
    const Hash128 hash = hash_bytes({reinterpret_cast<const uint8_t*>(name.url.data()), name.url.size()});
    return "files/" + hash_text(hash).substr(0, 16);
  }
  std::string place = name.endpoint.substr(name.endpoint.starts_with("https://") ? 8 : 0);
  std::replace(place.begin(), place.end(), '/', '_');
  std::string revision = name.revision;
  std::replace(revision.begin(), revision.end(), '/', '_');
  return place + "/" + name.repository + "@" + revision;
}

Result<Job> prepare(HttpClient& client, const PullOptions& options) {
  KVASS_ASSIGN_OR_RETURN(const HubName name, parse_hub_name(options.model));
  Job job;
  const std::string place = place_of(name);
  if (name.repository.empty()) {
    KVASS_ASSIGN_OR_RETURN(job.model, ask_for_file(client, name.url));
  } else {
    KVASS_ASSIGN_OR_RETURN(const HubListing listing, list_hub_files(client, name, hub_token(name)));
    KVASS_ASSIGN_OR_RETURN(job.model, choose_hub_model(name, listing));
    job.summary.repository = name.repository;
    job.summary.commit = listing.commit;
    job.summary.license = listing.license;
  }
  job.summary.name = options.name.empty() ? job.model.name : options.name;
  if (options.out.empty() && !is_model_name(job.summary.name))
    return bad_input("name", "letters, digits, '-', '_' and '.'", "'" + job.summary.name + "'");
  for (const HubFile& file : job.model.files) job.summary.files.push_back({file.path, file.remote.bytes, ""});
  job.folder = options.out;
  if (options.out.empty()) {
    const std::string cache = cache_folder();
    if (cache.empty())
      return bad_input("cache folder", "KVASS_CACHE, XDG_CACHE_HOME or HOME to be set", "none of them");
    job.folder = cache + "/pulled/" + place;
    job.link = cache + "/models/" + job.summary.name;
    job.link_text = "../pulled/" + place;
    if (!job.model.folder) job.link_text += "/" + job.model.files.front().path;
    KVASS_RETURN_IF_ERROR(check_name(job));
  }
  job.summary.path = job.model.folder ? job.folder : job.folder + "/" + job.model.files.front().path;
  return job;
}

// What the server says a file is; empty: nothing.
std::string identity(const RemoteFile& remote) {
  return !remote.sha256.empty() ? remote.sha256 : !remote.git_object.empty() ? remote.git_object : remote.version;
}

// `<file>.sha256` stands beside a file that was checked, and was not changed since. Its first line is sha256sum's, its
// second says what the file was then.
struct Stamp {
  bool there = false, ours = false;
  std::string hash, identity;
};
Stamp read_stamp(const std::string& path) {
  Stamp stamp;
  stamp.there = platform::file_info(path + ".sha256").kind != platform::FileKind::none;
  std::ifstream text(path + ".sha256");
  std::getline(text, stamp.hash);
  std::getline(text, stamp.identity);
  stamp.ours = stamp.hash.size() >= 64 && stamp.identity.starts_with("# ");
  if (stamp.ours) stamp.identity.erase(0, 2);
  return stamp;
}

std::string checked_hash(const std::string& path, const RemoteFile& remote) {
  const Stamp stamp = read_stamp(path);
  if (!stamp.ours || stamp.identity.empty() || stamp.identity != identity(remote)) return "";
  std::error_code error;
  const auto written = fs::last_write_time(path, error);
  if (error) return "";
  const auto checked = fs::last_write_time(path + ".sha256", error);
  if (error || written > checked) return "";
  if (remote.bytes >= 0 && fs::file_size(path, error) != static_cast<uintmax_t>(remote.bytes)) return "";
  return stamp.hash.substr(0, 64);
}

// In a folder of the user's: neither the file nor its stamp may be something else that is there.
Status check_free(const std::string& path) {
  const auto refused = [](const std::string& name) {
    return bad_input(name, "no file, or the one to fetch", "another file, which stays as it is");
  };
  if (platform::file_info(path).kind != platform::FileKind::none) return refused(path);
  const Stamp stamp = read_stamp(path);
  return stamp.there && !stamp.ours ? refused(path + ".sha256") : Status();
}

Status make_folder(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return os_error(folder, "a folder that can be made", error.value());
  return {};
}

Status give_name(const Job& job) {
  KVASS_RETURN_IF_ERROR(make_folder(fs::path(job.link).parent_path().string()));
  KVASS_ASSIGN_OR_RETURN(const std::string random, random_name());
  KVASS_RETURN_IF_ERROR(check_name(job));
  std::error_code error;
  const std::string fresh = fs::path(job.link).parent_path().parent_path().string() + "/.link-" + random;
  fs::create_symlink(job.link_text, fresh, error);
  if (!error) fs::rename(fresh, job.link, error);
  if (error) {
    std::error_code ignored;
    fs::remove(fresh, ignored);
    return os_error(job.link, "a link that can be made", error.value());
  }
  return {};
}

}  // namespace

Result<PullSummary> plan_pull(HttpClient& client, const PullOptions& options) {
  KVASS_ASSIGN_OR_RETURN(Job job, prepare(client, options));
  return std::move(job.summary);
}

Result<PullSummary> pull(HttpClient& client, const PullOptions& options, const PullEvents& events) {
  KVASS_ASSIGN_OR_RETURN(Job job, prepare(client, options));
  if (events.on_begin) events.on_begin(job.summary);
  for (size_t i = 0; i < job.model.files.size(); ++i) {
    const HubFile& file = job.model.files[i];
    PulledFile& pulled = job.summary.files[i];
    const std::string path = job.folder + "/" + file.path;
    KVASS_RETURN_IF_ERROR(make_folder(fs::path(path).parent_path().string()));
    pulled.sha256 = checked_hash(path, file.remote);
    if (!pulled.sha256.empty()) {
      if (events.on_file) events.on_file(file.path, pulled.bytes, pulled.bytes);
      continue;
    }
    if (job.link.empty()) KVASS_RETURN_IF_ERROR(check_free(path));
    KVASS_ASSIGN_OR_RETURN(pulled.sha256, download(client, file.remote, path, [&](int64_t done, int64_t total) {
                             if (events.on_file) events.on_file(file.path, done, total);
                           }));
    std::error_code error;
    pulled.bytes = static_cast<int64_t>(fs::file_size(path, error));
    const std::string stamp =
        pulled.sha256 + "  " + fs::path(path).filename().string() + "\n# " + identity(file.remote) + "\n";
    KVASS_RETURN_IF_ERROR(write_new_file(path + ".sha256", stamp));
  }
  if (!job.link.empty()) KVASS_RETURN_IF_ERROR(give_name(job));
  return std::move(job.summary);
}

}  // namespace kvass
