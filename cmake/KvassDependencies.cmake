# The libraries that kvass is built with, by component. What has headers only never reaches who links kvass; the others do
# where the library is static (kvass-config.cmake.in, kvass.pc.in).

# Their names in pkg-config and here differ in a prefix, so that a parent project may look for the same ones its own way.
function(kvass_find_module name module component)
  find_package(PkgConfig REQUIRED)
  pkg_check_modules(KVASS_${name} QUIET IMPORTED_TARGET ${module})
  if(NOT KVASS_${name}_FOUND)
    message(FATAL_ERROR "kvass ${component}: expected the library ${module}, got none (pkg-config ${module}); "
      "install its development files${ARGN}")
  endif()
endfunction()

find_package(Threads REQUIRED)
if(KVASS_CORE_ONLY)
  include(${CMAKE_CURRENT_LIST_DIR}/KvassCoreOnly.cmake)
else()
  find_package(fmt REQUIRED)
  kvass_find_module(XXHASH libxxhash core)
endif()

if(KVASS_TEXT)
  find_program(KVASS_FLATC flatc REQUIRED)  # FlatBuffers; its headers are all that is used of the library
  mark_as_advanced(KVASS_FLATC)
  if(NOT KVASS_CORE_ONLY)
    find_package(nlohmann_json REQUIRED)
    kvass_find_module(PCRE2 libpcre2-8 text ", or build without it: KVASS_TEXT=OFF")
    kvass_find_module(UTF8PROC libutf8proc text ", or build without it: KVASS_TEXT=OFF")
  endif()
endif()

if(KVASS_SPEECH)
  set(KVASS_WITHOUT_SPEECH ", or build without it: KVASS_SPEECH=OFF")
  kvass_find_module(SNDFILE sndfile speech ${KVASS_WITHOUT_SPEECH})
  kvass_find_module(SAMPLERATE samplerate speech ${KVASS_WITHOUT_SPEECH})
  kvass_find_module(ZLIB zlib speech ${KVASS_WITHOUT_SPEECH})
  # Of kissfft the template alone, which needs no library.
  find_path(KVASS_KISSFFT_INCLUDE kissfft/kissfft.hh REQUIRED)
  mark_as_advanced(KVASS_KISSFFT_INCLUDE)
endif()

if(KVASS_CLI)
  find_package(CLI11 REQUIRED)
  find_package(yaml-cpp REQUIRED)
  kvass_find_module(CURL libcurl program)
  kvass_find_module(CRYPTO libcrypto program)
  find_package(Boost 1.74 REQUIRED)  # Asio and Beast, headers alone, of the server
endif()
if(KVASS_TESTS AND NOT KVASS_CORE_ONLY)
  find_package(GTest REQUIRED)
endif()
