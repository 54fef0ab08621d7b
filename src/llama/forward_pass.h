// One step of tokens through the model, its attention served from a KV store.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "aster/key_range.h"
#include "aster/model.h"
#include "aster/profile.h"
#include "aster/status.h"
#include "attention/attend.h"
#include "base/crowd_watch.h"
#include "kvstore/kv_store.h"

struct llama_context;

namespace aster {

class LinearLayers;
class LlamaModel;
class OtherKeys;
struct StepPart;

struct ForwardOptions {
  int n_threads = 1;
  std::int64_t ubatch_size = 512;
  std::int64_t max_outputs = 1;  // most logit rows of one step
  int max_parts = 1;             // most parts of one step
  ModelOptions::Linear linear = ModelOptions::Linear::kAuto;
};

enum class Outputs { kNone, kLast, kAll };

class ForwardPass {
 public:
  // Makes the llama_context (its cache one ubatch long) and looks at every attention node of one
  // pass, computing none: layers() then says what a KvStore must hold. Errors: kWorld when the
  // graph has attention that the device cannot serve.
  static Result<std::unique_ptr<ForwardPass>> Make(const LlamaModel& model,
                                                   const ForwardOptions& options);
  ~ForwardPass();
  ForwardPass(const ForwardPass&) = delete;
  ForwardPass& operator=(const ForwardPass&) = delete;

  // Runs tokens, part after part. Their K and V join the parts' stores, whose sizes become the ends
  // of their places. `others`: what other hosts hold, or null. Returns the logits, row-major
  // [n_outputs, n_vocab], valid until the next Run. On error (kWorld, kCancelled) the stores are as
  // long as before. REQUIRES: 1 <= tokens.size() <= ubatch_size, the sum of at most max_parts
  // places; each store's size() <= its first place's begin. What lies between is skipped.
  Result<std::span<const float>> Run(std::span<const Token> tokens, std::span<const StepPart> parts,
                                     Outputs outputs, const std::stop_token& stop,
                                     OtherKeys* others = nullptr);
  // Of one store: tokens at `places` (ascending, disjoint), which see `visible` (all before the
  // places) and each other causally.
  Result<std::span<const float>> Run(std::span<const Token> tokens,
                                     std::span<const KeyRange> places,
                                     std::span<const KeyRange> visible, KvStore& store,
                                     Outputs outputs, const std::stop_token& stop,
                                     OtherKeys* others = nullptr);

  // Attends over ranges of a store for queries from elsewhere: `call` has queries, shapes,
  // positions and outputs; KV, ranges and window of the layer are filled in. `store_layer`: where
  // the store has the layer's keys, if not under its own number. A few queries, as a decode has,
  // are left to the threads that others leave a CPU for.
  void Attend(const KvStore& store, int layer, std::span<const KeyRange> ranges, AttendCall call,
              int store_layer = -1);

  // Memory that llama.cpp allotted for a pass of ubatch_size tokens, in bytes.
  std::int64_t buffer_bytes() const;
  int n_passes_of_attention() const { return n_nodes_; }  // attention nodes of one pass

  std::span<const LayerShape> layers() const { return layers_; }
  int n_heads() const { return n_heads_; }  // of the first attention layer
  const Kernels& kernels() const { return attender_.kernels(); }
  std::string_view linear() const;  // as Model::linear
  int n_threads() const { return options_.n_threads; }
  std::int64_t ubatch_size() const { return options_.ubatch_size; }
  // Prefills of fewer tokens have ggml's linear layers, which round otherwise; 1: all have.
  std::int64_t min_rows() const;

  // By layer; a size of 0: it sees everything.
  std::span<const Window> windows() const { return windows_; }

  // Of the last Run.
  const Profile& profile() const { return profile_; }

 private:
  ForwardPass(const LlamaModel& model, const ForwardOptions& options, const Kernels& kernels);
  Status LookAtGraph();

  const LlamaModel& model_;
  ForwardOptions options_;
  CrowdWatch crowd_;
  Attender attender_;
  std::unique_ptr<LinearLayers> linear_;
  llama_context* context_ = nullptr;
  std::vector<LayerShape> layers_;
  std::vector<Window> windows_;
  int n_nodes_ = 0;
  int n_heads_ = 0;
  Profile profile_;
};

}  // namespace aster
