# ASTER_SANITIZE ("address;undefined" or "thread"). The address and thread sanitizers cover llama.cpp
# too: half a sanitizer sees half of the overflows, and a thread sanitizer that misses a thread tells
# nonsense. The undefined-behaviour sanitizer is for our own targets (aster_options), which stop at its
# first finding: llama.cpp's findings are left to llama.cpp, and its compilation would take twice as long.
if(ASTER_SANITIZE)
  foreach(sanitizer ${ASTER_SANITIZE})
    if(NOT sanitizer STREQUAL "undefined")
      add_compile_options(-fsanitize=${sanitizer})
    endif()
    add_link_options(-fsanitize=${sanitizer})
  endforeach()
  add_compile_options(-fno-omit-frame-pointer)
endif()
