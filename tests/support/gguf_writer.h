// Writes a GGUF of random weights through ggml's own writer: names, shapes and gains in, a file
// out. Tokenizers have all bytes, a few merges and a ChatML template.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

struct ggml_context;
struct gguf_context;

namespace aster {

class GgufWriter {
 public:
  // Shapes as ggml gives them: the fastest dimension first, so a matrix is {in, out}.
  using Shape = std::initializer_list<std::int64_t>;

  // f16: matrices are written in f16, all else in f32.
  GgufWriter(std::string_view architecture, bool f16, std::uint32_t seed);
  ~GgufWriter();
  GgufWriter(const GgufWriter&) = delete;
  GgufWriter& operator=(const GgufWriter&) = delete;

  // Metadata under the architecture's name.
  void Key(const char* name, int value);
  void KeyFloat(const char* name, float value);
  void KeyBool(const char* name, bool value);
  void KeyText(const char* name, const char* value);

  // REQUIRES: n_vocab >= 288.
  void Tokenizer(int n_vocab, bool add_bos, bool add_eos);  // SentencePiece
  // Byte-level BPE whose words llama.cpp splits by std::regex, with special tokens that overlap.
  void BpeTokenizer(int n_vocab, bool add_bos, bool add_eos);

  // Weights [in, out] or [in, out, n]: a row of unit elements comes out with deviation `gain`.
  void Matrix(const std::string& name, Shape shape, float gain = 1.0f);
  // Weights [n_embd, n_vocab]. Control tokens are small in it, so that as an output matrix it does
  // not choose them: an answer goes on.
  void Embedding(const std::string& name, int n_embd, int n_vocab, float deviation);
  void Norm(const std::string& name, int n, float mean = 1.0f);
  void NormWithBias(const std::string& name, int n);
  void Bias(const std::string& name, Shape shape, float deviation = 0.05f);
  // Any other, in f32, by its whole name.
  void Normal(const std::string& name, Shape shape, float mean, float deviation);

  bool Write(const std::string& path) const;

 private:
  std::vector<float> Draw(Shape shape, float mean, float deviation);
  void Add(const std::string& name, Shape shape, bool f16, const std::vector<float>& values);

  struct Free {
    void operator()(gguf_context* gguf) const;
    void operator()(ggml_context* ggml) const;
  };

  std::string prefix_;
  bool f16_;
  std::mt19937 random_;
  std::unique_ptr<gguf_context, Free> gguf_;
  std::unique_ptr<ggml_context, Free> ggml_;
  std::vector<std::unique_ptr<std::byte[]>> data_;  // of the tensors
};

}  // namespace aster
