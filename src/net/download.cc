#include "net/download.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "app/text.h"
#include "base/hash.h"
#include "base/new_file.h"
#include "base/os_error.h"
#include "base/platform.h"

namespace kvass {
namespace {

namespace fs = std::filesystem;

constexpr int kTries = 5;  // in a row that bring nothing
constexpr size_t kPiece = size_t{1} << 20;

Status cancelled_status(const std::string& what) {
  return Status::error(StatusCode::cancelled, what + ": cancelled; what has arrived is kept");
}

class Digest {
 public:
  explicit Digest(const EVP_MD* kind) : context_(EVP_MD_CTX_new()) { EVP_DigestInit_ex(context_.get(), kind, nullptr); }
  void add(std::span<const uint8_t> bytes) { EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()); }
  std::string text() {
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned count = 0;
    EVP_DigestFinal_ex(context_.get(), bytes, &count);
    std::string out;
    char digits[3];
    for (unsigned i = 0; i < count; ++i) {
      std::snprintf(digits, sizeof digits, "%02x", bytes[i]);
      out += digits;
    }
    return out;
  }

 private:
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context_;
};

// The hashes that a file is checked by. A git object's is over a header too, which has the file's size.
struct Digests {
  Digest sha256{EVP_sha256()};
  std::optional<Digest> git_object;

  explicit Digests(const RemoteFile& file) {
    if (file.git_object.empty() || file.bytes < 0) return;
    git_object.emplace(EVP_sha1());
    const std::string header = "blob " + std::to_string(file.bytes);
    git_object->add({reinterpret_cast<const uint8_t*>(header.c_str()), header.size() + 1});
  }
  void add(std::span<const uint8_t> bytes) {
    sha256.add(bytes);
    if (git_object) git_object->add(bytes);
  }
};

struct OpenFile {
  int file = -1;
  ~OpenFile() {
    if (file >= 0) platform::close_file(file);
  }
};

Status read_pieces(const std::string& path, const std::atomic<bool>& cancel,
                   const std::function<void(std::span<const uint8_t>)>& on_piece) {
  OpenFile from{platform::open_to_read(path)};
  if (from.file < 0) return os_error(path, "a file that can be read", errno);
  std::vector<uint8_t> buffer(kPiece);
  for (size_t at = 0;;) {
    if (cancel.load()) return cancelled_status(path);
    const int64_t count = platform::read_at(from.file, at, buffer.data(), buffer.size());
    if (count < 0) return os_error(path, "bytes at " + std::to_string(at), errno);
    if (count == 0) return {};
    on_piece(std::span<const uint8_t>(buffer.data(), static_cast<size_t>(count)));
    at += static_cast<size_t>(count);
  }
}

std::string part_name(const RemoteFile& file, const std::string& path) {
  const std::string which = file.sha256 + "/" + file.git_object + "/" + file.version + "/" + std::to_string(file.bytes);
  const std::string hash = hash_text(hash_bytes({reinterpret_cast<const uint8_t*>(which.data()), which.size()}));
  return path + ".part-" + hash.substr(0, 16);
}

// Parts of other versions are of no use any more. The caller has the lock of `path`.
void remove_other_parts(const std::string& path, const std::string& part) {
  std::error_code error;
  const std::string begin = fs::path(path).filename().string() + ".part-";
  for (const auto& entry : fs::directory_iterator(folder_of(path), error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(begin) && name.size() == begin.size() + 16 && name != fs::path(part).filename().string()) {
      platform::remove_file(entry.path().c_str());
    }
  }
}

// The part of a file that is here.
class Part {
 public:
  Part(const RemoteFile& remote, const std::string& path)
      : remote_(remote), path_(path), name_(part_name(remote, path)), digests_(remote) {}

  // Opens the part that an earlier run left, if it is of this version of the file; otherwise begins an empty one.
  Status open(const std::atomic<bool>& cancel) {
    remove_other_parts(path_, name_);
    const bool known = !remote_.sha256.empty() || !remote_.git_object.empty() || !remote_.version.empty();
    if (known && platform::file_info(name_).kind == platform::FileKind::file) {
      KVASS_RETURN_IF_ERROR(read_pieces(name_, cancel, [&](std::span<const uint8_t> piece) {
        digests_.add(piece);
        bytes_ += static_cast<int64_t>(piece.size());
      }));
      if (remote_.bytes >= 0 && bytes_ > remote_.bytes) KVASS_RETURN_IF_ERROR(start_again());
    }
    if (bytes_ == 0) platform::remove_file(name_.c_str());
    file_.file = bytes_ > 0 ? platform::open_to_write(name_) : platform::create_file(name_);
    if (file_.file < 0) return os_error(name_, "a file that can be written", errno);
    return {};
  }

  Status start_again() {
    if (file_.file >= 0) platform::close_file(file_.file);
    platform::remove_file(name_.c_str());
    digests_ = Digests(remote_);
    bytes_ = 0;
    file_.file = platform::create_file(name_);
    if (file_.file < 0) return os_error(name_, "a file that can be written", errno);
    return {};
  }

  Status add(std::span<const uint8_t> bytes) {
    if (remote_.bytes >= 0 && bytes_ + static_cast<int64_t>(bytes.size()) > remote_.bytes) {
      return bad_input(remote_.url, std::to_string(remote_.bytes) + " bytes", "more");
    }
    digests_.add(bytes);
    while (!bytes.empty()) {
      const int64_t count = platform::write_at(file_.file, static_cast<size_t>(bytes_), bytes.data(), bytes.size());
      if (count <= 0) {
        const Status failed = os_error(name_, "to write what arrives", errno);
        return failed.with_message(failed.message() + "; what has arrived is kept");
      }
      bytes_ += count;
      bytes = bytes.subspan(static_cast<size_t>(count));
    }
    return {};
  }

  // Checks the whole and gives it its name. A file that is not what it should be is removed.
  Result<std::string> finish() {
    const std::string sha256 = digests_.sha256.text();
    const std::string git_object = digests_.git_object ? digests_.git_object->text() : "";
    Status status;
    if (!remote_.sha256.empty() && sha256 != remote_.sha256) {
      status = bad_input(remote_.url, "a file with SHA-256 " + remote_.sha256, sha256);
    } else if (!git_object.empty() && git_object != remote_.git_object) {
      status = bad_input(remote_.url, "a file with git's SHA-1 " + remote_.git_object, git_object);
    }
    if (!status.ok()) {
      platform::remove_file(name_.c_str());
      return status.with_message(status.message() + "; it was removed");
    }
    if (!platform::sync_file(file_.file)) return os_error(name_, "to reach the disk", errno);
    std::error_code error;
    fs::rename(name_, path_, error);
    if (error) return os_error(path_, "to get this name", error.value());
    if (!platform::sync_folder(folder_of(path_))) return os_error(path_, "to reach the disk", errno);
    return sha256;
  }

  int64_t bytes() const { return bytes_; }

 private:
  const RemoteFile& remote_;
  std::string path_, name_;
  Digests digests_;
  OpenFile file_;
  int64_t bytes_ = 0;
};

Status check_space(const RemoteFile& remote, const std::string& path, int64_t here) {
  std::error_code error;
  const std::string folder = folder_of(path);
  const fs::space_info space = fs::space(folder, error);
  if (error || remote.bytes < 0) return {};
  const auto missing = static_cast<uintmax_t>(remote.bytes - here);
  if (missing <= space.available) return {};
  return Status::error(StatusCode::io, expected_message(folder, human_bytes(missing) + " of free space for " + path,
                                                        human_bytes(space.available)));
}

Status wait_seconds(int64_t seconds, const std::atomic<bool>& cancel, const std::string& what) {
  for (int64_t i = 0; i < seconds * 10; ++i) {
    if (cancel.load()) return cancelled_status(what);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return {};
}

// What one request brought.
struct Attempt {
  bool whole = false;
  Status failure{};         // of the network or the server, which another request may not meet
  int64_t retry_after = 0;  // seconds that a busy server asks for
};

// One request for what is missing. An error is one that another request would not change.
Result<Attempt> fetch_rest(HttpClient& client, const RemoteFile& remote, Part& part, const OnDownload& on_progress) {
  bool begun = false;
  Status local;
  int64_t total = remote.bytes;
  const auto on_bytes = [&](const HttpAnswer& answer, std::span<const uint8_t> bytes) {
    if (!begun) {
      begun = true;
      if (answer.begin == 0 && part.bytes() > 0) local = part.start_again();
      if (answer.begin != 0 && answer.begin != part.bytes())
        local = bad_input(remote.url, "bytes from " + std::to_string(part.bytes()), std::to_string(answer.begin));
      if (total < 0 && answer.bytes >= 0) total = answer.begin + answer.bytes;
    }
    if (local.ok()) local = part.add(bytes);
    if (local.ok() && on_progress) on_progress(part.bytes(), total);
    return local;
  };
  const std::string version = remote.sha256.empty() ? remote.version : "";
  const Result<HttpAnswer> answer =
      client.request({.url = remote.url, .token = remote.token, .begin = part.bytes(), .version = version}, on_bytes);
  if (!local.ok()) return local;
  if (!answer.ok()) {
    if (answer.status().code() != StatusCode::io) return answer.status();
    return Attempt{.failure = answer.status()};
  }
  if (answer->status == 416 && part.bytes() > 0) {  // what is here is not a part of what is there
    KVASS_RETURN_IF_ERROR(part.start_again());
    return Attempt{};
  }
  const Status refused = bad_input(remote.url, "the file", "HTTP status " + std::to_string(answer->status));
  if (answer->status == 429 || answer->status >= 500)
    return Attempt{.failure = Status::error(StatusCode::io, refused.message()), .retry_after = answer->retry_after};
  if (!answer->ok()) return refused;
  if (!begun && part.bytes() > 0) KVASS_RETURN_IF_ERROR(part.start_again());  // an empty file, by now
  Attempt attempt{.whole = total < 0 || part.bytes() == total};
  if (!attempt.whole)
    attempt.failure = Status::error(
        StatusCode::io, expected_message(remote.url, std::to_string(total) + " bytes", std::to_string(part.bytes())));
  return attempt;
}

}  // namespace

Result<std::string> download(HttpClient& client, const RemoteFile& file, const std::string& path,
                             const OnDownload& on_progress) {
  KVASS_ASSIGN_OR_RETURN(const FileLock lock, FileLock::acquire(path));
  Part part(file, path);
  KVASS_RETURN_IF_ERROR(part.open(client.cancel()));
  KVASS_RETURN_IF_ERROR(check_space(file, path, part.bytes()));
  if (on_progress) on_progress(part.bytes(), file.bytes);
  for (int failures = 0; part.bytes() != file.bytes;) {
    const int64_t before = part.bytes();
    KVASS_ASSIGN_OR_RETURN(const Attempt attempt, fetch_rest(client, file, part, on_progress));
    if (attempt.whole) break;
    failures = part.bytes() > before ? 0 : failures + 1;
    if (failures == kTries && !attempt.failure.ok()) {
      return attempt.failure.with_message(attempt.failure.message() +
                                          "; what has arrived is kept, and the same command goes on from there");
    }
    const int64_t pause = std::clamp<int64_t>(attempt.retry_after, int64_t{1} << failures >> 1, 60);
    KVASS_RETURN_IF_ERROR(wait_seconds(pause, client.cancel(), file.url));
  }
  if (on_progress) on_progress(part.bytes(), part.bytes());
  return part.finish();
}

}  // namespace kvass
