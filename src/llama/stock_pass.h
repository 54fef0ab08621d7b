// llama.cpp as shipped: its own attention and KV cache, Aster's device off. The oracle that tests
// and benchmarks compare with, and `--attention llama`.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <stop_token>

#include "aster/model.h"
#include "aster/status.h"
#include "llama/forward_pass.h"

namespace aster {

enum class StockCache { kF16, kBf16 };

class StockPass {
 public:
  // A cache of n_cells tokens. Errors: kWorld.
  static Result<std::unique_ptr<StockPass>> Make(const LlamaModel& model,
                                                 const ForwardOptions& options,
                                                 std::int64_t n_cells,
                                                 StockCache cache = StockCache::kF16);
  ~StockPass();
  StockPass(const StockPass&) = delete;
  StockPass& operator=(const StockPass&) = delete;

  // As ForwardPass::Run, with everything before visible.
  Result<std::span<const float>> Run(std::span<const Token> tokens, Outputs outputs,
                                     std::stop_token stop);
  std::int64_t size() const { return size_; }
  std::int64_t capacity() const { return capacity_; }
  // Forgets tokens [n_tokens, ...). Errors: kWorld when the cache cannot (a sliding window passed).
  Status Truncate(std::int64_t n_tokens);

 private:
  StockPass(const LlamaModel& model, llama_context* context, std::int64_t max_outputs);

  const LlamaModel& model_;
  llama_context* context_;
  std::int64_t max_outputs_;
  std::int64_t size_ = 0;
  std::int64_t capacity_ = 0;
};

}  // namespace aster
