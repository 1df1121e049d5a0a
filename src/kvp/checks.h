// What every part of a .kvp file is read with: limits, names that a file brings, and messages that name the file.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "kvass/status.h"
#include "kvp/table.h"

namespace kvass {

// More than any model has, and little enough that what a small file can ask for stays small.
inline constexpr size_t kMostNameBytes = 256;
inline constexpr size_t kMostThings = size_t{1} << 16;  // ops, values, weights, states
inline constexpr size_t kMostRotaries = 1024;
inline constexpr size_t kMostMethods = 16;
inline constexpr size_t kMostOperands = 16;  // of an op
inline constexpr int64_t kMostHeadDim = 4096;

// A name inside a message: one line of printable characters.
inline std::string shown(std::string_view text) {
  std::string out(text.substr(0, 64));
  std::replace_if(
      out.begin(), out.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return out;
}

struct TableChecks {
  std::string file;  // its name

  Status wrong(std::string_view what, std::string_view expected, std::string_view got) const {
    return bad_input(file + ": " + std::string(what), expected, got);
  }
  // The same for what a sound file of another version of kvass may have.
  Status cannot(std::string_view what, std::string_view expected, std::string_view got) const {
    return unsupported(file + ": " + std::string(what), expected, got);
  }
  Status in_file(const Status& status) const { return status.with_message(file + ": " + shown_message(status)); }
  // Names of the file may stand in a message; it stays one line.
  static std::string shown_message(const Status& status) {
    std::string out = status.message();
    std::replace_if(
        out.begin(), out.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; }, '?');
    return out;
  }
  Status at_most(std::string_view what, size_t count, size_t most) const {
    if (count <= most) return {};
    return wrong(what, "at most " + std::to_string(most), std::to_string(count));
  }
  Status read_name(std::string_view what, const flatbuffers::String* from, std::string& to,
                   size_t most = kMostNameBytes) const {
    KVASS_RETURN_IF_ERROR(at_most(std::string(what) + " in bytes", view(from).size(), most));
    to = view(from);
    return {};
  }
};

}  // namespace kvass
