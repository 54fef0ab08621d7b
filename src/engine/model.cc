#include "aster/model.h"

#include <algorithm>

#include "base/check.h"
#include "base/system.h"
#include "engine/model_state.h"
#include "llama/hyperparameters.h"
#include "llama/llama_log.h"

namespace aster {
namespace {

std::int64_t KvBytesPerToken(std::span<const LayerShape> layers) {
  std::int64_t elements = 0;
  for (const LayerShape& layer : layers) {
    elements += layer.n_kv_heads * static_cast<std::int64_t>(PaddedDimK(layer.head_dim) +
                                                             PaddedDimV(layer.head_dim_v));
  }
  return elements * static_cast<std::int64_t>(sizeof(std::uint16_t));
}

void AddAttentionFacts(const ForwardPass& pass, ModelInfo* info) {
  info->kv_bytes_per_token = KvBytesPerToken(pass.layers());
  info->n_heads = pass.n_heads();
  for (const LayerShape& layer : pass.layers()) {
    if (layer.n_kv_heads == 0) continue;
    info->n_kv_heads = layer.n_kv_heads;
    info->head_dim = layer.head_dim;
    info->head_dim_v = layer.head_dim_v;
    return;
  }
}

}  // namespace

Status internal::ModelState::CheckLength(std::int64_t n_tokens, bool allow_long) const {
  if (n_tokens <= info.n_ctx_train) return Ok();
  const std::string numbers = std::to_string(n_tokens) + " tokens, but the model was trained for " +
                              std::to_string(info.n_ctx_train);
  if (has_position_table) return InvalidArgument(numbers + ", and its positions end there");
  if (allow_long) return Ok();
  return InvalidArgument(numbers + "; --allow-long goes on, and answers may get worse");
}

Status Model::CheckLength(std::int64_t n_tokens, bool allow_long) const {
  return state_->CheckLength(n_tokens, allow_long);
}

Result<Model> Model::Load(const std::string& path, const ModelOptions& options) {
  if (options.n_threads < 0 || options.n_threads > 4096) {
    return InvalidArgument("threads: " + std::to_string(options.n_threads) +
                           ", expected 1 to 4096, or 0 for all CPUs");
  }
  if (options.ubatch_size < 1 || options.ubatch_size > 65536) {
    return InvalidArgument("ubatch size: " + std::to_string(options.ubatch_size) +
                           ", expected 1 to 65536");
  }
  const std::int64_t most_sessions = std::min<std::int64_t>(256, options.ubatch_size);
  if (options.max_sessions < 1 || options.max_sessions > most_sessions) {
    return InvalidArgument("sessions: " + std::to_string(options.max_sessions) +
                           ", expected 1 to " + std::to_string(most_sessions) +
                           ": at most 256, and no more than a ubatch has tokens");
  }
  SetLlamaLog(options.verbose);
  auto state = std::make_shared<internal::ModelState>();
  Result<std::unique_ptr<LlamaModel>> llama = LlamaModel::Load(path, options.chat_template);
  if (!llama) return llama.error();
  state->llama = std::move(*llama);
  state->options.n_threads = options.n_threads > 0 ? options.n_threads : UsableCpus();
  state->options.ubatch_size = options.ubatch_size;
  state->options.linear = options.linear;
  state->options.max_parts = options.max_sessions;
  state->options.max_outputs = options.max_sessions;
  Result<std::unique_ptr<ForwardPass>> pass = ForwardPass::Make(*state->llama, state->options);
  if (!pass) return pass.error();
  state->pass = std::move(*pass);
  state->info = state->llama->Info();
  for (Token token = 0; token < state->info.n_vocab; ++token) {
    const auto n_bytes = static_cast<std::int64_t>(state->llama->Piece(token, true).size());
    state->info.max_token_bytes = std::max(state->info.max_token_bytes, n_bytes);
  }
  state->has_position_table = HasPositionTable(state->llama->get());
  AddAttentionFacts(*state->pass, &state->info);
  return Model(std::move(state));
}

Model::Model(std::shared_ptr<internal::ModelState> state) : state_(std::move(state)) {}
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;
Model::~Model() = default;

const ModelInfo& Model::info() const { return state_->info; }
int Model::n_threads() const { return state_->options.n_threads; }
std::int64_t Model::ubatch_size() const { return state_->options.ubatch_size; }
std::string_view Model::isa() const { return state_->pass->kernels().name; }
std::string_view Model::linear() const { return state_->pass->linear(); }

Result<std::vector<Token>> Model::Tokenize(std::string_view text, bool add_special,
                                           bool parse_special) const {
  return state_->llama->Tokenize(text, add_special, parse_special);
}

std::string Model::Detokenize(std::span<const Token> tokens, bool render_special) const {
  return state_->llama->Detokenize(tokens, render_special);
}

std::string Model::TokenText(Token token) const { return state_->llama->Piece(token, true); }

Result<std::string> Model::RenderChat(std::span<const Message> messages) const {
  return state_->llama->RenderChat(messages);
}

Result<Model::Prompt> Model::BuildPrompt(std::span<const Message> messages,
                                         std::string_view question,
                                         std::string_view answer_prefix) const {
  return state_->llama->BuildPrompt(messages, question, answer_prefix);
}

Result<Model::Prompt> Model::CutPrompt(std::string_view text, std::size_t cut) const {
  return state_->llama->CutPrompt(text, cut);
}

Result<ChatPrompt> BuildChat(const Model& model, const ChatRequest& request) {
  return internal::ModelAccess::StateOf(model)->llama->BuildChat(request);
}

Result<std::vector<Token>> BuildChatContext(const Model& model, const std::string& messages,
                                            const std::string& tools) {
  return internal::ModelAccess::StateOf(model)->llama->BuildChatContext(messages, tools);
}

}  // namespace aster
