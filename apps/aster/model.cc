// aster model: what can be fetched, fetching it, and the facts of a model.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/system.h"
#include "catalogue.h"
#include "commands.h"
#include "numbers.h"
#include "session.h"
#include "text.h"

namespace aster::cli {
namespace {

using Json = nlohmann::ordered_json;

std::string Padded(std::string text, std::size_t width) {
  text.resize(std::max(text.size(), width), ' ');
  return text;
}

Json ToJson(const CatalogueModel& model, const std::string& path) {
  return {{"name", model.name},   {"aliases", model.aliases},   {"bytes", model.n_bytes},
          {"n_ctx", model.n_ctx}, {"licence", model.licence},   {"description", model.description},
          {"path", path},         {"fetched", FileExists(path)}};
}

// Two lines: name, size, whether it is there; then the description.
std::string ToText(const CatalogueModel& model, const std::string& path) {
  const std::string place = FileExists(path) ? path : "not fetched";
  return Padded(model.name, 20) + Padded(FormatBytes(model.n_bytes), 10) + place + "\n" +
         Padded("", 20) + model.description + "; " + FormatCount(model.n_ctx) + " tokens; " +
         model.licence + "\n";
}

Result<int> Print(const std::string& text) {
  Output output;
  output.Write(text);
  if (Status written = output.status(); !written) return written.error();
  return 0;
}

std::string Dump(const Json& json) {
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

// Tokens whose KV fits the memory left beside the loaded model; 0 when the system does not say.
std::int64_t TokensThatFit(const Model& model) {
  std::int64_t fit =
      AvailableMemoryBytes() / std::max<std::int64_t>(model.info().kv_bytes_per_token, 1);
  // Whole pages take a little more than the tokens in them.
  while (fit > 0 && PredictKvBytes(model, fit) > AvailableMemoryBytes()) fit -= fit / 100 + 1;
  return fit;
}

Json InfoJson(const Model& model, const std::string& path) {
  const ModelInfo& info = model.info();
  return {{"path", path},
          {"architecture", info.architecture},
          {"description", info.description},
          {"n_parameters", info.n_parameters},
          {"n_bytes", info.n_bytes},
          {"n_layers", info.n_layers},
          {"n_heads", info.n_heads},
          {"n_kv_heads", info.n_kv_heads},
          {"head_dim", info.head_dim},
          {"head_dim_v", info.head_dim_v},
          {"n_vocab", info.n_vocab},
          {"n_ctx_train", info.n_ctx_train},
          {"sliding_window", info.sliding_window},
          {"n_sliding_layers", info.n_sliding_layers},
          {"kv_bytes_per_token", info.kv_bytes_per_token},
          {"has_chat_template", info.has_chat_template},
          {"available_memory_bytes", AvailableMemoryBytes()},
          {"n_tokens_that_fit", TokensThatFit(model)},
          {"isa", model.isa()},
          {"linear", model.linear()}};
}

std::string HeadSizes(const ModelInfo& info) {
  const std::string k = FormatCount(info.head_dim);
  return info.head_dim == info.head_dim_v ? k : k + " (V: " + FormatCount(info.head_dim_v) + ")";
}

std::string InfoText(const Model& model, const std::string& path) {
  const ModelInfo& info = model.info();
  const std::int64_t fit = TokensThatFit(model);
  std::string window = "none";
  if (info.sliding_window > 0) {
    window = FormatCount(info.sliding_window) + " tokens in " + FormatCount(info.n_sliding_layers) +
             " layers";
  }
  const std::pair<const char*, std::string> rows[] = {
      {"file", path},
      {"model", info.description + " (" + info.architecture + ")"},
      {"parameters", FormatCount(info.n_parameters)},
      {"weights", FormatBytes(info.n_bytes)},
      {"layers", FormatCount(info.n_layers)},
      {"heads", FormatCount(info.n_heads) + ", KV heads " + FormatCount(info.n_kv_heads) +
                    ", head size " + HeadSizes(info)},
      {"vocabulary", FormatCount(info.n_vocab) + " tokens"},
      {"trained for", FormatCount(info.n_ctx_train) + " tokens"},
      {"sliding window", window},
      {"chat template", info.has_chat_template ? "yes" : "no"},
      {"KV memory", FormatCount(info.kv_bytes_per_token) + " bytes a token, " +
                        FormatBytes(PredictKvBytes(model, info.n_ctx_train)) +
                        " for the trained length"},
      {"fits now", fit > 0 ? FormatCount(fit) + " tokens in " + FormatBytes(AvailableMemoryBytes())
                           : "the system does not say"},
      {"kernels", std::string(model.isa()) + ", linear layers " + std::string(model.linear())},
  };
  std::string text;
  for (const auto& [name, value] : rows) text += Padded(name, 16) + OneLine(value) + "\n";
  return text;
}

}  // namespace

Result<int> RunModelList(const Options& options) {
  const Result<std::string> folder = ModelFolder();
  if (!folder) return folder.error();
  Json json = Json::array();
  std::string text;
  for (const CatalogueModel& model : ReadCatalogue()) {
    const std::string path = *folder + "/" + model.file;
    json.push_back(ToJson(model, path));
    text += ToText(model, path);
  }
  return Print(options.json ? Dump(json) : text);
}

Result<int> RunModelFetch(const Options& options) {
  if (!FindInCatalogue(options.model)) {
    return InvalidArgument(Shown(options.model) + ": no such model: expected one of " +
                           CatalogueNames());
  }
  return FetchModel(options.model);
}

Result<int> RunModelInfo(const Options& options) {
  const Result<LoadedModel> loaded = LoadModel(options);
  if (!loaded) return loaded.error();
  return Print(options.json ? Dump(InfoJson(loaded->model, loaded->path))
                            : InfoText(loaded->model, loaded->path));
}

}  // namespace aster::cli
