// The hook into llama.cpp: a ggml device that serves attention from Aster's KV store.
//
// ggml's scheduler offers each graph node to the devices before the CPU. While a DeviceScope is
// open on a thread, this one claims FLASH_ATTN_EXT and large MUL_MAT nodes of the llama.cpp calls
// made on it; with no scope open it claims nothing and llama.cpp runs as shipped. For an attention
// node of one ubatch the device appends the ubatch's K and V to the store (of each of its parts),
// attends over the ranges that the part may see and its own tokens, and writes the node's output.
// llama.cpp's own cache only ever holds that ubatch.
#pragma once

#include <cstdint>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "aster/key_range.h"
#include "aster/profile.h"
#include "aster/status.h"
#include "attention/attend.h"
#include "kvstore/kv_store.h"

namespace aster {

class CrowdWatch;
class LinearLayers;

// One attention node as llama.cpp built it.
struct AttentionNode {
  int layer = -1;  // of the cache it reads; layers that share a cache name the same
  int n_heads = 0;
  LayerShape shape;
};

// Keys of other hosts. A step has one call for each run of its tokens; their K and V are in the
// store.
class OtherKeys {
 public:
  virtual ~OtherKeys() = default;
  // Before the caller attends: hands out what others need, fetches what the store lacks. Answers
  // may be on their way while the caller attends.
  virtual Status Ask(int layer, std::span<const AttendCall> calls) = 0;
  // Merges what other keys give into each call's out and lse, which hold the caller's own result.
  virtual Status Join(int layer, std::span<const AttendCall> calls) = 0;
};

// A run of a step's tokens: their positions, where their keys go, what they see beside themselves.
struct StepPart {
  KeyRange place;
  KvStore* store = nullptr;
  std::span<const KeyRange> visible;  // of the store, ascending, all before the place
};

// What the llama_decode under way is for.
struct ServedStep {
  bool records = false;             // only record the nodes, compute nothing
  std::span<const StepPart> parts;  // the step's tokens, in order
  Attender* attender = nullptr;
  CrowdWatch* crowd = nullptr;      // looks around between the nodes; may be null
  OtherKeys* others = nullptr;      // null: there are none
  std::span<const Window> windows;  // per layer
  std::int64_t n_tokens = 0;
  int n_threads = 0;         // of attention; 0 = the attender's
  int n_nodes_expected = 0;  // attention nodes of one pass
  bool wants_output = true;  // false: the last layer's attention is for nothing
  std::stop_token stop;

  std::vector<AttentionNode> nodes;  // served so far, in order
  std::vector<bool> appended;        // per layer: this step's K and V are in the store
  std::vector<float> lse;            // of the layer, call by call, to merge by
  Profile profile;
  std::string error;  // why the step failed
};

// While alive, the calling thread's llama.cpp calls are served by the device. Scopes do not nest.
class DeviceScope {
 public:
  // step may be null while a llama_context is made: nodes are claimed, none is computed.
  DeviceScope(ServedStep* step, LinearLayers* linear);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

  // Why an attention node was left to llama.cpp in this scope; empty when none was.
  const std::string& refusal() const;
};

// Registers the device with ggml, once per process. Call before the first llama_context is made.
void RegisterDevice();

}  // namespace aster
