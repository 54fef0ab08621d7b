# Installs into a fresh prefix, compiles each header and builds examples/ against that alone, and asks
# the example two questions.
set(work ${BUILD}/install_test)
set(prefix ${work}/prefix)
file(REMOVE_RECURSE ${work})
file(MAKE_DIRECTORY ${work})

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE errors)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${ARGN}\nended with ${result}\n${output}\n${errors}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})

# Only what is ours was installed, and no name of llama.cpp's leaves the library.
file(GLOB_RECURSE installed RELATIVE ${prefix} ${prefix}/*)
foreach(file ${installed})
  if(NOT file MATCHES "aster")
    message(FATAL_ERROR "installed, though not ours: ${file}")
  endif()
endforeach()
file(GLOB library ${prefix}/lib*/libaster.so ${prefix}/lib*/*/libaster.so)
run(nm -D --defined-only --extern-only ${library})
if(NOT output MATCHES "5aster5Model4Load" OR output MATCHES " (llama|ggml|gguf)_")
  message(FATAL_ERROR "expected the API and nothing else among the exported names:\n${output}")
endif()

# Every function that a header declares can be linked.
run(nm -DC --defined-only --extern-only ${library})
file(GLOB headers ${prefix}/include/aster/*.h)
set(n_functions 0)
foreach(header ${headers})
  file(STRINGS ${header} lines REGEX "^[A-Za-z][^=(]* [*&]?[A-Z][A-Za-z]*\\(")
  foreach(line ${lines})
    if(line MATCHES "^(inline|constexpr|template|using|class|struct|friend) ")
      continue()
    endif()
    string(REGEX REPLACE "^[^(]*[ *&]([A-Z][A-Za-z]*)\\(.*" "\\1" name "${line}")
    math(EXPR n_functions "${n_functions} + 1")
    string(FIND "${output}" " aster::${name}(" at)
    if(at EQUAL -1)
      message(FATAL_ERROR "${header} declares ${name}, which ${library} does not show; expected it in cmake/aster.map")
    endif()
  endforeach()
endforeach()
foreach(name "Session::Start" "ChatReader::Read" "HostShare::n_held" "HostTrace::work")
  if(NOT output MATCHES " aster::${name}\\(")
    message(FATAL_ERROR "aster::${name} is not among the exported names")
  endif()
endforeach()
if(n_functions LESS 25)
  message(FATAL_ERROR "${n_functions} functions found in the headers: expected more")
endif()

# Each header can be included first and alone, and includes no more than the standard library.
foreach(header ${headers})
  get_filename_component(name ${header} NAME_WE)
  file(WRITE ${work}/headers/${name}.cc "#include <aster/${name}.h>\n")
endforeach()
file(WRITE ${work}/headers/CMakeLists.txt "
cmake_minimum_required(VERSION 3.25)
project(aster_headers LANGUAGES CXX)
find_package(aster 0.1 REQUIRED)
file(GLOB sources *.cc)
add_library(headers OBJECT \${sources})
target_link_libraries(headers PRIVATE aster::aster)
")
run(${CMAKE_COMMAND} -S ${work}/headers -B ${work}/headers/build -DCMAKE_PREFIX_PATH=${prefix})
run(${CMAKE_COMMAND} --build ${work}/headers/build)

run(${CMAKE_COMMAND} -S ${SOURCE}/examples -B ${work}/build -DCMAKE_PREFIX_PATH=${prefix}
    -DCMAKE_BUILD_TYPE=Release)
run(${CMAKE_COMMAND} --build ${work}/build)

file(WRITE ${work}/note.txt "The ferry to Skarholm leaves at noon. One of the special magic numbers "
  "for the ferry is: 7391. The crew likes tea.")
run(${work}/build/ask_document ${MODEL} ${work}/note.txt
    "What is the special magic number for the ferry mentioned in the provided text?"
    "What does the crew like?")
if(NOT output MATCHES "7391.*\n.+")
  message(FATAL_ERROR "expected 7391 and a second answer, got:\n${output}")
endif()
