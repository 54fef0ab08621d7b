// POST /tokenize and /detokenize.
#pragma once

#include <httplib.h>

#include "aster/model.h"

namespace aster::serve {

void Tokenize(const Model& model, const httplib::Request& request, httplib::Response& response);
void Detokenize(const Model& model, const httplib::Request& request, httplib::Response& response);

}  // namespace aster::serve
