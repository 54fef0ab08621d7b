// A llama_batch over the caller's tokens. A sequence's positions must be continuous, so each run of
// positions is a sequence of its own.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "aster/key_range.h"
#include "aster/model.h"
#include "llama.h"
#include "llama/device.h"

namespace aster {

// Owns positions (those of `parts`) and flags; the tokens stay the caller's. n_outputs counts from
// the end.
class TokenBatch {
 public:
  TokenBatch(std::span<const Token> tokens, std::span<const StepPart> parts, std::int64_t n_outputs)
      : positions_(tokens.size()),
        n_seq_ids_(tokens.size(), 1),
        sequences_(parts.size()),
        seq_ids_(tokens.size()),
        wants_logits_(tokens.size(), 0) {
    std::size_t i = 0;
    for (std::size_t p = 0; p < parts.size(); ++p) {
      sequences_[p] = static_cast<llama_seq_id>(p);
      for (std::int64_t at = parts[p].place.begin; at < parts[p].place.end; ++at, ++i) {
        positions_[i] = static_cast<llama_pos>(at);
        seq_ids_[i] = &sequences_[p];
      }
    }
    for (std::int64_t n = 1; n <= n_outputs; ++n) wants_logits_[tokens.size() - n] = 1;
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
  std::vector<llama_pos> positions_;
  std::vector<std::int32_t> n_seq_ids_;
  std::vector<llama_seq_id> sequences_;  // of each part
  std::vector<llama_seq_id*> seq_ids_;
  std::vector<std::int8_t> wants_logits_;
  llama_batch batch_ = {};
};

}  // namespace aster
