# What Aster is built from, in the versions of scripts/pins.sh.
file(STRINGS ${PROJECT_SOURCE_DIR}/scripts/pins.sh pins REGEX "^[A-Z0-9_]+=")
foreach(pin ${pins})
  string(REGEX MATCH "^([A-Z0-9_]+)=(.*)$" pin "${pin}")
  set(PIN_${CMAKE_MATCH_1} "${CMAKE_MATCH_2}")
endforeach()
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS scripts/pins.sh)

set(ASTER_CACHE_DIR $ENV{HOME}/.cache/aster)  # where the scripts put sources and models
if(NOT "$ENV{XDG_CACHE_HOME}" STREQUAL "")
  set(ASTER_CACHE_DIR $ENV{XDG_CACHE_HOME}/aster)
endif()

find_package(Threads REQUIRED)
find_package(CLI11 ${PIN_CLI11_MINIMUM} REQUIRED)

# Our own use of OpenMP; ggml's is GGML_OPENMP. One runtime for all: the compiler's.
add_library(aster_openmp INTERFACE)
if(ASTER_OPENMP)
  find_package(OpenMP)
  if(NOT OpenMP_CXX_FOUND)
    message(FATAL_ERROR "No OpenMP for ${CMAKE_CXX_COMPILER}; for clang install libomp-dev")
  endif()
  target_link_libraries(aster_openmp INTERFACE OpenMP::OpenMP_CXX)
else()
  target_compile_options(aster_openmp INTERFACE -Wno-unknown-pragmas)
  target_include_directories(aster_openmp INTERFACE ${PROJECT_SOURCE_DIR}/cmake/no_openmp)
endif()

# MPI, as MPI::MPI_CXX: look at MPI_CXX_FOUND, since the target is there, but empty, without MPI too. Its
# C++ bindings are left out: they were dropped from MPI long ago.
if(ASTER_MPI)
  set(MPI_CXX_SKIP_MPICXX ON)
  find_package(MPI QUIET COMPONENTS CXX)
  if(NOT MPI_CXX_FOUND)
    message(STATUS "Aster: no MPI (libopenmpi-dev): one host only")
  endif()
endif()

# oneDNN, as DNNL::dnnl. Looked for by hand: Debian's own package file insists on OpenCL.
if(ASTER_ONEDNN)
  find_path(DNNL_INCLUDE_DIR dnnl.hpp)
  find_library(DNNL_LIBRARY dnnl)
  if(DNNL_LIBRARY AND EXISTS "${DNNL_INCLUDE_DIR}/oneapi/dnnl/dnnl_version.h")
    file(STRINGS ${DNNL_INCLUDE_DIR}/oneapi/dnnl/dnnl_version.h version REGEX "define DNNL_VERSION_M")
    string(REGEX REPLACE ".*MAJOR ([0-9]+).*MINOR ([0-9]+).*" "\\1.\\2" version "${version}")
  endif()
  if(version VERSION_GREATER_EQUAL PIN_DNNL_MINIMUM)
    add_library(DNNL::dnnl SHARED IMPORTED GLOBAL)
    set_target_properties(DNNL::dnnl PROPERTIES IMPORTED_LOCATION ${DNNL_LIBRARY}
                          INTERFACE_INCLUDE_DIRECTORIES ${DNNL_INCLUDE_DIR})
    message(STATUS "Aster: linear layers may use oneDNN ${version}")
  else()
    message(STATUS "Aster: no oneDNN ${PIN_DNNL_MINIMUM} or later (libdnnl-dev): linear layers stay ggml's")
  endif()
endif()
