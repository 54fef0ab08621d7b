// Errors of the world as values: a file that is not there, a model that cannot be served, a request
// that makes no sense. No exception crosses Aster's API; broken invariants of our own abort.
//
//   Result<Model> model = Model::Load("m.gguf", {});
//   if (!model) return Fail(model.error());
//   model->Tokenize(...)
#pragma once

#include <cstdlib>
#include <string>
#include <utility>
#include <variant>

namespace aster {

enum class ErrorKind {
  kInvalidArgument,  // the caller asked for something that cannot be: a usage error, exit code 2
  kWorld,            // a file, a model, memory or a device failed: exit code 1
  kCancelled,        // the caller's stop token was raised; the object stays usable
};

// One line for a person: what was given, what was expected.
struct Error {
  ErrorKind kind = ErrorKind::kWorld;
  std::string message;
};

inline Error InvalidArgument(std::string message) {
  return {ErrorKind::kInvalidArgument, std::move(message)};
}
inline Error WorldError(std::string message) { return {ErrorKind::kWorld, std::move(message)}; }
inline Error Cancelled(std::string message) { return {ErrorKind::kCancelled, std::move(message)}; }

// A T or the Error that took its place. Ask ok() before value(): value() of an error aborts.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & { return *Checked(); }
  const T& value() const& { return *const_cast<Result*>(this)->Checked(); }
  T&& value() && { return std::move(*Checked()); }
  T& operator*() & { return *Checked(); }
  const T& operator*() const& { return *const_cast<Result*>(this)->Checked(); }
  T&& operator*() && { return std::move(*Checked()); }
  T* operator->() { return Checked(); }
  const T* operator->() const { return const_cast<Result*>(this)->Checked(); }

  // REQUIRES: !ok().
  const Error& error() const {
    if (ok()) std::abort();
    return *std::get_if<1>(&state_);
  }

 private:
  T* Checked() {
    if (!ok()) std::abort();
    return std::get_if<0>(&state_);
  }

  std::variant<T, Error> state_;
};

// Success carries nothing.
using Status = Result<std::monostate>;
inline Status Ok() { return std::monostate{}; }

}  // namespace aster
