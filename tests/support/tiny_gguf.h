// Tiny GGUF models with random weights, which llama.cpp loads and runs: every architecture that
// matters to attention, small enough to be written and run by a test.
//
// The weights are scaled so that a wrong attention shows: a row looks hard at a few keys (scores of
// standard deviation 2), its layers' outputs outweigh the token's own embedding, and logits spread
// over several units. The same options give the same file, on every machine with the same C++
// library.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "aster/status.h"

namespace aster {

enum class TinyArchitecture {
  kLlama,     // plain GQA
  kQwen2,     // biases on q, k and v
  kQwen3,     // norms on q and k
  kQwen3Moe,  // the same over a mixture of experts
  kGemma2,    // every other layer slides, soft-capped scores, tied embeddings
  kGemma3,    // two layers of three slide, with a RoPE of their own
  kGptOss,    // every other layer slides, attention sinks, mixture of experts
  kGpt2,      // learned positions instead of RoPE, fused q, k and v
  // Those that Aster refuses:
  kBloom,      // ALiBi
  kMamba,      // recurrent
  kT5,         // encoder and decoder
  kBert,       // not causal
  kDream,      // diffusion
  kLongRope,   // RoPE factors that depend on the context's length
  kMiniMaxM3,  // an indexer chooses the keys (here of no layer: all lead the ones that have it)
};

// As llama.cpp names it: the value of general.architecture. kLongRope is a "llama".
std::string_view ArchitectureName(TinyArchitecture architecture);

struct TinyModel {
  TinyArchitecture architecture = TinyArchitecture::kLlama;
  int n_layers = 4;
  int n_heads = 4;
  int n_kv_heads = 2;       // divides n_heads; where q, k and v are fused or encode, it is n_heads
  int head_dim = 64;        // even
  int n_vocab = 300;        // at least kMinVocab
  int sliding_window = 32;  // tokens, where layers slide
  int n_ctx_train = 4096;
  bool f16 = false;  // matrices in f16 instead of f32
  bool add_bos = true;
  bool add_eos = false;
  bool bpe = false;  // a BPE tokenizer instead of a SentencePiece one, see GgufWriter
  std::uint32_t seed = 1;

  static constexpr int kMinVocab = 288;  // special tokens, 256 bytes, letters
};

// Errors: kWorld when the file cannot be written.
Status WriteTinyGguf(const TinyModel& model, const std::string& path);

// The same in a file of its own, which goes with the object. Aborts when it cannot be written.
class TinyGgufFile {
 public:
  explicit TinyGgufFile(const TinyModel& model);
  ~TinyGgufFile();
  TinyGgufFile(const TinyGgufFile&) = delete;
  TinyGgufFile& operator=(const TinyGgufFile&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace aster
