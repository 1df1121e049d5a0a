// Builds the bytes of a CTranslate2 model.bin by hand, for tests. Not a writer for programs: nothing is checked.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "file/ct2.h"

namespace kvass::testing {

class Ct2Bytes {
 public:
  explicit Ct2Bytes(std::string specification = "WhisperSpec") : specification_(std::move(specification)) {}

  Ct2Bytes& variable(const std::string& name, const std::vector<uint32_t>& dims, Ct2Type type,
                     const std::vector<uint8_t>& data) {
    string(variables_, name);
    variables_.push_back(static_cast<uint8_t>(dims.size()));
    for (const uint32_t dim : dims) number(variables_, dim);
    variables_.push_back(static_cast<uint8_t>(type));
    number(variables_, static_cast<uint32_t>(data.size()));
    variables_.insert(variables_.end(), data.begin(), data.end());
    ++variable_count_;
    return *this;
  }
  template <class T>
  Ct2Bytes& values(const std::string& name, const std::vector<uint32_t>& dims, Ct2Type type,
                   const std::vector<T>& values) {
    const auto* const begin = reinterpret_cast<const uint8_t*>(values.data());
    return variable(name, dims, type, {begin, begin + values.size() * sizeof(T)});
  }
  Ct2Bytes& integer(const std::string& name, int8_t value) {
    return variable(name, {}, Ct2Type::i8, {static_cast<uint8_t>(value)});
  }
  Ct2Bytes& alias(const std::string& name, const std::string& target) {
    string(aliases_, name);
    string(aliases_, target);
    ++alias_count_;
    return *this;
  }

  std::vector<uint8_t> bytes(uint32_t version = 6) const {
    std::vector<uint8_t> out;
    number(out, version);
    string(out, specification_);
    number(out, uint32_t{3});
    number(out, variable_count_);
    out.insert(out.end(), variables_.begin(), variables_.end());
    number(out, alias_count_);
    out.insert(out.end(), aliases_.begin(), aliases_.end());
    return out;
  }

 private:
  template <class T>
  static void number(std::vector<uint8_t>& out, T value) {
    const auto* const begin = reinterpret_cast<const uint8_t*>(&value);
    out.insert(out.end(), begin, begin + sizeof value);
  }
  static void string(std::vector<uint8_t>& out, const std::string& text) {
    number(out, static_cast<uint16_t>(text.size() + 1));
    out.insert(out.end(), text.begin(), text.end());
    out.push_back(0);
  }

  std::string specification_;
  std::vector<uint8_t> variables_, aliases_;
  uint32_t variable_count_ = 0, alias_count_ = 0;
};

}  // namespace kvass::testing
