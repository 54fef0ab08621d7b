#include "catalogue.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "embedded/fetch_script.h"
#include "embedded/model_list.h"
#include "signals.h"
#include "text.h"

namespace aster::cli {
namespace {

const nlohmann::json& Parsed() {
  static const nlohmann::json catalogue = nlohmann::json::parse(CatalogueText());
  return catalogue;
}

CatalogueModel ToModel(const nlohmann::json& json) {
  return {.name = json.at("name"),
          .aliases = json.at("aliases"),
          .file = json.at("file"),
          .n_bytes = json.at("size"),
          .n_ctx = json.at("n_ctx"),
          .licence = json.at("licence"),
          .description = json.at("description")};
}

bool Answers(const CatalogueModel& model, std::string_view name) {
  return model.name == name ||
         std::find(model.aliases.begin(), model.aliases.end(), name) != model.aliases.end();
}

bool LooksLikePath(std::string_view text) {
  return text.find('/') != std::string_view::npos || text.ends_with(".gguf");
}

}  // namespace

std::string_view CatalogueText() { return embedded::ModelList(); }

std::vector<CatalogueModel> ReadCatalogue() {
  std::vector<CatalogueModel> models;
  for (const nlohmann::json& json : Parsed().at("models")) models.push_back(ToModel(json));
  return models;
}

std::string CatalogueNames() {
  std::string names;
  for (const CatalogueModel& model : ReadCatalogue()) {
    names += (names.empty() ? "" : ", ") + model.name;
  }
  return names;
}

std::optional<CatalogueModel> FindInCatalogue(std::string_view name) {
  const std::string wanted =
      name.empty() ? Parsed().at("default").get<std::string>() : std::string(name);
  for (const CatalogueModel& model : ReadCatalogue()) {
    if (Answers(model, wanted)) return model;
  }
  return std::nullopt;
}

Result<std::string> ModelFolder() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache != '\0') {
    return std::string(cache) + "/aster/models";
  }
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') {
    return std::string(home) + "/.cache/aster/models";
  }
  return WorldError("no folder for models: expected HOME or XDG_CACHE_HOME to be set");
}

bool FileExists(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0;
}

Result<std::string> FindModelFile(const std::string& model) {
  if (!model.empty() && (LooksLikePath(model) || FileExists(model))) return model;
  const auto known = FindInCatalogue(model);
  if (!known) {
    return WorldError("-m " + Shown(model) + ": no such file, and no model of the catalogue (" +
                      CatalogueNames() + ")");
  }
  const Result<std::string> folder = ModelFolder();
  if (!folder) return folder;
  const std::string path = *folder + "/" + known->file;
  if (FileExists(path)) return path;
  const std::string& name = known->aliases.empty() ? known->name : known->aliases.front();
  return WorldError("model " + known->name + " is not fetched yet: run `aster model fetch " + name +
                    "`, or pass a GGUF with -m");
}

Error FetchModel(const std::string& name) {
  const Result<std::string> folder = ModelFolder();
  if (!folder) return folder.error();
  const std::string script(embedded::FetchScript());
  const std::string catalogue(CatalogueText());
  RestoreSignals();
  execlp("python3", "python3", "-c", script.c_str(), "--catalogue", catalogue.c_str(), "--dir",
         folder->c_str(), name.c_str(), nullptr);
  return WorldError(std::string("python3, which fetches models: ") + std::strerror(errno));
}

}  // namespace aster::cli
