// A llama_batch over the caller's tokens, for one sequence.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "aster/model.h"
#include "llama.h"

namespace aster {

// Owns positions and flags; the tokens stay the caller's. n_outputs counts from the end.
class TokenBatch {
 public:
  TokenBatch(std::span<const Token> tokens, std::int64_t first_position, std::int64_t n_outputs)
      : positions_(tokens.size()),
        n_seq_ids_(tokens.size(), 1),
        seq_ids_(tokens.size(), &sequence_),
        wants_logits_(tokens.size(), 0) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      positions_[i] = static_cast<llama_pos>(first_position + static_cast<std::int64_t>(i));
    }
    for (std::int64_t i = 1; i <= n_outputs; ++i) wants_logits_[tokens.size() - i] = 1;
    batch_.n_tokens = static_cast<std::int32_t>(tokens.size());
    batch_.token = const_cast<llama_token*>(tokens.data());  // llama_decode does not write them
    batch_.pos = positions_.data();
    batch_.n_seq_id = n_seq_ids_.data();
    batch_.seq_id = seq_ids_.data();
    batch_.logits = wants_logits_.data();
  }
  TokenBatch(const TokenBatch&) = delete;
  TokenBatch& operator=(const TokenBatch&) = delete;

  const llama_batch& get() const { return batch_; }

 private:
  llama_seq_id sequence_ = 0;
  std::vector<llama_pos> positions_;
  std::vector<std::int32_t> n_seq_ids_;
  std::vector<llama_seq_id*> seq_ids_;
  std::vector<std::int8_t> wants_logits_;
  llama_batch batch_ = {};
};

}  // namespace aster
