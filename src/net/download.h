// One file from a network, whole and checked or not at all. What has arrived stays beside the file as
// `<path>.part-<16 digits>` when a transfer ends early, and the next one goes on from there; the digits say which
// version of the file it is a part of. Two processes do not fetch one file at a time (base/new_file.h).
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "kvass/status.h"
#include "net/http.h"

namespace kvass {

struct RemoteFile {
  std::string url;
  std::string token;       // empty: none
  int64_t bytes = -1;      // -1: not known
  std::string sha256;      // 64 hexadecimal digits; empty: not known
  std::string git_object;  // its SHA-1 as a git object, 40 digits; empty: not known
  std::string version;     // an entity tag, where no hash is known
};

// Bytes that are there, and of how many; -1: not known.
using OnDownload = std::function<void(int64_t done, int64_t total)>;

// `path` becomes the file; its folder is there. A cut connection and a server that is busy are tried again, a few times
// in a row without a byte between them. The result is the file's SHA-256.
Result<std::string> download(HttpClient& client, const RemoteFile& file, const std::string& path,
                             const OnDownload& on_progress = {});

}  // namespace kvass
