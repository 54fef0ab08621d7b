// What the contexts of one model share.
#pragma once

#include <memory>
#include <mutex>

#include "aster/model.h"
#include "llama/forward_pass.h"
#include "llama/llama_model.h"

namespace aster::internal {

class ModelState {
 public:
  std::unique_ptr<LlamaModel> llama;
  std::unique_ptr<ForwardPass> pass;
  ForwardOptions options;
  ModelInfo info;
  std::mutex turn;  // held for one forward pass: contexts take turns
};

}  // namespace aster::internal
