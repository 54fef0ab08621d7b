// aster tokenize: the tokens of a text.
#include <iostream>
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

Result<std::vector<Token>> TokensOf(const Model& model, const Options& options,
                                    const std::string& text) {
  Result<std::string> rendered = text;
  if (options.as_chat) rendered = model.RenderChat(std::vector<Message>{{"user", text}});
  if (!rendered) return rendered.error();
  return model.Tokenize(*rendered, options.add_special, options.parse_special);
}

std::string Line(const Model& model, const Options& options, const std::vector<Token>& tokens) {
  if (options.json) return Json(model, tokens);
  return options.count_only ? std::to_string(tokens.size()) + "\n" : Ids(tokens);
}

// A line of output as soon as each text is there: another program may wait for it.
Result<int> TokenizeEach(const Model& model, const Options& options) {
  Output output;
  std::int64_t n = 0;
  for (std::string text; std::getline(std::cin, text, '\0');) {
    const std::string name = "text " + std::to_string(++n) + " of standard input";
    if (Status ok = CheckText(text, name); !ok) return ok.error();
    const Result<std::vector<Token>> tokens = TokensOf(model, options, text);
    if (!tokens) return tokens.error();
    if (!output.Write(Line(model, options, *tokens))) break;
  }
  if (Status written = output.status(); !written) return written.error();
  return 0;
}

}  // namespace

Result<int> RunTokenize(const Options& options) {
  if (options.each_text) {
    const Result<LoadedModel> loaded = LoadModel(options);
    return loaded ? TokenizeEach(loaded->model, options) : loaded.error();
  }
  const Result<std::string> text =
      options.files.empty() ? Result<std::string>(options.text) : ReadDocuments(options.files);
  if (!text) return text.error();
  const Result<LoadedModel> loaded = LoadModel(options);
  if (!loaded) return loaded.error();
  const Result<std::vector<Token>> tokens = TokensOf(loaded->model, options, *text);
  if (!tokens) return tokens.error();

  Output output;
  output.Write(Line(loaded->model, options, *tokens));
  if (Status written = output.status(); !written) return written.error();
  const std::int64_t n = std::ssize(*tokens);
  if (!options.json && !options.count_only) {
    Note(FormatCount(n) + (n == 1 ? " token" : " tokens"));
  }
  return 0;
}

}  // namespace aster::cli
