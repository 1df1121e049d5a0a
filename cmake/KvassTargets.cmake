# How kvass code is compiled: one place for every flag; and what its libraries are made of.
#
# The numerics need: no contraction (every fused multiply-add is written out), no fast-math, and a baseline with hardware
# fma so that the scalar reference is one instruction a step. Files named *_<isa>.cc get that instruction set on top.

# None of it reaches a program that uses the library: it sees the public headers and C++20, no more.

add_library(kvass_flags INTERFACE)
target_include_directories(kvass_flags INTERFACE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
target_compile_features(kvass_flags INTERFACE cxx_std_20)

function(kvass_compile_options)
  foreach(option ${ARGN})
    target_compile_options(kvass_flags INTERFACE $<$<NOT:$<COMPILE_LANGUAGE:CUDA>>:${option}>)
  endforeach()
endfunction()

kvass_compile_options(-Wall -Wextra -Wno-psabi $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict> -ffp-contract=off -fno-math-errno)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  kvass_compile_options(-march=x86-64-v3)
endif()
if(KVASS_NATIVE)
  kvass_compile_options(-mtune=native)
endif()
if(KVASS_EMULATE_AVX512)
  target_compile_definitions(kvass_flags INTERFACE KVASS_EMULATE_AVX512)
endif()
if(KVASS_SANITIZE)
  kvass_compile_options("-fsanitize=${KVASS_SANITIZE}" -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(kvass_flags INTERFACE -fsanitize=${KVASS_SANITIZE})
endif()
if(KVASS_FUZZERS)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "KVASS_FUZZERS: expected Clang (cmake --preset fuzz), got ${CMAKE_CXX_COMPILER_ID}")
  endif()
  kvass_compile_options(-fsanitize=fuzzer-no-link)
endif()

# kvass_public(<target>): what a program sees of kvass that links it.
function(kvass_public target)
  target_include_directories(${target} INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_compile_features(${target} INTERFACE cxx_std_20)
endfunction()

# kvass_add_component(<name> <component it needs> <files…>): the static library kvass_<name>.
function(kvass_add_component name needs)
  set(target kvass_${name})
  add_library(${target} STATIC ${ARGN})
  if(NOT KVASS_STATIC)
    set_target_properties(${target} PROPERTIES EXCLUDE_FROM_ALL ON)
  endif()
  if(KVASS_PIC)
    # Hidden symbols keep the code as it is without: calls are direct, and the compiler may look into them.
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  endif()
  target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:kvass_flags>)
  kvass_public(${target})
  if(needs)
    target_link_libraries(${target} PUBLIC kvass_${needs})
  endif()
  set_property(GLOBAL APPEND PROPERTY KVASS_COMPONENTS ${name})
endfunction()

# kvass_use_headers(<target> <library>): of a library that has nothing else, so that nobody needs it to link the target.
function(kvass_use_headers target library)
  target_include_directories(${target} SYSTEM PRIVATE $<TARGET_PROPERTY:${library},INTERFACE_INCLUDE_DIRECTORIES>)
endfunction()

# kvass_add_libraries(): what programs link, over the components. kvass::core, kvass::text, kvass::speech and kvass::kvass,
# which is all of them; kvass_internal, for programs of this project that look inside.
function(kvass_add_libraries)
  get_property(components GLOBAL PROPERTY KVASS_COMPONENTS)
  list(TRANSFORM components PREPEND kvass_ OUTPUT_VARIABLE archives)
  list(REVERSE archives)
  add_library(kvass INTERFACE)
  target_link_libraries(kvass INTERFACE ${archives})
  add_library(kvass_internal INTERFACE)
  target_link_libraries(kvass_internal INTERFACE kvass_flags ${archives})
  if(KVASS_SHARED)
    # One shared library of the same objects: components call each other's insides, which it does not show.
    add_library(kvass_shared SHARED ${PROJECT_SOURCE_DIR}/cmake/exports.map)
    list(JOIN archives "," archive_list)
    set_target_properties(kvass_shared PROPERTIES OUTPUT_NAME kvass LINKER_LANGUAGE CXX
      VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
      LINK_LIBRARY_OVERRIDE "WHOLE_ARCHIVE,${archive_list}" LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/exports.map)
    target_link_libraries(kvass_shared PRIVATE ${archives})
    target_link_options(kvass_shared PRIVATE LINKER:--version-script=${PROJECT_SOURCE_DIR}/cmake/exports.map
      LINKER:--no-undefined LINKER:-Bsymbolic-functions)
    kvass_public(kvass_shared)
  endif()
  foreach(name ${components})
    if(KVASS_STATIC)
      add_library(kvass::${name} ALIAS kvass_${name})
    else()
      add_library(kvass::${name} ALIAS kvass_shared)
    endif()
  endforeach()
  if(KVASS_STATIC)
    add_library(kvass::kvass ALIAS kvass)
  else()
    add_library(kvass::kvass ALIAS kvass_shared)
  endif()
endfunction()

# kvass_isa_flags(<files…>): the instruction set that a file's name asks for.
function(kvass_isa_flags)
  foreach(source ${ARGN})
    if(source MATCHES "_avx512vnni\\.cc$" AND NOT KVASS_EMULATE_AVX512)
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS
        "-Wno-uninitialized;-Wno-maybe-uninitialized;-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mavx512vnni;-mprefer-vector-width=512")
    elseif(source MATCHES "/arm_(neon|dotprod|i8mm)\\.cc$")
      # GCC's first scheduling would move every load of a loop before it and spill what that displaces.
      set(neon "$<$<CXX_COMPILER_ID:GNU>:-fno-schedule-insns>")
      set(dotprod "${neon};-march=armv8.2-a+dotprod")
      set(i8mm "${dotprod}+i8mm")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${${CMAKE_MATCH_1}}")
    endif()
    # Whole blocks of vectors: with a check at every pointer these units take many minutes. The address sanitizer sees a
    # wrong pointer when it is used; what is not about pointers is checked here too.
    if(KVASS_SANITIZE MATCHES "undefined" AND source MATCHES "/kernels/.*/x86_[a-z0-9]+\\.cc$")
      set_property(SOURCE ${source} APPEND PROPERTY COMPILE_OPTIONS
        -g0 -fno-sanitize=null,alignment,pointer-overflow,object-size,bounds)
    endif()
  endforeach()
endfunction()

# Device code: *.cu, one text for three compilers (src/device/code.h). No contraction, denormals kept, correctly rounded
# division and square root on all of them.
set(KVASS_CUDA_FLAGS -fmad=false -ftz=false -prec-div=true -prec-sqrt=true --expt-relaxed-constexpr
  "SHELL:-Xcompiler -ffp-contract=off" "SHELL:-diag-suppress 177,186")
set(KVASS_HIP_FLAGS -std=c++20 -O3 -ffp-contract=off -fhip-fp32-correctly-rounded-divide-sqrt -fno-gpu-flush-denormals-to-zero
  -fno-gpu-rdc -Wno-unused-function)

# kvass_device_sources(<target> <kind> <files…>): device code as a part of a target, for cuda, rocm or emulated. A folder
# compiles it for one kind with the C++ compiler or nvcc: CMake keeps a file's language by folder.
function(kvass_device_sources target kind)
  if(kind STREQUAL "cuda")
    target_sources(${target} PRIVATE ${ARGN})
    set_target_properties(${target} PROPERTIES CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON)
    target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${KVASS_CUDA_FLAGS}>")
  elseif(kind STREQUAL "emulated")
    target_sources(${target} PRIVATE ${ARGN})
    set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX
      COMPILE_OPTIONS "-Wno-unused-function;-Wno-unknown-pragmas" COMPILE_DEFINITIONS KVASS_EMULATE_CUDA)
  else()
    foreach(source ${ARGN})
      file(RELATIVE_PATH name ${PROJECT_SOURCE_DIR}/src ${source})
      string(REPLACE "/" "_" name ${name})
      set(object ${CMAKE_CURRENT_BINARY_DIR}/hip/${name}.o)
      list(TRANSFORM KVASS_HIP_ARCHITECTURES PREPEND --offload-arch= OUTPUT_VARIABLE targets)
      add_custom_command(OUTPUT ${object} DEPFILE ${object}.d DEPENDS ${source} COMMENT "hipcc ${name}" VERBATIM
        COMMAND ${KVASS_HIPCC} -x hip -c ${source} -o ${object} -MD -MF ${object}.d ${KVASS_HIP_FLAGS} ${targets} -fPIC
          -I${PROJECT_SOURCE_DIR}/include -I${PROJECT_SOURCE_DIR}/src)
      target_sources(${target} PRIVATE ${object})
      set_source_files_properties(${object} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
    endforeach()
  endif()
endfunction()

# kvass_fuzzer_name(<variable> <file>): src/<folder>/<name>_fuzz.cc is <folder>_<name>_fuzz.
function(kvass_fuzzer_name variable source)
  file(RELATIVE_PATH name ${PROJECT_SOURCE_DIR}/src ${source})
  string(REGEX REPLACE "\\.cc$" "" name ${name})
  string(REPLACE "/" "_" name ${name})
  set(${variable} ${name} PARENT_SCOPE)
endfunction()

# kvass_add_fuzzers(<files…>): each src/<folder>/<name>_fuzz.cc is a libFuzzer program <folder>_<name>_fuzz.
function(kvass_add_fuzzers)
  foreach(source ${ARGN})
    kvass_fuzzer_name(name ${source})
    add_executable(${name} ${source})
    target_link_libraries(${name} PRIVATE kvass_commands Threads::Threads)
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/fuzz)
  endforeach()
endfunction()

# kvass_add_benchmarks(<files…>): all of them in one Google Benchmark program, kvass_bench_kernels; the test `benchmarks`
# runs a small one of each for an instant. The files register their benchmarks and have no main of their own.
function(kvass_add_benchmarks)
  if(NOT ARGN)
    return()
  endif()
  find_package(benchmark REQUIRED)
  add_executable(kvass_bench_kernels ${ARGN})
  target_link_libraries(kvass_bench_kernels PRIVATE kvass_internal benchmark::benchmark_main fmt::fmt Threads::Threads)
  set_target_properties(kvass_bench_kernels PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
  if(KVASS_TESTS)
    set(small "^decode/heads:4.*keys:4096|^rows_decode.*keys:4096|^rows_prefill.*rows:512|^prefill/heads:8.*rows:512")
    add_test(NAME benchmarks COMMAND kvass_bench_kernels "--benchmark_filter=${small}|/(F16|Q4_K)/.*/threads:2"
                                     --benchmark_min_time=0.001)
    set_tests_properties(benchmarks PROPERTIES FAIL_REGULAR_EXPRESSION "ERROR OCCURRED|Failed to match")
  endif()
endfunction()
