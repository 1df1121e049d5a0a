# Installs the built library below a folder of its own and uses it as outside projects would: by find_package and by
# pkg-config, static and shared, by component, and from source inside another project.
#     cmake -DBUILD=<build folder> -DSOURCE=<repository> … -P package_test.cmake
cmake_minimum_required(VERSION 3.25)
set(work ${BUILD}/package_test)
file(REMOVE_RECURSE ${work})
set(prefix ${work}/prefix)
set(package ${SOURCE}/tests/package)

# run(<what> <command…>): the command succeeds; its output is in `output`.
function(run what)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT code EQUAL 0)
    message(FATAL_ERROR "${what}: exit ${code}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

function(configure source build)
  run("configure ${build}" ${CMAKE_COMMAND} -S ${source} -B ${work}/${build} -G ${GENERATOR} -DCMAKE_BUILD_TYPE=Release
    -DCMAKE_C_COMPILER=${C_COMPILER} -DCMAKE_CXX_COMPILER=${CXX_COMPILER} ${ARGN})
  set(output "${output}" PARENT_SCOPE)
endfunction()

# expect_program(<program>): tests/package/program.cc does what it should.
function(expect_program program)
  run("run ${program}" ${program})
  if(NOT output STREQUAL "out 3 slot 4\n")
    message(FATAL_ERROR "${program}: ${output}")
  endif()
endfunction()

# expect_generate(<program>): examples/generate.c, which refuses a file that is not there.
function(expect_generate program)
  execute_process(COMMAND ${program} /no/such/model.kvp text 1 RESULT_VARIABLE code ERROR_VARIABLE output)
  if(NOT code EQUAL 1 OR NOT output MATCHES "/no/such/model.kvp: expected")
    message(FATAL_ERROR "${program}: exit ${code}\n${output}")
  endif()
endfunction()

run("install" ${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})
foreach(file include/kvass/kvass.h include/kvass/operators.h include/kvass/export.h bin/kvass)
  if(NOT EXISTS ${prefix}/${file})
    message(FATAL_ERROR "install: no ${file}")
  endif()
endforeach()
file(GLOB_RECURSE pc ${prefix}/kvass.pc)
get_filename_component(pkgconfig ${pc} DIRECTORY)
get_filename_component(libraries ${pkgconfig} DIRECTORY)

# A pkg-config that does not know what the wanted components must do without.
function(pkg_config_without name pattern)
  file(WRITE ${work}/${name} "#!/bin/sh\ncase \"$*\" in *${pattern}*) exit 1;; esac\nexec ${PKG_CONFIG} \"$@\"\n")
  file(CHMOD ${work}/${name} PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
endfunction()
pkg_config_without(pkg_config_core "pcre2*|*utf8proc*|*sndfile*|*samplerate*|*zlib")
pkg_config_without(pkg_config_text "sndfile*|*samplerate*|*zlib")

include(${SOURCE}/tests/package_examples.cmake)
foreach(form ${FORMS})
  # All the examples.
  string(COMPARE EQUAL ${form} shared is_shared)
  configure(${SOURCE}/examples examples_${form} -DCMAKE_PREFIX_PATH=${prefix} -DBUILD_SHARED_LIBS=${is_shared})
  run("build examples, ${form}" ${CMAKE_COMMAND} --build ${work}/examples_${form})
  expect_generate(${work}/examples_${form}/generate)
  run_examples(${work}/examples_${form} ${work}/models)

  # Components, where the libraries of the others are not installed.
  foreach(last core text)
    string(REGEX MATCH "^.*${last}" components "core;text")
    configure(${package}/outside ${last}_${form} -DCMAKE_PREFIX_PATH=${prefix} "-DCOMPONENTS=${components};${form}"
      -DPKG_CONFIG_EXECUTABLE=${work}/pkg_config_${last} -DCMAKE_DISABLE_FIND_PACKAGE_nlohmann_json=ON)
    run("build ${last}, ${form}" ${CMAKE_COMMAND} --build ${work}/${last}_${form})
    expect_program(${work}/${last}_${form}/program)
  endforeach()

  # pkg-config: a C program, linked with nothing but what it says.
  set(ENV{PKG_CONFIG_PATH} ${pkgconfig})
  if(form STREQUAL "shared")
    set(module kvass)
    set(link -Wl,-rpath,${libraries})
  else()
    set(module kvass-static)
    set(link)
  endif()
  run("pkg-config ${module}" ${PKG_CONFIG} --cflags --libs ${module})
  separate_arguments(flags UNIX_COMMAND "${output}")
  run("compile by pkg-config, ${form}" ${C_COMPILER} -std=c99 -o ${work}/generate_${form} ${SOURCE}/examples/generate.c ${flags} ${link})
  expect_generate(${work}/generate_${form})
endforeach()

# A library that is missing is named, with the way round it.
if("static" IN_LIST FORMS)
  execute_process(COMMAND ${CMAKE_COMMAND} -S ${package}/outside -B ${work}/refused -G ${GENERATOR} -DCMAKE_PREFIX_PATH=${prefix}
    "-DCOMPONENTS=core;text;speech;static" -DPKG_CONFIG_EXECUTABLE=${work}/pkg_config_text RESULT_VARIABLE code ERROR_VARIABLE output OUTPUT_QUIET)
  if(code EQUAL 0 OR NOT output MATCHES "kvass::speech: expected[ \n]+sndfile")
    message(FATAL_ERROR "find_package without libsndfile: exit ${code}\n${output}")
  endif()
  execute_process(COMMAND ${CMAKE_COMMAND} -S ${package}/outside -B ${work}/c_alone -G ${GENERATOR} -DCMAKE_PREFIX_PATH=${prefix}
    -DLANGUAGES=C "-DCOMPONENTS=core;static" RESULT_VARIABLE code ERROR_VARIABLE output OUTPUT_QUIET)
  if(code EQUAL 0 OR NOT output MATCHES "LANGUAGES[ \n]+C[ \n]+CXX")
    message(FATAL_ERROR "find_package of a project in C alone: exit ${code}\n${output}")
  endif()
endif()

# Inside another project, which has what the wanted components need and nothing more.
set(nothing_more)
foreach(name GTest benchmark CLI11 yaml-cpp ZLIB SndFile Python Python3 nanobind)
  list(APPEND nothing_more -DCMAKE_DISABLE_FIND_PACKAGE_${name}=ON)
endforeach()
configure(${package}/parent inside_core -DKVASS_SOURCE=${SOURCE} -DKVASS_TEXT=OFF ${nothing_more}
  -DPKG_CONFIG_EXECUTABLE=${work}/pkg_config_core -DCMAKE_DISABLE_FIND_PACKAGE_nlohmann_json=ON)
if(NOT INSIDE)
  return()  # this build has objects that the other would not
endif()
configure(${package}/parent inside -DKVASS_SOURCE=${SOURCE} -DKVASS_SPEECH=OFF -DBUILD_SHARED_LIBS=ON ${nothing_more}
  -DPKG_CONFIG_EXECUTABLE=${work}/pkg_config_text -DCMAKE_EXPORT_COMPILE_COMMANDS=ON ${INSIDE}
  -DCMAKE_CXX_COMPILER_LAUNCHER=${package}/reuse.sh)

# There it is compiled by the same commands as here: the parent's C++17 and other choices do not reach it, nor does it need
# them. So the objects are the same, and are taken from here.
function(commands_of build prefix result)
  file(STRINGS ${build}/compile_commands.json commands REGEX "\"command\".*/kvass_(core|text)\\.dir/")
  set(plain)
  foreach(command ${commands})
    string(REGEX REPLACE "^ *\"command\": \"([^ ]*(reuse.sh|ccache) )?" "" command "${command}")
    string(REGEX REPLACE "^(.*/)?(c\\+\\+|g\\+\\+|clang\\+\\+)[^ ]* " "" command "${command}")
    string(REPLACE "${build}/${prefix}" "<build>/" command "${command}")
    string(REPLACE "-o ${prefix}" "-o " command "${command}")
    list(APPEND plain "${command}")
  endforeach()
  set(${result} "${plain}" PARENT_SCOPE)
endfunction()
commands_of(${BUILD} "" here)
commands_of(${work}/inside _deps/kvass-build/ inside)
list(LENGTH inside count)
list(FILTER inside EXCLUDE REGEX "/without_[a-z]+[.]cc")  # they stand in for what is built here: compiled there
list(REMOVE_ITEM inside ${here})
if(count LESS 100 OR inside)
  list(JOIN inside "\n" inside)
  message(FATAL_ERROR "inside another project: ${count} commands, of which are not those of kvass by itself:\n${inside}")
endif()
set(ENV{KVASS_OBJECTS} ${BUILD})
run("build inside a project" ${CMAKE_COMMAND} --build ${work}/inside --target program)
expect_program(${work}/inside/bin/program)
