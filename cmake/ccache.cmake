# Objects of llama.cpp are built for this CPU, so the compiler cache is kept apart by CPU. It is
# shared between clones: paths below the source tree count as relative.
find_program(ASTER_CCACHE ccache)
if(ASTER_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER AND EXISTS /proc/cpuinfo)
  file(STRINGS /proc/cpuinfo flags REGEX "^(flags|Features|model name)" LIMIT_COUNT 2)
  string(SHA256 cpu "${flags}")
  string(SUBSTRING ${cpu} 0 12 cpu)
  foreach(language C CXX)
    set(CMAKE_${language}_COMPILER_LAUNCHER
        ${CMAKE_COMMAND} -E env CCACHE_NAMESPACE=aster-${cpu} CCACHE_NOHASHDIR=1
        CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} ${ASTER_CCACHE})
  endforeach()
endif()
