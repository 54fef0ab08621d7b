#include "llama/llama_model.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <mutex>

#include "llama.h"
#include "llama/device.h"
#include "llama/gguf_check.h"
#include "llama/hyperparameters.h"
#include "llama/llama_log.h"

namespace aster {
namespace {

// What can be said about the file before llama.cpp sees it.
Status CheckFile(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    return WorldError(path + ": " + std::strerror(errno) + "; expected a GGUF model file");
  }
  if (S_ISDIR(info.st_mode)) return WorldError(path + ": is a directory; expected a GGUF file");
  std::ifstream file(path, std::ios::binary);
  if (!file) return WorldError(path + ": " + std::strerror(errno));
  char magic[4] = {};
  file.read(magic, sizeof magic);
  if (file.gcount() == 0) return WorldError(path + ": is empty; expected a GGUF file");
  if (file.gcount() < 4 || std::memcmp(magic, "GGUF", 4) != 0) {
    return WorldError(path + ": is no GGUF file: it does not start with \"GGUF\"");
  }
  return Ok();
}

void InitOnce() {
  static std::once_flag once;
  std::call_once(once, [] {
    RegisterDevice();
    llama_backend_init();
    // What is left of llama.cpp's assertions says one line, and starts no debugger.
    ggml_set_abort_callback([](const char* message) {
      std::fprintf(stderr, "aster: llama.cpp gave up: %s\n", message);
    });
  });
}

std::string MetaString(const llama_model* model, const char* key) {
  char text[256];
  return llama_model_meta_val_str(model, key, text, sizeof text) < 0 ? "" : text;
}

}  // namespace

Result<std::unique_ptr<LlamaModel>> LlamaModel::Load(const std::string& path,
                                                     const std::string& chat_template) {
  if (Status status = CheckFile(path); !status) return status.error();
  InitOnce();
  if (Status status = CheckGguf(path); !status) return status.error();
  TakeLlamaError();
  llama_model_params params = llama_model_default_params();
  params.n_gpu_layers = 0;
  params.check_tensors = true;  // damaged weights are an error here, not nonsense later
  llama_model* loaded = nullptr;
  try {
    loaded = llama_model_load_from_file(path.c_str(), params);
  } catch (const std::exception& e) {
    return WorldError(path + ": " + e.what());
  }
  if (loaded == nullptr) {
    const std::string why = TakeLlamaError();
    return WorldError(path + ": llama.cpp cannot load it" + (why.empty() ? "" : ": " + why));
  }
  std::unique_ptr<LlamaModel> model(new LlamaModel(loaded, path, chat_template));
  if (const std::string why = WhyNotServed(loaded); !why.empty()) {
    return WorldError(path + ": architecture '" + MetaString(loaded, "general.architecture") +
                      "' cannot be served: " + why);
  }
  try {
    if (!chat_template.empty()) model->templates();
  } catch (const std::exception& e) {
    return InvalidArgument(std::string("the chat template can't be read: ") + e.what());
  }
  return model;
}

LlamaModel::LlamaModel(llama_model* model, std::string path, std::string chat_template)
    : model_(model),
      vocab_(llama_model_get_vocab(model)),
      tokenizer_(vocab_),
      path_(std::move(path)),
      chat_template_(std::move(chat_template)) {}

LlamaModel::~LlamaModel() { llama_model_free(model_); }

ModelInfo LlamaModel::Info() const {
  ModelInfo info;
  char text[256];
  llama_model_desc(model_, text, sizeof text);
  info.architecture = MetaString(model_, "general.architecture");
  info.description = text;
  info.n_parameters = static_cast<std::int64_t>(llama_model_n_params(model_));
  info.n_bytes = static_cast<std::int64_t>(llama_model_size(model_));
  info.n_layers = llama_model_n_layer(model_);
  info.n_vocab = n_vocab();
  info.n_ctx_train = llama_model_n_ctx_train(model_);
  for (int layer = 0; layer < info.n_layers; ++layer) {
    const Window window = LayerWindow(model_, layer);
    if (window.size == 0) continue;
    info.sliding_window = window.size;
    ++info.n_sliding_layers;
  }
  info.has_chat_template = has_chat_template();
  return info;
}

Result<std::vector<Token>> LlamaModel::Tokenize(std::string_view text, bool add_special,
                                                bool parse_special) const {
  return tokenizer_.Tokenize(text, add_special, parse_special);
}

std::string LlamaModel::Detokenize(std::span<const Token> tokens, bool render_special) const {
  std::string text;
  for (const Token token : tokens) text += Piece(token, render_special);
  return text;
}

std::string LlamaModel::Piece(Token token, bool render_special) const {
  if (token < 0 || token >= n_vocab()) return {};
  std::string piece(32, '\0');
  int n = llama_token_to_piece(vocab_, token, piece.data(), static_cast<int>(piece.size()), 0,
                               render_special);
  if (n < 0) {
    piece.resize(static_cast<std::size_t>(-n));
    n = llama_token_to_piece(vocab_, token, piece.data(), -n, 0, render_special);
  }
  piece.resize(static_cast<std::size_t>(n < 0 ? 0 : n));
  return piece;
}

bool LlamaModel::IsEndOfText(Token token) const { return llama_vocab_is_eog(vocab_, token); }
std::int64_t LlamaModel::n_vocab() const { return llama_vocab_n_tokens(vocab_); }

}  // namespace aster
