// The models that Aster can fetch (data/models.json, inside the program), and where they lie.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aster/status.h"

namespace aster::cli {

struct CatalogueModel {
  std::string name;
  std::vector<std::string> aliases;
  std::string file;
  std::int64_t n_bytes = 0;
  std::int64_t n_ctx = 0;
  std::string licence;
  std::string description;
};

// The catalogue as text, and read.
std::string_view CatalogueText();
std::vector<CatalogueModel> ReadCatalogue();
// "smollm2-135m, qwen2.5-coder-0.5b, ...".
std::string CatalogueNames();
// By name or alias; "" is the default model.
std::optional<CatalogueModel> FindInCatalogue(std::string_view name);

// ${XDG_CACHE_HOME:-~/.cache}/aster/models; kWorld when neither variable is set.
Result<std::string> ModelFolder();
bool FileExists(const std::string& path);

// The GGUF that -m names: a path, or a model of the catalogue in the cache. kWorld when the model
// was not fetched yet, or when there is neither such a file nor such a name.
Result<std::string> FindModelFile(const std::string& model);

// Becomes the script that fetches the model: returns only when it could not be started.
Error FetchModel(const std::string& name);

}  // namespace aster::cli
