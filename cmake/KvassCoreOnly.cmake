# What the core links, from headers and sources alone: for a target whose libraries are not installed. Debian's cross
# compilers look into /usr/include last, where these headers lie for every architecture.
foreach(name fmt::fmt nlohmann_json::nlohmann_json PkgConfig::KVASS_XXHASH)
  add_library(${name} INTERFACE IMPORTED)
endforeach()
target_compile_definitions(fmt::fmt INTERFACE FMT_HEADER_ONLY)
target_compile_definitions(PkgConfig::KVASS_XXHASH INTERFACE XXH_INLINE_ALL)

if(KVASS_TESTS)
  set(KVASS_GTEST_SOURCE /usr/src/googletest CACHE PATH "Sources of GoogleTest (Debian: googletest)")
  set(INSTALL_GTEST OFF)
  set(BUILD_GMOCK OFF)
  add_subdirectory(${KVASS_GTEST_SOURCE} ${PROJECT_BINARY_DIR}/googletest EXCLUDE_FROM_ALL)
  if(NOT TARGET GTest::gtest)
    add_library(GTest::gtest ALIAS gtest)
    add_library(GTest::gtest_main ALIAS gtest_main)
  endif()
endif()
