# llama.cpp, as a part of this build. ./quickstart and ./check fetch the pinned source archive.
set(LLAMA_BUILD_COMMON ON CACHE BOOL "" FORCE)
foreach(part TESTS TOOLS EXAMPLES SERVER APP UI)
  set(LLAMA_BUILD_${part} OFF CACHE BOOL "" FORCE)
endforeach()
set(LLAMA_OPENSSL OFF CACHE BOOL "" FORCE)
set(LLAMA_CURL OFF CACHE BOOL "" FORCE)
set(LLAMA_USE_PREBUILT_UI OFF CACHE BOOL "" FORCE)
set(BUILD_SHARED_LIBS OFF)
if(NOT EXISTS "${ASTER_LLAMA_DIR}/include/llama.h")
  message(FATAL_ERROR "ASTER_LLAMA_DIR='${ASTER_LLAMA_DIR}': expected llama.cpp's source tree. "
    "./quickstart fetches it; or pass -DASTER_LLAMA_DIR=<path>.")
endif()
add_subdirectory(${ASTER_LLAMA_DIR} llama.cpp EXCLUDE_FROM_ALL)
