#include "serve/reply.h"

#include "serve/answer_json.h"

namespace aster::serve {

void Reply(httplib::Response& response, const Json& json, int status) {
  response.status = status;
  response.set_content(Dump(json), "application/json");
}

void Refuse(httplib::Response& response, const ApiError& error) {
  if (error.status == 503) response.set_header("Retry-After", "1");
  if (error.status == 401) response.set_header("WWW-Authenticate", "Bearer");
  Reply(response, ErrorJson(error), error.status);
}

}  // namespace aster::serve
