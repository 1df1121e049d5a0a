// Running the built `kvass` in tests: to its end with what it wrote, or step by step with signals. Owns the processes
// and the files that it makes.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace kvass::testing {

using Arguments = std::vector<std::string>;

inline std::string read_file(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}
inline void write_file(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

// A folder that is gone with the test program.
class Scratch {
 public:
  Scratch() {
    std::string form = (std::filesystem::temp_directory_path() / "kvass_cli_test_XXXXXX").string();
    path_ = ::mkdtemp(form.data()) != nullptr ? form : ".";
  }
  ~Scratch() { std::filesystem::remove_all(path_); }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// A limit on this process and those that it starts, while it lives.
class ResourceLimit {
 public:
  ResourceLimit(int resource, rlim_t bytes) : resource_(resource) {
    ::getrlimit(resource, &before_);
    const rlimit small{std::min(bytes, before_.rlim_max), before_.rlim_max};
    ::setrlimit(resource, &small);
  }
  ~ResourceLimit() { ::setrlimit(resource_, &before_); }
  ResourceLimit(const ResourceLimit&) = delete;
  ResourceLimit& operator=(const ResourceLimit&) = delete;

 private:
  int resource_;
  rlimit before_{};
};

// Descriptors of a child; -1: closed.
struct Streams {
  int in = -1;
  int out = -1;
  int err = -1;
};

inline pid_t start_kvass(const Arguments& arguments, const Streams& streams) {
  std::vector<char*> argv = {const_cast<char*>("kvass")};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const pid_t child = ::fork();
  if (child != 0) return child;
  const int given[] = {streams.in, streams.out, streams.err};
  for (int i = 0; i < 3; ++i) {
    if (given[i] < 0) {
      ::close(i);
    } else {
      ::dup2(given[i], i);
    }
  }
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) std::signal(number, SIG_DFL);  // however the test was started
  ::execv(KVASS_CLI_PATH, argv.data());
  ::_exit(127);
}

// The exit code, or 1000 + the signal that ended it.
inline int wait_for(pid_t child) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

struct Finished {
  int code = 0;
  std::string out;
  std::string err;
};

// Runs kvass to its end, in an address space of at most so many bytes.
inline Finished kvass(const Arguments& arguments, const std::string& input = "", rlim_t address_space = RLIM_INFINITY) {
  static const Scratch scratch;
  write_file(scratch.file("in"), input);
  const int flags = O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC;
  const Streams streams{::open(scratch.file("in").c_str(), O_RDONLY | O_CLOEXEC),
                        ::open(scratch.file("out").c_str(), flags, 0600),
                        ::open(scratch.file("err").c_str(), flags, 0600)};
  Finished finished;
  pid_t child = -1;
  {
    const ResourceLimit limit(RLIMIT_AS, address_space);
    child = start_kvass(arguments, streams);
  }
  finished.code = wait_for(child);
  for (int stream : {streams.in, streams.out, streams.err}) ::close(stream);
  finished.out = read_file(scratch.file("out"));
  finished.err = read_file(scratch.file("err"));
  return finished;
}

// A kvass that runs beside the test: its stdout is a pipe, its stderr a file.
class Running {
 public:
  explicit Running(const Arguments& arguments) {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    const int err = ::open(scratch_.file("err").c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    out_ = ends[0];
    child_ = start_kvass(arguments, {null, ends[1], err});
    for (int stream : {null, err, ends[1]}) ::close(stream);
  }
  ~Running() {
    if (child_ > 0) {
      ::kill(child_, SIGKILL);
      wait_for(child_);
    }
    close_output();
  }

  // Waits for `bytes` more of its stdout; false when it ends before.
  bool read(size_t bytes) {
    std::string buffer(bytes, '\0');
    size_t got = 0;
    while (got < bytes) {
      const ssize_t count = ::read(out_, buffer.data() + got, bytes - got);
      if (count <= 0) return false;
      got += static_cast<size_t>(count);
      text_.append(buffer, got - static_cast<size_t>(count), static_cast<size_t>(count));
    }
    return true;
  }
  void signal(int number) { ::kill(child_, number); }
  void close_output() {
    if (out_ >= 0) ::close(out_);
    out_ = -1;
  }
  // Reads what is left and waits: the exit code, or 1000 + the signal that ended it.
  int end() {
    while (out_ >= 0 && read(1)) {
    }
    const int code = wait_for(child_);
    child_ = -1;
    return code;
  }
  const std::string& out() const { return text_; }  // of stdout, as far as it was read
  std::string err() const { return read_file(scratch_.file("err")); }

 private:
  Scratch scratch_;
  pid_t child_ = -1;
  int out_ = -1;
  std::string text_;
};

}  // namespace kvass::testing
