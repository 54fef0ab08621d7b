// The two streams. Standard output has what was asked for and nothing else; standard error has the
// rest, one line a thing, each after "aster: ".
#pragma once

#include <string>
#include <string_view>

#include "aster/status.h"

namespace aster::cli {

// Standard output: unbuffered, and every write checked. Once a write failed the rest is dropped.
class Output {
 public:
  Output();

  // Model text: on a terminal, control characters are made visible. False once a write failed.
  bool WriteText(std::string_view text);
  // The bytes as they are.
  bool Write(std::string_view bytes);

  bool is_terminal() const { return is_terminal_; }
  // True when nobody reads any more: a write failed, or the pipe's other end is closed.
  bool Closed();
  // Ok, or kWorld with what the failed write said.
  Status status() const;

 private:
  const bool is_terminal_;
  int failure_ = 0;  // errno of the write that failed
};

// Opens what of descriptors 0 to 2 the caller left closed, so that no file takes their place.
void OpenStandardDescriptors();

bool StderrIsTerminal();
// From now on notes start with "aster: rank N: ".
void NoteRank(int rank);
// "aster: text" on standard error, on one line whatever the text holds.
void Note(std::string_view text);
// The bytes as they are, on standard error.
void WriteStderr(std::string_view bytes);

}  // namespace aster::cli
