// A GGUF model as llama.cpp loads it: weights, vocabulary, chat template.
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "aster/chat.h"
#include "aster/model.h"
#include "aster/status.h"
#include "llama/tokenizer.h"

struct llama_model;
struct llama_vocab;
struct common_chat_templates;
struct common_chat_templates_inputs;

namespace aster {

class LlamaModel {
 public:
  // Errors: kWorld with the path. Refuses what Aster cannot serve, as far as the hyperparameters
  // tell; ForwardPass::Make looks at the graph itself.
  static Result<std::unique_ptr<LlamaModel>> Load(const std::string& path,
                                                  const std::string& chat_template = {});
  ~LlamaModel();
  LlamaModel(const LlamaModel&) = delete;
  LlamaModel& operator=(const LlamaModel&) = delete;

  llama_model* get() const { return model_; }
  const std::string& path() const { return path_; }
  ModelInfo Info() const;  // without what only a forward pass knows

  Result<std::vector<Token>> Tokenize(std::string_view text, bool add_special,
                                      bool parse_special) const;
  std::string Detokenize(std::span<const Token> tokens, bool render_special) const;
  std::string Piece(Token token, bool render_special) const;
  bool IsEndOfText(Token token) const;
  std::int64_t n_vocab() const;

  Result<std::string> RenderChat(std::span<const Message> messages) const;  // chat.cc
  Result<Model::Prompt> BuildPrompt(std::span<const Message> messages, std::string_view question,
                                    std::string_view answer_prefix) const;        // chat.cc
  Result<Model::Prompt> CutPrompt(std::string_view text, std::size_t cut) const;  // chat.cc
  Result<ChatPrompt> BuildChat(const ChatRequest& request) const;                 // chat_format.cc
  Result<std::vector<Token>> BuildChatContext(const std::string& messages,
                                              const std::string& tools) const;

  bool has_chat_template() const;
  // The chat template, read at the first call; ChatML where the model has none. Throws what
  // llama.cpp throws when it can't be read.
  const common_chat_templates* templates() const;  // chat.cc
  // What every use of it has in common.
  common_chat_templates_inputs TemplateInputs() const;  // chat.cc

 private:
  LlamaModel(llama_model* model, std::string path, std::string chat_template);

  llama_model* model_;
  const llama_vocab* vocab_;
  const Tokenizer tokenizer_;
  std::string path_;
  std::string chat_template_;  // in place of the model's own; empty: that one
  mutable std::once_flag templates_made_;
  mutable std::shared_ptr<common_chat_templates> templates_;
};

}  // namespace aster
