# aster_test(<name> SOURCES <files> [LIBRARIES <targets>] [LABEL <label>] [TIMEOUT <seconds>] [WHOLE])
#
# A GoogleTest program whose cases are ctest's tests; with WHOLE the program is one test, so that what
# it loads (a model) is loaded once. Label: `sanitize` = also run under the sanitizers, so it must be
# quick; `model` = needs $ASTER_TEST_MODEL; `slow` = takes over 20 seconds.
include(GoogleTest)

if(NOT ASTER_TEST_MODEL)
  set(ASTER_TEST_MODEL ${ASTER_CACHE_DIR}/models/SmolLM2-135M-Instruct.Q4_1.gguf)
endif()

# What `ctest -L sanitize` needs, and no more: `./check` builds this under the sanitizers.
add_custom_target(sanitize_tests)
add_dependencies(sanitize_tests aster_cli)

function(aster_test name)
  cmake_parse_arguments(PARSE_ARGV 1 test "WHOLE" "TIMEOUT;LABEL" "SOURCES;LIBRARIES")
  if(NOT test_TIMEOUT)
    set(test_TIMEOUT 120)
  endif()
  add_executable(${name} ${test_SOURCES})
  target_link_libraries(${name} PRIVATE ${test_LIBRARIES} GTest::gtest GTest::gmock GTest::gtest_main)
  set(properties TIMEOUT ${test_TIMEOUT} ENVIRONMENT "ASTER_TEST_MODEL=${ASTER_TEST_MODEL}")
  if(test_LABEL)  # gtest_discover_tests drops an empty value and takes the next name for it
    list(APPEND properties LABELS ${test_LABEL})
  endif()
  if(test_LABEL STREQUAL "sanitize")
    add_dependencies(sanitize_tests ${name})
  endif()
  if(test_WHOLE)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES ${properties})
  else()
    gtest_discover_tests(${name} TEST_PREFIX ${name}. DISCOVERY_TIMEOUT 60 PROPERTIES ${properties})
  endif()
endfunction()
