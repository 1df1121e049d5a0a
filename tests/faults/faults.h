// What the library that makes calls fail (faults.cc) and the test that runs programs under it (faults_test.cc) agree
// on.
//
// The program runs with LD_PRELOAD=libkvass_faults.so and KVASS_FAULT=<kind>,<call>,<once|ever>,<file>. The file has
// the size of FaultState; the library counts in it, so that nothing is lost when the program crashes.
#pragma once

#include <cstdint>

namespace kvass::faults {

// Calls of one kind are counted together from 1. `page` is a mapping of a file that works, but whose pages the disk
// does not give: the second half of them, or from the first page on if it is for ever.
#define KVASS_FAULT_KINDS(X) X(memory) X(map) X(page) X(open) X(read) X(write) X(sync) X(rename) X(thread)
enum class Kind : int {
#define KVASS_FAULT_KIND(name) name,
  KVASS_FAULT_KINDS(KVASS_FAULT_KIND)
#undef KVASS_FAULT_KIND
      count
};
inline constexpr int kKinds = static_cast<int>(Kind::count);
inline constexpr const char* kKindNames[kKinds] = {
#define KVASS_FAULT_KIND(name) #name,
    KVASS_FAULT_KINDS(KVASS_FAULT_KIND)
#undef KVASS_FAULT_KIND
};

struct FaultState {
  uint64_t calls[kKinds];   // so far
  uint64_t failed;          // of them made to fail
  uint64_t before_opening;  // calls for memory before the first file was opened
};

}  // namespace kvass::faults
