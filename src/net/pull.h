// The job of `kvass pull`: a model of a hub, or a file of any server, into the user's cache folder, under a name that
// every command takes (app/model_names.h).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kvass/status.h"
#include "net/http.h"

namespace kvass {

struct PullOptions {
  std::string model;  // net/hub.h
  std::string name;   // empty: the model's own
  std::string out;    // a folder to put it into, without a name; empty: the cache folder
};

struct PulledFile {
  std::string path;    // in the repository
  int64_t bytes = -1;  // -1: not known
  std::string sha256;  // empty: it was not fetched
};

// What is to be fetched, or was.
struct PullSummary {
  std::string name;
  std::string path;        // of the model: its file, or its folder
  std::string repository;  // empty: none
  std::string commit, license;
  std::vector<PulledFile> files;
};

// `on_begin` is called once, before the first file; `on_file` after each change of one: what is done of how many bytes.
struct PullEvents {
  std::function<void(const PullSummary&)> on_begin;
  std::function<void(const std::string& file, int64_t done, int64_t total)> on_file;
};

// What `pull` would fetch; nothing is written.
Result<PullSummary> plan_pull(HttpClient& client, const PullOptions& options);

// Files that are there and were checked are not fetched again. A name that stands for another model is refused.
Result<PullSummary> pull(HttpClient& client, const PullOptions& options, const PullEvents& events = {});

}  // namespace kvass
