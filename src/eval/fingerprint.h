// Short names of texts and files, to tell whether two are the same; no protection against anybody
// who wants them alike.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace aster::eval {

// FNV-1a of the texts added, 64 bits as 16 hexadecimal digits.
class Fingerprint {
 public:
  // Where one text ends counts.
  void Add(std::string_view text);
  std::string Hex() const;

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325;
};

// Of a file's size and of pages all over it, in less time than reading it takes. Empty when it
// cannot be read.
std::string FileFingerprint(const std::string& path);

}  // namespace aster::eval
