// What llama.cpp asserts about a GGUF, and so would end the program over, checked before it looks.
#pragma once

#include <string>

#include "aster/status.h"

namespace aster {

// Errors: kWorld with the path and what is wrong. A file that llama.cpp itself refuses passes: its
// own words are better.
Status CheckGguf(const std::string& path);

}  // namespace aster
