// write_tiny_gguf <architecture> <path>: a tiny model for tests that start programs.
#include <cstdio>
#include <string_view>

#include "support/tiny_gguf.h"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  using aster::TinyArchitecture;
  for (const auto& [name, architecture] :
       {std::pair<std::string_view, TinyArchitecture>{"llama", TinyArchitecture::kLlama},
        {"gemma3", TinyArchitecture::kGemma3},
        {"bloom", TinyArchitecture::kBloom},
        {"mamba", TinyArchitecture::kMamba},
        {"t5", TinyArchitecture::kT5},
        {"bert", TinyArchitecture::kBert},
        {"dream", TinyArchitecture::kDream}}) {
    if (name != argv[1]) continue;
    const aster::Status written = aster::WriteTinyGguf({.architecture = architecture}, argv[2]);
    if (!written) std::fprintf(stderr, "%s\n", written.error().message.c_str());
    return written ? 0 : 1;
  }
  return 2;
}
