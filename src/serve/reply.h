// Answers of the HTTP server as JSON.
#pragma once

#include <httplib.h>

#include "serve/api_error.h"
#include "serve/json_body.h"

namespace aster::serve {

void Reply(httplib::Response& response, const Json& json, int status = 200);
// With the headers that belong to the status.
void Refuse(httplib::Response& response, const ApiError& error);

}  // namespace aster::serve
