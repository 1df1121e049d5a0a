// Status and Result: how every kvass function reports bad input.
// Not for broken invariants (those assert) and never an exception: a function that can fail returns one of these, and
// on failure the state it was called on is as before. A message is one line: what, what was expected, what was got,
// where.
#pragma once

#include <cassert>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace kvass {

class [[nodiscard]] Status {
 public:
  Status() = default;  // success
  static Status error(std::string message) {
    Status status;
    status.message_ = std::move(message);
    if (status.message_.empty()) status.message_ = "unknown error";
    return status;
  }
  bool ok() const { return message_.empty(); }
  const std::string& message() const { return message_; }

 private:
  std::string message_;  // empty: success
};

// "<what>: expected <expected>, got <got>", the form of every input error.
inline Status bad_input(std::string_view what, std::string_view expected, std::string_view got) {
  std::string message(what);
  message.append(": expected ").append(expected).append(", got ").append(got);
  return Status::error(std::move(message));
}

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  Result(Status status) : status_(std::move(status)) { assert(!status_.ok()); }

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& value() & {
    assert(ok());
    return *value_;
  }
  const T& value() const& {
    assert(ok());
    return *value_;
  }
  T&& value() && {
    assert(ok());
    return std::move(*value_);
  }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace kvass

// Return the error of `expression` (a Status) from the enclosing function.
#define KVASS_RETURN_IF_ERROR(expression)                                                        \
  do {                                                                                           \
    if (::kvass::Status kvass_status_ = (expression); !kvass_status_.ok()) return kvass_status_; \
  } while (0)

#define KVASS_CONCAT_INNER_(a, b) a##b
#define KVASS_CONCAT_(a, b) KVASS_CONCAT_INNER_(a, b)

// `KVASS_ASSIGN_OR_RETURN(auto x, f())`: x is the value of the Result, or its error is returned.
#define KVASS_ASSIGN_OR_RETURN(declaration, expression) \
  KVASS_ASSIGN_OR_RETURN_(KVASS_CONCAT_(kvass_result_, __LINE__), declaration, expression)
#define KVASS_ASSIGN_OR_RETURN_(result, declaration, expression) \
  auto result = (expression);                                    \
  if (!result.ok()) return result.status();                      \
  declaration = std::move(result).value()
