// aster tokenize: the tokens of a text.
#include <nlohmann/json.hpp>

#include "commands.h"
#include "document.h"
#include "numbers.h"
#include "session.h"

namespace aster::cli {
namespace {

std::string Ids(const std::vector<Token>& tokens) {
  std::string line;
  for (const Token token : tokens) line += (line.empty() ? "" : " ") + std::to_string(token);
  return line + "\n";
}

std::string Json(const Model& model, const std::vector<Token>& tokens) {
  nlohmann::ordered_json json;
  json["n_tokens"] = tokens.size();
  json["tokens"] = tokens;
  json["texts"] = nlohmann::json::array();
  for (const Token token : tokens) json["texts"].push_back(model.TokenText(token));
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace

Result<int> RunTokenize(const Options& options) {
  const Result<std::string> text =
      options.files.empty() ? Result<std::string>(options.text) : ReadDocuments(options.files);
  if (!text) return text.error();
  const Result<LoadedModel> loaded = LoadModel(options);
  if (!loaded) return loaded.error();
  const auto tokens = loaded->model.Tokenize(*text, options.add_special, options.parse_special);
  if (!tokens) return tokens.error();

  Output output;
  output.Write(options.json         ? Json(loaded->model, *tokens)
               : options.count_only ? std::to_string(tokens->size()) + "\n"
                                    : Ids(*tokens));
  if (Status written = output.status(); !written) return written.error();
  const auto n = static_cast<std::int64_t>(tokens->size());
  if (!options.json && !options.count_only) {
    Note(FormatCount(n) + (n == 1 ? " token" : " tokens"));
  }
  return 0;
}

}  // namespace aster::cli
