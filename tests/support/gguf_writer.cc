#include "support/gguf_writer.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <utility>

#include "ggml.h"
#include "gguf.h"

namespace aster {
namespace {

// Control tokens, in this order from id 0; then the bytes, the letters and the pieces.
constexpr const char* kControlTokens[] = {"<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"};
constexpr int kUnknownId = 0;
constexpr int kBosId = 1;
constexpr int kEosId = 2;
constexpr const char* kPieces[] = {"\u2581", "\u2581t", "he", "\u2581the", "in", "er", "\u2581a",
                                   "on",     "re",      "at", "en",        "nd", "st", "ing"};
// Of the BPE tokenizer: special in any text, and overlapping each other and the control tokens.
constexpr const char* kUserTokens[] = {"<b>", "b><", "\n\n", "  ", "<|im", "|><|", "></s"};
constexpr const char* kMerges[] = {"t h", "h e", "th e", "i n", "e r"};
constexpr const char* kChatTemplate =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

struct Vocabulary {
  enum Type {  // llama.cpp's
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,
    kUserDefined = 4,
    kUnused = 5,
    kByte = 6
  };
  std::vector<std::string> tokens;
  std::vector<int> types;

  void Add(std::string token, Type type) {
    tokens.push_back(std::move(token));
    types.push_back(type);
  }
};

Vocabulary ControlTokens() {
  Vocabulary v;
  for (const char* token : kControlTokens) {
    v.Add(token, v.tokens.empty() ? Vocabulary::kUnknown : Vocabulary::kControl);
  }
  return v;
}

void FillUp(Vocabulary& v, int n_vocab) {
  while (std::ssize(v.tokens) < n_vocab) {
    v.Add("<unused" + std::to_string(v.tokens.size()) + ">", Vocabulary::kUnused);
  }
}

Vocabulary MakeVocabulary(int n_vocab) {
  Vocabulary v = ControlTokens();
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof text, "<0x%02X>", byte);
    v.Add(text, Vocabulary::kByte);
  }
  for (char letter = 'a'; letter <= 'z'; ++letter) {
    v.Add(std::string(1, letter), Vocabulary::kNormal);
  }
  for (const char* piece : kPieces) {
    if (std::ssize(v.tokens) < n_vocab) v.Add(piece, Vocabulary::kNormal);
  }
  FillUp(v, n_vocab);
  return v;
}

// GPT-2's letter for a byte, in UTF-8: itself where it can be printed, else one from U+0100 on.
std::string ByteLetter(int byte) {
  const auto prints = [](int b) {
    return (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
  };
  int letter = byte;
  if (!prints(byte)) {
    letter = 0x100;
    for (int b = 0; b < byte; ++b) letter += prints(b) ? 0 : 1;
  }
  if (letter < 0x80) return {static_cast<char>(letter)};
  return {static_cast<char>(0xC0 | (letter >> 6)), static_cast<char>(0x80 | (letter & 0x3F))};
}

Vocabulary MakeBpeVocabulary(int n_vocab) {
  Vocabulary v = ControlTokens();
  for (int byte = 0; byte < 256; ++byte) v.Add(ByteLetter(byte), Vocabulary::kNormal);
  for (std::string merge : kMerges) {
    std::erase(merge, ' ');
    v.Add(merge, Vocabulary::kNormal);
  }
  for (const char* token : kUserTokens) v.Add(token, Vocabulary::kUserDefined);
  FillUp(v, n_vocab);
  return v;
}

void SetVocabulary(gguf_context* g, const Vocabulary& vocabulary, bool add_bos, bool add_eos) {
  std::vector<const char*> tokens;
  for (const std::string& token : vocabulary.tokens) tokens.push_back(token.c_str());
  gguf_set_arr_str(g, "tokenizer.ggml.tokens", tokens.data(), tokens.size());
  gguf_set_arr_data(g, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, vocabulary.types.data(),
                    vocabulary.types.size());
  gguf_set_val_u32(g, "tokenizer.ggml.unknown_token_id", kUnknownId);
  gguf_set_val_u32(g, "tokenizer.ggml.bos_token_id", kBosId);
  gguf_set_val_u32(g, "tokenizer.ggml.eos_token_id", kEosId);
  gguf_set_val_bool(g, "tokenizer.ggml.add_bos_token", add_bos);
  gguf_set_val_bool(g, "tokenizer.ggml.add_eos_token", add_eos);
  gguf_set_val_str(g, "tokenizer.chat_template", kChatTemplate);
}

}  // namespace

void GgufWriter::Free::operator()(gguf_context* gguf) const { gguf_free(gguf); }
void GgufWriter::Free::operator()(ggml_context* ggml) const { ggml_free(ggml); }

GgufWriter::GgufWriter(std::string_view architecture, bool f16, std::uint32_t seed)
    : prefix_(std::string(architecture) + "."),
      f16_(f16),
      random_(seed),
      gguf_(gguf_init_empty()),
      ggml_(ggml_init({ggml_tensor_overhead() * 4096, nullptr, /*no_alloc=*/true})) {
  gguf_set_val_str(gguf_.get(), "general.architecture", std::string(architecture).c_str());
}

GgufWriter::~GgufWriter() = default;

void GgufWriter::Key(const char* name, int value) {
  gguf_set_val_u32(gguf_.get(), (prefix_ + name).c_str(), static_cast<std::uint32_t>(value));
}
void GgufWriter::KeyFloat(const char* name, float value) {
  gguf_set_val_f32(gguf_.get(), (prefix_ + name).c_str(), value);
}
void GgufWriter::KeyBool(const char* name, bool value) {
  gguf_set_val_bool(gguf_.get(), (prefix_ + name).c_str(), value);
}
void GgufWriter::KeyText(const char* name, const char* value) {
  gguf_set_val_str(gguf_.get(), (prefix_ + name).c_str(), value);
}

void GgufWriter::Tokenizer(int n_vocab, bool add_bos, bool add_eos) {
  const Vocabulary vocabulary = MakeVocabulary(n_vocab);
  std::vector<float> scores;  // longer pieces merge first
  for (const std::string& token : vocabulary.tokens) {
    scores.push_back(static_cast<float>(token.size()));
  }
  gguf_context* g = gguf_.get();
  SetVocabulary(g, vocabulary, add_bos, add_eos);
  gguf_set_val_str(g, "tokenizer.ggml.model", "llama");
  gguf_set_arr_data(g, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, scores.data(), scores.size());
  gguf_set_val_u32(g, "tokenizer.ggml.token_type_count", 2);  // BERT's sentence types
  gguf_set_val_bool(g, "tokenizer.ggml.add_space_prefix", false);
}

void GgufWriter::BpeTokenizer(int n_vocab, bool add_bos, bool add_eos) {
  gguf_context* g = gguf_.get();
  SetVocabulary(g, MakeBpeVocabulary(n_vocab), add_bos, add_eos);
  gguf_set_val_str(g, "tokenizer.ggml.model", "gpt2");
  gguf_set_val_str(g, "tokenizer.ggml.pre", "gpt-4o");
  std::vector<const char*> merges(std::begin(kMerges), std::end(kMerges));
  gguf_set_arr_str(g, "tokenizer.ggml.merges", merges.data(), merges.size());
}

void GgufWriter::Matrix(const std::string& name, Shape shape, float gain) {
  const float deviation = gain / std::sqrt(static_cast<float>(*shape.begin()));
  Add(name + ".weight", shape, f16_, Draw(shape, 0.0f, deviation));
}

void GgufWriter::Embedding(const std::string& name, int n_embd, int n_vocab, float deviation) {
  std::vector<float> values = Draw({n_embd, n_vocab}, 0.0f, deviation);
  const std::size_t n_control = std::size(kControlTokens) * static_cast<std::size_t>(n_embd);
  for (std::size_t i = 0; i < n_control; ++i) values[i] *= 0.1f;
  Add(name + ".weight", {n_embd, n_vocab}, f16_, values);
}

void GgufWriter::Norm(const std::string& name, int n, float mean) {
  Normal(name + ".weight", {n}, mean, 0.1f * mean);
}
void GgufWriter::NormWithBias(const std::string& name, int n) {
  Norm(name, n);
  Bias(name, {n});
}
void GgufWriter::Bias(const std::string& name, Shape shape, float deviation) {
  Normal(name + ".bias", shape, 0.0f, deviation);
}
void GgufWriter::Normal(const std::string& name, Shape shape, float mean, float deviation) {
  Add(name, shape, /*f16=*/false, Draw(shape, mean, deviation));
}

bool GgufWriter::Write(const std::string& path) const {
  return gguf_write_to_file(gguf_.get(), path.c_str(), /*only_meta=*/false);
}

std::vector<float> GgufWriter::Draw(Shape shape, float mean, float deviation) {
  std::int64_t n = 1;
  for (const std::int64_t extent : shape) n *= extent;
  std::normal_distribution<float> normal(mean, deviation);
  std::vector<float> values(static_cast<std::size_t>(n));
  for (float& value : values) value = normal(random_);
  return values;
}

void GgufWriter::Add(const std::string& name, Shape shape, bool f16,
                     const std::vector<float>& values) {
  ggml_tensor* tensor = ggml_new_tensor(ggml_.get(), f16 ? GGML_TYPE_F16 : GGML_TYPE_F32,
                                        static_cast<int>(shape.size()), shape.begin());
  ggml_set_name(tensor, name.c_str());
  data_.push_back(std::make_unique<std::byte[]>(ggml_nbytes(tensor)));
  tensor->data = data_.back().get();
  if (f16) {
    ggml_fp32_to_fp16_row(values.data(), static_cast<ggml_fp16_t*>(tensor->data),
                          std::ssize(values));
  } else {
    std::copy(values.begin(), values.end(), static_cast<float*>(tensor->data));
  }
  gguf_add_tensor(gguf_.get(), tensor);
}

}  // namespace aster
