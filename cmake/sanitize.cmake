# ASTER_SANITIZE ("address;undefined" or "thread") covers llama.cpp too: half a sanitizer sees half
# of the overflows, and a thread sanitizer that misses a thread tells nonsense. Ours stops at the
# first finding of the undefined-behaviour sanitizer; llama.cpp's own are left to llama.cpp.
if(ASTER_SANITIZE)
  foreach(sanitizer ${ASTER_SANITIZE})
    add_compile_options(-fsanitize=${sanitizer})
    add_link_options(-fsanitize=${sanitizer})
  endforeach()
  add_compile_options(-fno-omit-frame-pointer)
endif()
