// A GGUF model, loaded once and shared by any number of contexts.
//
// Threads: const members may be called from several threads. Encode and Ask of contexts that share
// a model take turns: one forward pass runs at a time and uses all of the model's threads.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "aster/status.h"

namespace aster {

using Token = std::int32_t;

struct ModelOptions {
  int n_threads = 0;               // 0 = the CPUs this process may use
  std::int64_t ubatch_size = 512;  // most tokens in one pass; more is faster and takes memory
  // How linear layers of a prefill are computed. kAuto takes oneDNN where it was seen to pay;
  // kOneDnn takes bf16 where the CPU is faster at it, else f32. bf16 on another CPU is for
  // comparison.
  enum class Linear { kAuto, kGgml, kOneDnn, kOneDnnF32, kOneDnnBf16 } linear = Linear::kAuto;
  int max_sessions = 1;       // most sessions that decode in one pass; see aster/session.h
  std::string chat_template;  // Jinja; empty: the model's own
  bool verbose = false;       // llama.cpp's own log to standard error
};

struct ModelInfo {
  std::string architecture;  // "llama", "qwen2", ...
  std::string description;   // llama.cpp's one-line description, e.g. "llama 256M Q4_1"
  std::int64_t n_parameters = 0;
  std::int64_t n_bytes = 0;  // of all tensors
  std::int64_t n_layers = 0;
  std::int64_t n_heads = 0;  // of the first layer
  std::int64_t n_kv_heads = 0;
  std::int64_t head_dim = 0;  // of K
  std::int64_t head_dim_v = 0;
  std::int64_t n_vocab = 0;
  std::int64_t max_token_bytes = 0;  // of the longest token's text
  std::int64_t n_ctx_train = 0;      // longest context the model was trained for, in tokens
  std::int64_t sliding_window = 0;   // tokens, 0 = none
  std::int64_t n_sliding_layers = 0;
  std::int64_t kv_bytes_per_token = 0;  // of Aster's store, all layers, K and V in bf16
  bool has_chat_template = false;
};

// One turn of a conversation. role: "system", "user" or "assistant".
struct Message {
  std::string role;
  std::string content;
};

namespace internal {
class ModelState;  // src/engine; what contexts of this model share
struct ModelAccess;
}  // namespace internal

class Model {
 public:
  // Reads a GGUF (or the first file of a split one) and checks that its attention can be served:
  // full or sliding-window attention, head sizes up to 256, no recurrent, hybrid, diffusion or
  // encoder parts, no ALiBi. Errors: kWorld with the path, what was found and what was expected;
  // kInvalidArgument for a chat template that can't be read.
  static Result<Model> Load(const std::string& path, const ModelOptions& options);

  const ModelInfo& info() const;
  int n_threads() const;
  std::int64_t ubatch_size() const;
  std::string_view isa()
      const;  // attention kernels in use: "avx2", "avx512", ...: what ASTER_ISA accepts
  std::string_view linear() const;  // "ggml", "onednn-f32" or "onednn-bf16"

  // Whether a sequence of n_tokens fits what the model was trained for. Errors: kInvalidArgument
  // with both numbers; with allow_long only where the model's table of positions ends there.
  Status CheckLength(std::int64_t n_tokens, bool allow_long) const;

  // Text to tokens. add_special: put the model's BOS (and EOS, if it wants one) around the text, as
  // llama.cpp does. parse_special: read the text of special tokens as those tokens.
  Result<std::vector<Token>> Tokenize(std::string_view text, bool add_special,
                                      bool parse_special) const;
  // Tokens to text; bytes that are no whole UTF-8 character at the ends are kept as they are.
  std::string Detokenize(std::span<const Token> tokens, bool render_special = true) const;
  std::string TokenText(Token token) const;

  // The conversation as the model's own chat template renders it, ready for the answer. A model
  // without a template gets the contents joined by blank lines.
  Result<std::string> RenderChat(std::span<const Message> messages) const;

  // A prompt cut where the question starts: tokens[0, n_context) is the context, the rest the
  // query.
  struct Prompt {
    std::vector<Token> tokens;
    std::int64_t n_context = 0;
  };
  // Renders the conversation (RenderChat) and tokenises it once, whole. The cut lies at or just
  // before the last `question` bytes of the first user message, never inside a token: tokens that
  // span the seam belong to the query. `answer_prefix` is put behind the rendered conversation: the
  // answer goes on from it. REQUIRES: the first user message ends with `question`.
  Result<Prompt> BuildPrompt(std::span<const Message> messages, std::string_view question,
                             std::string_view answer_prefix = {}) const;
  // The text as it is, without a template, cut at or just before its byte `cut`.
  // REQUIRES: cut <= text.size().
  Result<Prompt> CutPrompt(std::string_view text, std::size_t cut) const;

  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;
  ~Model();  // contexts keep what they need alive

 private:
  friend class Context;
  friend class Session;
  friend struct internal::ModelAccess;
  friend std::int64_t PredictKvBytes(const Model& model, std::int64_t n_tokens);
  explicit Model(std::shared_ptr<internal::ModelState> state);
  std::shared_ptr<internal::ModelState> state_;
};

}  // namespace aster
