// How much of a test is run. Address and thread sanitizers make every instruction many times slower, and they check the
// code that runs, not rare numbers. Under them a test has fewer random cases and shorter inputs, but still every kind
// of case (each type, each operator, more than one thread). All other builds run the whole test.
#pragma once

#if defined(__SANITIZE_THREAD__)  // GCC
#define KVASS_THREAD_SANITIZED 1
#elif defined(__SANITIZE_ADDRESS__)
#define KVASS_ADDRESS_SANITIZED 1
#elif defined(__has_feature)  // Clang
#if __has_feature(thread_sanitizer)
#define KVASS_THREAD_SANITIZED 1
#elif __has_feature(address_sanitizer)
#define KVASS_ADDRESS_SANITIZED 1
#endif
#endif
#if defined(KVASS_THREAD_SANITIZED) || defined(KVASS_ADDRESS_SANITIZED)
#define KVASS_SANITIZED 1
#else
#define KVASS_SANITIZED 0
#endif

namespace kvass::testing {

inline constexpr bool kSanitized = KVASS_SANITIZED != 0;
#if defined(KVASS_THREAD_SANITIZED)
inline constexpr bool kThreadSanitized = true;
#else
inline constexpr bool kThreadSanitized = false;
#endif

// A number of cases, steps or tokens: `all`, or `sanitized` under a sanitizer.
template <class Count>
constexpr Count effort(Count all, Count sanitized) {
  return kSanitized ? sanitized : all;
}

}  // namespace kvass::testing
