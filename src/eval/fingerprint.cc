#include "eval/fingerprint.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <system_error>

namespace aster::eval {

void Fingerprint::Add(std::string_view text) {
  constexpr std::uint64_t kPrime = 0x100000001b3;
  for (const char c : text) hash_ = (hash_ ^ static_cast<unsigned char>(c)) * kPrime;
  hash_ = (hash_ ^ 0xff) * kPrime;  // no UTF-8 text holds this byte
}

std::string Fingerprint::Hex() const {
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016" PRIx64, hash_);
  return digits;
}

std::string FileFingerprint(const std::string& path) {
  constexpr std::uintmax_t kPages = 256, kPageBytes = 4096;
  std::error_code ec;
  const std::uintmax_t size = std::filesystem::file_size(path, ec);
  std::ifstream file(path, std::ios::binary);
  if (ec || !file) return {};
  Fingerprint fingerprint;
  fingerprint.Add(std::to_string(size));
  const std::uintmax_t step = std::max(kPageBytes, size / kPages);
  for (std::uintmax_t at = 0; at < size; at += step) {
    std::string page(static_cast<std::size_t>(std::min(kPageBytes, size - at)), '\0');
    file.seekg(static_cast<std::streamoff>(at));
    if (!file.read(page.data(), static_cast<std::streamsize>(page.size()))) return {};
    fingerprint.Add(page);
  }
  return fingerprint.Hex();
}

}  // namespace aster::eval
