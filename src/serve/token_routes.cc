#include "serve/token_routes.h"

#include <cmath>
#include <string>
#include <vector>

#include "serve/json_body.h"
#include "serve/reply.h"

namespace aster::serve {

void Tokenize(const Model& model, const httplib::Request& request, httplib::Response& response) {
  const ApiResult<Json> body = ParseBody(request.body);
  if (const ApiError* error = ErrorOf(body)) return Refuse(response, *error);
  Fields fields(std::get<Json>(body));
  if (!fields.Has("content")) fields.Refuse("content", "a string");
  const std::string content = fields.String("content", "");
  const bool add_special = fields.Bool("add_special", false);
  const bool parse_special = fields.Bool("parse_special", true);
  if (fields.error()) return Refuse(response, *fields.error());
  const auto tokens = model.Tokenize(content, add_special, parse_special);
  if (!tokens) return Refuse(response, FromError(tokens.error()));
  Reply(response, {{"tokens", *tokens}});
}

void Detokenize(const Model& model, const httplib::Request& request, httplib::Response& response) {
  const ApiResult<Json> body = ParseBody(request.body);
  if (const ApiError* error = ErrorOf(body)) return Refuse(response, *error);
  Fields fields(std::get<Json>(body));
  std::vector<Token> tokens;
  const Json* given = fields.Array("tokens", 0, 1 << 24);
  const auto n_vocab = static_cast<double>(model.info().n_vocab);
  for (std::size_t i = 0; given != nullptr && i < given->size(); ++i) {
    const Json& token = (*given)[i];
    const double value = token.is_number() ? token.get<double>() : -1;
    if (value < 0 || value >= n_vocab || value != std::floor(value)) {
      fields.Refuse("tokens", "whole numbers from 0 to " +
                                  std::to_string(model.info().n_vocab - 1) + " only");
      break;
    }
    tokens.push_back(static_cast<Token>(value));
  }
  if (given == nullptr) fields.Refuse("tokens", "an array of tokens");
  if (fields.error()) return Refuse(response, *fields.error());
  Reply(response, {{"content", model.Detokenize(tokens)}});
}

}  // namespace aster::serve
