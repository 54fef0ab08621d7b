// What a request is refused with, or fails with: an HTTP status and OpenAI's error object.
#pragma once

#include <string>
#include <utility>
#include <variant>

#include "aster/status.h"

namespace aster::serve {

struct ApiError {
  int status = 400;
  std::string message;
  std::string param;  // the field that it is about; empty: none
};

// The caller's fault is 400, the world's 500.
inline ApiError FromError(const Error& error, std::string param = {}) {
  const bool is_ours = error.kind != ErrorKind::kInvalidArgument;
  return {is_ours ? 500 : 400, error.message, std::move(param)};
}

// A T, or why there is none.
template <class T>
using ApiResult = std::variant<T, ApiError>;

template <class T>
const ApiError* ErrorOf(const ApiResult<T>& result) {
  return std::get_if<ApiError>(&result);
}

}  // namespace aster::serve
