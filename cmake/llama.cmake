# llama.cpp, as a part of this build: ASTER_LLAMA_DIR, or the source that ./quickstart and ./check
# put into the cache.
if(NOT ASTER_LLAMA_DIR)
  set(ASTER_LLAMA_DIR ${ASTER_CACHE_DIR}/llama.cpp-${PIN_LLAMA_VERSION})
endif()
if(NOT EXISTS "${ASTER_LLAMA_DIR}/include/llama.h")
  message(FATAL_ERROR "No llama.cpp source tree in '${ASTER_LLAMA_DIR}'. ./quickstart fetches the "
    "pinned one; or pass -DASTER_LLAMA_DIR=<checkout>.")
endif()

foreach(part TESTS TOOLS EXAMPLES SERVER APP UI)
  set(LLAMA_BUILD_${part} OFF CACHE BOOL "" FORCE)
endforeach()
foreach(option LLAMA_SUBPROCESS LLAMA_USE_PREBUILT_UI LLAMA_ALL_WARNINGS GGML_ALL_WARNINGS
        GGML_CCACHE BUILD_SHARED_LIBS)
  set(${option} OFF CACHE BOOL "" FORCE)
endforeach()
set(LLAMA_BUILD_COMMON ON CACHE BOOL "" FORCE)
set(LLAMA_OPENSSL ON CACHE BOOL "" FORCE)  # of the HTTP library, which aster serve uses too
add_subdirectory(${ASTER_LLAMA_DIR} llama.cpp EXCLUDE_FROM_ALL SYSTEM)

# Half the time of its 50 files goes into the same headers. Of the pinned source alone is it known that
# they can be compiled together.
if(ASTER_LLAMA_DIR MATCHES "llama\\.cpp-${PIN_LLAMA_VERSION}$")
  set_target_properties(llama-common PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 6)
  set_property(SOURCE ${ASTER_LLAMA_DIR}/common/json.cpp ${ASTER_LLAMA_DIR}/common/arg.cpp
    TARGET_DIRECTORY llama-common PROPERTY SKIP_UNITY_BUILD_INCLUSION ON)
endif()

if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  target_compile_options(ggml-cpu PRIVATE
    "SHELL:-include \"${PROJECT_SOURCE_DIR}/cmake/amx_tile_loadconfig.h\"")
endif()
