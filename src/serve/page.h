// The page's files, which are part of the program.
#pragma once

#include <span>
#include <string_view>

namespace aster::serve {

struct PageFile {
  std::string_view path;  // "/app.js"; "/" for index.html
  std::string_view content_type;
  std::string_view bytes;
};

std::span<const PageFile> PageFiles();
std::string_view OpenApi();

}  // namespace aster::serve
