# What ./quickstart configures needs no package of the tests, and no MPI: a machine that happened to
# have GoogleTest but not SIMDe, and one without MPI but with pkg-config, could not build Aster.
set(scratch ${BUILD}/configure_test)
file(REMOVE_RECURSE ${scratch})
# As if MPI were not installed: neither its compilers nor its package files are found.
set(ENV{PKG_CONFIG_LIBDIR} ${scratch}/none)
set(ENV{PKG_CONFIG_PATH} "")
# And from a path with a space.
file(MAKE_DIRECTORY ${scratch})
file(CREATE_LINK ${SOURCE} "${scratch}/a clone" SYMBOLIC)
execute_process(COMMAND ${CMAKE_COMMAND} -S "${scratch}/a clone" -B ${scratch} --preset release -G ${GENERATOR}
                        -DASTER_LLAMA_DIR=${LLAMA_DIR} -DMPI_EXECUTABLE_SUFFIX=.none
                WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE said COMMAND_ERROR_IS_FATAL ANY)
load_cache(${scratch} READ_WITH_PREFIX configured_ ASTER_TESTS)
if(NOT said MATCHES "no MPI")
  message(FATAL_ERROR "expected a build without MPI; configuring said:\n${said}")
endif()
if(NOT "${configured_ASTER_TESTS}" STREQUAL "OFF")
  message(FATAL_ERROR "ASTER_TESTS is '${configured_ASTER_TESTS}' by default, expected OFF")
endif()
execute_process(COMMAND ${CMAKE_COMMAND} --build ${scratch} --target aster_cluster
                COMMAND_ERROR_IS_FATAL ANY)
if(GENERATOR STREQUAL "Ninja")  # one object of those that are compiled with a file of that path
  execute_process(COMMAND ${CMAKE_COMMAND} --build ${scratch}
                          --target llama.cpp/ggml/src/CMakeFiles/ggml-cpu.dir/ggml-cpu/hbm.cpp.o
                  COMMAND_ERROR_IS_FATAL ANY)
endif()
file(REMOVE_RECURSE ${scratch})
