// Status and Result: how every kvass function reports that it could not do what it was asked.
// A function that can fail returns one of these and throws nothing. After a failure the object it was called on is as
// before. (A broken invariant is a mistake of kvass: it asserts.) A message is one line: what, what was expected, what
// was got, where. The code says which kind of failure it is; C codes, Python exceptions and exit codes follow from it.
//
// A message that is about a field of a public struct names it as `Struct.field`, for example `CacheOptions.chunk`. The
// command line shows its flag instead (`--chunk`), Python its keyword (`chunk`).
#pragma once

#include <cassert>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace kvass {

enum class StatusCode : uint8_t {
  ok,
  bad_input,      // an argument, a file or a state that the call cannot take
  busy,           // somebody else is using the object
  cache_full,     // the stream has no room for the tokens
  out_of_memory,  // an allocation or a mapping failed
  io,             // the operating system failed to open, read or write something
  device,         // a device or its driver failed
  cancelled,      // the caller asked to stop
  unsupported,    // a sound request that kvass does not implement
  internal,       // a mistake of kvass
};

class [[nodiscard]] Status {
 public:
  Status() = default;  // success
  static Status error(StatusCode code, std::string message) {
    assert(code != StatusCode::ok);
    Status status;
    status.code_ = code;
    status.message_ = std::move(message);
    return status;
  }
  bool ok() const { return code_ == StatusCode::ok; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }
  // The same failure with another message, as when a caller adds where it happened.
  Status with_message(std::string message) const { return error(code_, std::move(message)); }

 private:
  StatusCode code_ = StatusCode::ok;
  std::string message_;
};

// "<what>: expected <expected>, got <got>", the form of most messages.
inline std::string expected_message(std::string_view what, std::string_view expected, std::string_view got) {
  std::string message(what);
  message.append(": expected ").append(expected).append(", got ").append(got);
  return message;
}
inline Status bad_input(std::string_view what, std::string_view expected, std::string_view got) {
  return Status::error(StatusCode::bad_input, expected_message(what, expected, got));
}
inline Status unsupported(std::string_view what, std::string_view expected, std::string_view got) {
  return Status::error(StatusCode::unsupported, expected_message(what, expected, got));
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
  T value() && {  // by value: `const auto& x = f().value();` must not refer into a temporary
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
  KVASS_ASSIGN_OR_RETURN_(KVASS_CONCAT_(kvass_result_, __COUNTER__), declaration, expression)
#define KVASS_ASSIGN_OR_RETURN_(result, declaration, expression) \
  auto result = (expression);                                    \
  if (!result.ok()) return result.status();                      \
  declaration = std::move(result).value()
