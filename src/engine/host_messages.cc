#include "engine/host_messages.h"

#include <algorithm>
#include <fstream>

namespace aster::internal {
namespace {

// FNV-1a of 64 pieces of a file, evenly spread: another training of the same model differs in them.
std::uint64_t Fingerprint(const std::string& path) {
  constexpr std::uint64_t kPieces = 64, kPieceBytes = 4096;
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const auto size = static_cast<std::uint64_t>(file ? static_cast<std::int64_t>(file.tellg()) : 0);
  std::uint64_t hash = 0xcbf29ce484222325 ^ size;
  char piece[kPieceBytes];
  for (std::uint64_t i = 0; i < kPieces && file; ++i) {
    file.seekg(static_cast<std::streamoff>(size / kPieces * i));
    file.read(piece, std::min<std::uint64_t>(kPieceBytes, size / kPieces));
    for (std::streamsize at = 0; at < file.gcount(); ++at) {
      hash = (hash ^ static_cast<unsigned char>(piece[at])) * 0x100000001b3;
    }
  }
  return hash;
}

}  // namespace

std::uint16_t ToBf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (value != value) return 0x7fc0;
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float FromBf16(std::uint16_t value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16);
}

ModelFacts FactsOf(const ModelState& model) {
  const ModelInfo& info = model.info;
  return {info.n_parameters,
          info.n_bytes,
          info.n_layers,
          info.n_vocab,
          info.n_ctx_train,
          info.kv_bytes_per_token,
          Fingerprint(model.llama->path())};
}

Error Garbled(int rank, const std::string& what) {
  return WorldError("rank " + std::to_string(rank) + " sent a garbled message: " + what);
}

Error Failed(int rank, const std::string& why) {
  return WorldError("rank " + std::to_string(rank) + ": " + why);
}

Kind KindOf(Reader* reader) {
  Kind kind{};
  return reader->Take(&kind) ? kind : Kind{};
}

}  // namespace aster::internal
