#include "llama/device.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <mutex>

#include "base/check.h"
#include "base/clock.h"
#include "base/crowd_watch.h"
#include "ggml-backend-impl.h"
#include "ggml-cpu.h"
#include "llama/linear.h"

namespace aster {
namespace {

// Steps of fewer tokens leave the cache's memory alone: a decode would only fault it in again.
constexpr std::int64_t kMinTokensToForget = 64;

// The scope open on this thread.
struct OpenScope {
  bool open = false;
  ServedStep* step = nullptr;
  LinearLayers* linear = nullptr;
  std::string refusal;
};
thread_local OpenScope scope;

float OpParam(const ggml_tensor* op, int index) {
  float value;
  std::memcpy(&value, op->op_params + index, sizeof value);
  return value;
}

// Layer that the cache tensor behind a K view belongs to ("cache_k_l7"); -1 for any other tensor.
int CacheLayer(const ggml_tensor* k) {
  const ggml_tensor* cache = k->view_src != nullptr ? k->view_src : k;
  int layer = -1;
  return std::sscanf(cache->name, "cache_k_l%d", &layer) == 1 ? layer : -1;
}

// Why a FLASH_ATTN_EXT node cannot be served; empty when it can.
std::string WhyNot(const ggml_tensor* op) {
  const ggml_tensor* q = op->src[0];
  const ggml_tensor* k = op->src[1];
  const ggml_tensor* v = op->src[2];
  if (k->ne[0] > kMaxHeadDim || v->ne[0] > kMaxHeadDim) {
    return "its head size is " + std::to_string(std::max(k->ne[0], v->ne[0])) + ", at most " +
           std::to_string(kMaxHeadDim) + " is served";
  }
  if (OpParam(op, 1) != 0.0f) return "it uses ALiBi position biases";
  if (CacheLayer(k) < 0) return "its attention does not read llama.cpp's plain KV cache";
  const bool plain = q->type == GGML_TYPE_F32 && k->type == GGML_TYPE_BF16 &&
                     v->type == GGML_TYPE_BF16 && q->ne[3] == 1 && k->ne[3] == 1 &&
                     op->src[3] != nullptr && op->src[3]->type == GGML_TYPE_F16 &&
                     op->src[3]->ne[2] == 1 && q->ne[2] % k->ne[2] == 0;
  if (!plain) return "its attention node has a form that is not known";
  return {};
}

bool Supports(ggml_backend_dev_t, const ggml_tensor* op) {
  if (!scope.open) return false;
  switch (op->op) {
    case GGML_OP_NONE:
    case GGML_OP_RESHAPE:
    case GGML_OP_VIEW:
    case GGML_OP_PERMUTE:
    case GGML_OP_TRANSPOSE:
      return true;
    case GGML_OP_MUL_MAT:
      return scope.linear != nullptr && scope.linear->Serves(op);
    case GGML_OP_FLASH_ATTN_EXT: {
      std::string why = WhyNot(op);
      if (!why.empty()) scope.refusal = why;
      return why.empty();
    }
    default:
      return false;
  }
}

// A run of the step's tokens: which of them, and the position of the first.
struct Run {
  std::int64_t first, end, position;
};

// The run that the step's nth token is in.
Run RunOf(const ServedStep& step, std::int64_t n) {
  Run run{0, 0, 0};
  for (const StepPart& part : step.parts) {
    run = {run.end, run.end + part.place.size(), part.place.begin};
    if (n < run.end) return run;
  }
  ASTER_CHECK(false, "token %lld of a step", static_cast<long long>(n));
  return run;
}

// The mask llama.cpp built must say what the step assumes: the ubatch's tokens lie in cells
// 0..n_tokens-1 in order, each sees itself and those before it of its run, within its window. Three
// rows are looked at: enough to catch a layer whose window was read wrongly, where that is smaller
// than the ubatch. That a run also sees those before it only Aster knows.
bool MaskAgrees(const ggml_tensor* mask, const Window& window, const ServedStep& step) {
  for (const std::int64_t row : {std::int64_t{0}, step.n_tokens / 2, step.n_tokens - 1}) {
    const auto* cells = reinterpret_cast<const ggml_fp16_t*>(static_cast<const char*>(mask->data) +
                                                             row * mask->nb[1]);
    const Run run = RunOf(step, row);
    const std::int64_t to_cell = run.first - run.position;
    const std::int64_t begin = std::max(WindowBegin(window, row - to_cell) + to_cell, run.first);
    for (std::int64_t cell = 0; cell < mask->ne[0]; ++cell) {
      const bool seen = ggml_fp16_to_fp32(cells[cell]) == 0.0f;
      if (seen != (cell <= row && cell >= begin)) return false;
    }
  }
  return true;
}

Bf16Rows Rows(const ggml_tensor* t) {
  return {static_cast<const std::uint16_t*>(t->data), t->nb[1] / sizeof(std::uint16_t),
          t->nb[2] / sizeof(std::uint16_t)};
}

bool FailStep(ServedStep& step, std::string why) {
  step.error = std::move(why);
  return false;
}

// Gives the memory behind K or V of llama.cpp's cache back to the system: the store has what was in
// it, and the next ubatch writes before anything reads. So the cache costs one layer's ubatch at a
// time instead of all layers'. Whole pages only: a neighbour's bytes stay.
void ForgetCells(const ggml_tensor* cells) {
  const ggml_tensor* cache = cells->view_src != nullptr ? cells->view_src : cells;
  const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto data = reinterpret_cast<std::uintptr_t>(cache->data);
  const std::uintptr_t begin = (data + page - 1) / page * page;
  const std::uintptr_t end = (data + ggml_nbytes(cache)) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

bool AppendToStore(ServedStep& step, const AttentionNode& node, const ggml_tensor* op) {
  if (step.appended[node.layer]) return true;  // layers may share one cache (Gemma 3n)
  const auto start = Clock::now();
  Bf16Rows k = Rows(op->src[1]), v = Rows(op->src[2]);
  for (const StepPart& part : step.parts) {
    if (!(part.store->layers()[node.layer] == node.shape)) {
      return FailStep(step, "layer " + std::to_string(node.layer) + " changed its shape");
    }
    part.store->Append(node.layer, part.place.begin, part.place.size(), k, v);
    k.data += static_cast<std::size_t>(part.place.size()) * k.token_stride;
    v.data += static_cast<std::size_t>(part.place.size()) * v.token_stride;
  }
  step.profile.packing += SecondsSince(start);
  step.appended[node.layer] = true;
  if (step.n_tokens >= kMinTokensToForget) {
    ForgetCells(op->src[1]);
    ForgetCells(op->src[2]);
  }
  return true;
}

// One call for each part of a step, and what they point to.
struct Calls {
  std::vector<std::vector<KvView>> views;
  std::vector<std::vector<KeyRange>> ranges;
  std::vector<AttendCall> calls;
};

Calls CallsOf(ServedStep& step, const AttentionNode& node, ggml_tensor* op) {
  const ggml_tensor* q = op->src[0];
  AttendCall call;
  call.q = static_cast<const float*>(q->data);
  call.q_token_stride = static_cast<std::int64_t>(q->nb[1] / sizeof(float));
  call.q_head_stride = static_cast<std::int64_t>(q->nb[2] / sizeof(float));
  call.n_heads = node.n_heads;
  call.head_dim = node.shape.head_dim;
  call.head_dim_v = node.shape.head_dim_v;
  call.window = step.windows[node.layer];
  call.scale = OpParam(op, 0);
  call.softcap = OpParam(op, 2);
  call.sinks = op->src[4] != nullptr ? static_cast<const float*>(op->src[4]->data) : nullptr;
  call.out = static_cast<float*>(op->data);
  call.out_token_stride = static_cast<std::int64_t>(op->nb[2] / sizeof(float));
  call.out_head_stride = static_cast<std::int64_t>(op->nb[1] / sizeof(float));
  if (step.others != nullptr) {
    step.lse.resize(static_cast<std::size_t>(step.n_tokens * call.n_heads));
    call.lse = step.lse.data();
  }
  call.n_threads = step.n_threads;

  Calls all;
  all.views.reserve(step.parts.size());
  all.ranges.reserve(step.parts.size());
  for (const StepPart& part : step.parts) {
    call.kv = all.views.emplace_back(part.store->Views(node.layer));
    std::vector<KeyRange>& ranges =
        all.ranges.emplace_back(part.visible.begin(), part.visible.end());
    ranges.push_back(part.place);
    call.ranges = ranges;
    call.n_tokens = part.place.size();
    call.first_position = part.place.begin;
    all.calls.push_back(call);
    call.q += call.n_tokens * call.q_token_stride;
    call.out += call.n_tokens * call.out_token_stride;
    if (call.lse != nullptr) call.lse += call.n_tokens * call.n_heads;
  }
  return all;
}

bool Attend(ServedStep& step, const AttentionNode& node, ggml_tensor* op) {
  const Calls all = CallsOf(step, node, op);
  if (step.others == nullptr) {
    step.attender->Attend(all.calls);
    return true;
  }
  Status status = step.others->Ask(node.layer, all.calls);
  if (status) {
    step.attender->Attend(all.calls);
    status = step.others->Join(node.layer, all.calls);
  }
  return status.ok() || FailStep(step, status.error().message);
}

bool ServeAttention(ServedStep& step, ggml_tensor* op) {
  const ggml_tensor* q = op->src[0];
  const ggml_tensor* k = op->src[1];
  AttentionNode node;
  node.layer = CacheLayer(k);
  node.n_heads = static_cast<int>(q->ne[2]);
  node.shape = {static_cast<int>(k->ne[2]), static_cast<int>(k->ne[0]),
                static_cast<int>(op->src[2]->ne[0])};
  step.nodes.push_back(node);
  if (step.records) {
    std::memset(op->data, 0, ggml_nbytes(op));
    return true;
  }
  if (q->ne[1] != step.n_tokens) {
    return FailStep(step, "llama.cpp split the step: " + std::to_string(q->ne[1]) + " of " +
                              std::to_string(step.n_tokens) + " tokens");
  }
  if (!MaskAgrees(op->src[3], step.windows[node.layer], step)) {
    return FailStep(step, "layer " + std::to_string(node.layer) +
                              ": llama.cpp's mask is not causal with the window expected");
  }
  if (!AppendToStore(step, node, op)) return false;
  const bool is_last = static_cast<int>(step.nodes.size()) == step.n_nodes_expected;
  if (is_last && !step.wants_output) {
    std::memset(op->data, 0, ggml_nbytes(op));  // nobody reads it
    return true;
  }
  const auto start = Clock::now();
  if (!Attend(step, node, op)) return false;
  step.profile.attention += SecondsSince(start);
  return true;
}

ggml_status Compute(ggml_backend_t, ggml_cgraph* graph) {
  ASTER_CHECK(scope.open && scope.step != nullptr, "the device ran outside a step");
  ServedStep& step = *scope.step;
  if (step.crowd != nullptr) step.crowd->Look();
  for (int i = 0; i < ggml_graph_n_nodes(graph); ++i) {
    ggml_tensor* op = ggml_graph_node(graph, i);
    if ((op->flags & GGML_TENSOR_FLAG_COMPUTE) == 0) continue;
    if (step.stop.stop_requested()) return GGML_STATUS_ABORTED;
    if (op->op == GGML_OP_FLASH_ATTN_EXT) {
      if (!ServeAttention(step, op)) return GGML_STATUS_FAILED;
    } else if (op->op == GGML_OP_MUL_MAT) {
      const auto start = Clock::now();
      std::string why = scope.linear->Compute(op);
      if (!why.empty()) {
        FailStep(step, std::move(why));
        return GGML_STATUS_FAILED;
      }
      step.profile.linear += SecondsSince(start);
    }
  }
  return GGML_STATUS_SUCCESS;
}

// The rest is ggml's backend interface, filled in.

const char* Name(ggml_backend_t) { return "Aster"; }
void Free(ggml_backend_t backend) { delete backend; }

ggml_guid_t Guid() {
  static ggml_guid guid = {0x61, 0x73, 0x74, 0x65, 0x72, 0x2d, 0x61, 0x74,
                           0x74, 0x65, 0x6e, 0x74, 0x69, 0x6f, 0x6e, 0x31};
  return &guid;
}

ggml_backend_t InitBackend(ggml_backend_dev_t device, const char*) {
  ggml_backend_i interface = {};
  interface.get_name = Name;
  interface.free = Free;
  interface.graph_compute = Compute;
  return new ggml_backend{Guid(), interface, device, nullptr};
}

ggml_backend_device_i DeviceInterface() {
  ggml_backend_device_i interface = {};
  interface.get_name = [](ggml_backend_dev_t) { return "Aster"; };
  interface.get_description = [](ggml_backend_dev_t) { return "Aster attention"; };
  interface.get_memory = [](ggml_backend_dev_t, std::size_t* free, std::size_t* total) {
    *free = *total = 0;
  };
  interface.get_type = [](ggml_backend_dev_t) { return GGML_BACKEND_DEVICE_TYPE_ACCEL; };
  interface.get_props = [](ggml_backend_dev_t device, ggml_backend_dev_props* props) {
    *props = {};
    props->name = device->iface.get_name(device);
    props->description = device->iface.get_description(device);
    props->type = GGML_BACKEND_DEVICE_TYPE_ACCEL;
    props->caps.buffer_from_host_ptr = true;
    props->caps.mmap_support = true;
  };
  interface.init_backend = InitBackend;
  interface.get_buffer_type = [](ggml_backend_dev_t) { return ggml_backend_cpu_buffer_type(); };
  interface.buffer_from_host_ptr = [](ggml_backend_dev_t, void* data, std::size_t size,
                                      std::size_t) {
    return ggml_backend_cpu_buffer_from_ptr(data, size);
  };
  interface.supports_op = Supports;
  // Besides plain host memory, what the CPU keeps repacked weights in: their rows are read from the
  // model's file.
  interface.supports_buft = [](ggml_backend_dev_t, ggml_backend_buffer_type_t type) {
    if (ggml_backend_buft_is_host(type)) return true;
    ggml_backend_dev_t const device = ggml_backend_buft_get_device(type);
    return device != nullptr && ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU;
  };
  return interface;
}

ggml_backend_dev_t Device(ggml_backend_reg_t registry, std::size_t) {
  static ggml_backend_device device = {DeviceInterface(), registry, nullptr};
  return &device;
}

}  // namespace

DeviceScope::DeviceScope(ServedStep* step, LinearLayers* linear) {
  ASTER_CHECK(!scope.open, "device scopes do not nest");
  scope = {true, step, linear, {}};
}

DeviceScope::~DeviceScope() { scope = {}; }

const std::string& DeviceScope::refusal() const { return scope.refusal; }

void RegisterDevice() {
  static std::once_flag once;
  std::call_once(once, [] {
    static ggml_backend_reg registry = {};
    registry.api_version = GGML_BACKEND_API_VERSION;
    registry.iface.get_name = [](ggml_backend_reg_t) { return "Aster"; };
    registry.iface.get_device_count = [](ggml_backend_reg_t) { return std::size_t{1}; };
    registry.iface.get_device = Device;
    registry.iface.get_proc_address = [](ggml_backend_reg_t, const char*) -> void* {
      return nullptr;
    };
    ggml_backend_register(&registry);
  });
}

}  // namespace aster
