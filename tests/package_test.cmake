# Installs the built library below a folder of its own, and builds and runs examples/ against it, as an outside project
# would: cmake -DBUILD=<build folder> -DSOURCE=<repository> -P package_test.cmake
set(work ${BUILD}/package_test)
file(REMOVE_RECURSE ${work})

function(run what)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT code EQUAL 0)
    message(FATAL_ERROR "${what}: exit ${code}\n${output}")
  endif()
endfunction()

run("install" ${CMAKE_COMMAND} --install ${BUILD} --prefix ${work}/prefix)
foreach(file include/kvass/kvass.h bin/kvass)
  if(NOT EXISTS ${work}/prefix/${file})
    message(FATAL_ERROR "install: no ${file}")
  endif()
endforeach()
run("configure" ${CMAKE_COMMAND} -S ${SOURCE}/examples -B ${work}/build -G ${GENERATOR} -DCMAKE_BUILD_TYPE=Release
  -DCMAKE_PREFIX_PATH=${work}/prefix -DCMAKE_C_COMPILER=${C_COMPILER} -DCMAKE_CXX_COMPILER=${CXX_COMPILER})
run("build" ${CMAKE_COMMAND} --build ${work}/build)

execute_process(COMMAND ${work}/build/generate /no/such/model.kvp text 1 RESULT_VARIABLE code ERROR_VARIABLE output)
if(NOT code EQUAL 1 OR NOT output MATCHES "/no/such/model.kvp: expected")
  message(FATAL_ERROR "run: exit ${code}\n${output}")
endif()

include(${SOURCE}/tests/package_examples.cmake)
run_examples(${work}/build ${work}/models)
