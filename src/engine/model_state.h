// What the contexts of one model share.
#pragma once

#include <memory>
#include <mutex>

#include "aster/model.h"
#include "llama/forward_pass.h"
#include "llama/llama_model.h"

namespace aster::internal {

struct HostTeam;

class ModelState {
 public:
  Status CheckLength(std::int64_t n_tokens, bool allow_long) const;  // Model::CheckLength

  std::unique_ptr<LlamaModel> llama;
  std::unique_ptr<ForwardPass> pass;
  ForwardOptions options;
  ModelInfo info;
  bool has_position_table = false;
  std::mutex turn;                  // held for one forward pass: contexts take turns
  std::shared_ptr<HostTeam> hosts;  // null: one host
};

struct ModelAccess {
  static const std::shared_ptr<ModelState>& StateOf(const Model& model) { return model.state_; }
};

}  // namespace aster::internal
