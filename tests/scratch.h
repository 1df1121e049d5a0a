// A temporary folder for the files of a test. The destructor removes it.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace kvass::testing {

class Scratch {
 public:
  Scratch() {
    std::string form = (std::filesystem::temp_directory_path() / "kvass_test_XXXXXX").string();
    path_ = ::mkdtemp(form.data()) != nullptr ? form : ".";
  }
  ~Scratch() {
    if (path_ != ".") std::filesystem::remove_all(path_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  std::string file(const std::string& name) const { return path_ + "/" + name; }
  std::vector<uint8_t> read(const std::string& name) const {
    std::ifstream in(file(name), std::ios::binary);
    return std::vector<uint8_t>(std::istreambuf_iterator<char>(in), {});
  }
  size_t files() const { return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(path_), {})); }

 private:
  std::string path_;
};

}  // namespace kvass::testing
