#include "llama/stock_pass.h"

#include <exception>

#include "base/check.h"
#include "llama.h"
#include "llama/batch.h"
#include "llama/llama_log.h"
#include "llama/llama_model.h"

namespace aster {
namespace {

bool StopRequested(void* stop) {
  return static_cast<const std::stop_token*>(stop)->stop_requested();
}

}  // namespace

Result<std::unique_ptr<StockPass>> StockPass::Make(const LlamaModel& model,
                                                   const ForwardOptions& options,
                                                   std::int64_t n_cells, StockCache cache) {
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<std::uint32_t>((n_cells + 255) / 256 * 256);
  params.n_batch = static_cast<std::uint32_t>(options.ubatch_size);
  params.n_ubatch = static_cast<std::uint32_t>(options.ubatch_size);
  params.n_seq_max = 1;
  params.n_threads = options.n_threads;
  params.n_threads_batch = options.n_threads;
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_AUTO;
  if (cache == StockCache::kBf16) params.type_k = params.type_v = GGML_TYPE_BF16;
  TakeLlamaError();
  llama_context* context = nullptr;
  try {
    context = llama_init_from_model(model.get(), params);
  } catch (const std::exception& e) {
    return WorldError(model.path() + ": llama.cpp cannot run it: " + e.what());
  }
  if (context == nullptr) {
    return WorldError(model.path() + ": llama.cpp cannot run it: " + TakeLlamaError());
  }
  return std::unique_ptr<StockPass>(new StockPass(model, context, options.ubatch_size));
}

StockPass::StockPass(const LlamaModel& model, llama_context* context, std::int64_t max_outputs)
    : model_(model),
      context_(context),
      max_outputs_(max_outputs),
      capacity_(static_cast<std::int64_t>(llama_n_ctx(context))) {}

StockPass::~StockPass() { llama_free(context_); }

Result<std::span<const float>> StockPass::Run(std::span<const Token> tokens, Outputs outputs,
                                              std::stop_token stop) {
  const auto n = static_cast<std::int64_t>(tokens.size());
  const std::int64_t n_outputs = outputs == Outputs::kAll ? n : outputs == Outputs::kLast ? 1 : 0;
  ASTER_CHECK(n >= 1 && n <= max_outputs_, "%lld tokens", static_cast<long long>(n));
  if (size_ + n > capacity_) {
    return WorldError("llama.cpp's cache of " + std::to_string(capacity_) + " tokens is full: " +
                      std::to_string(size_) + " held, " + std::to_string(n) + " more asked for");
  }
  if (stop.stop_requested()) return Cancelled("cancelled");
  const StepPart part = {{size_, size_ + n}, nullptr, {}};
  const TokenBatch batch(tokens, {&part, 1}, n_outputs);
  llama_set_abort_callback(context_, StopRequested, &stop);
  int result = 0;
  std::string why;
  try {
    result = llama_decode(context_, batch.get());
  } catch (const std::exception& e) {  // no memory, mostly
    result = -1;
    why = e.what();
  }
  llama_set_abort_callback(context_, nullptr, nullptr);
  if (result != 0) {
    if (why.empty()) why = TakeLlamaError();
    if (Status status = Truncate(size_); !status) return status.error();
    if (stop.stop_requested()) return Cancelled("cancelled");
    return WorldError("llama_decode failed (" + std::to_string(result) + "): " + why);
  }
  size_ += n;
  if (n_outputs == 0) return std::span<const float>();
  return std::span<const float>(llama_get_logits(context_),
                                static_cast<std::size_t>(n_outputs * model_.n_vocab()));
}

Status StockPass::Truncate(std::int64_t n_tokens) {
  if (!llama_memory_seq_rm(llama_get_memory(context_), 0, static_cast<llama_pos>(n_tokens), -1)) {
    return WorldError("llama.cpp's cache cannot forget tokens from " + std::to_string(n_tokens));
  }
  size_ = std::min(size_, n_tokens);
  return Ok();
}

}  // namespace aster
