#include "llama/forward_pass.h"

#include <algorithm>
#include <exception>

#include "base/check.h"
#include "base/system.h"
#include "llama-ext.h"
#include "llama.h"
#include "llama/batch.h"
#include "llama/device.h"
#include "llama/hyperparameters.h"
#include "llama/linear.h"
#include "llama/llama_log.h"
#include "llama/llama_model.h"

namespace aster {
namespace {

// So many queries take long between two barriers.
constexpr std::int64_t kMinTokensOfAllThreads = 64;

std::unique_ptr<LinearLayers> MakeLinear(const LlamaModel& model, const ForwardOptions& options) {
  using Linear = ModelOptions::Linear;
  using Precision = LinearLayers::Precision;
  if (options.linear == Linear::kGgml) return nullptr;
  if (options.linear == Linear::kAuto && !LinearLayers::PaysHere()) return nullptr;
  Precision precision = LinearLayers::BestPrecision();
  if (options.linear == Linear::kOneDnnF32) precision = Precision::kF32;
  if (options.linear == Linear::kOneDnnBf16) precision = Precision::kBf16;
  return LinearLayers::Make({options.n_threads, precision, model.path()});
}

llama_context_params ContextParams(const ForwardOptions& options) {
  llama_context_params params = llama_context_default_params();
  const auto cells = static_cast<std::uint32_t>((options.ubatch_size + 255) / 256 * 256);
  params.n_ctx = cells;
  params.n_batch = static_cast<std::uint32_t>(options.ubatch_size);
  params.n_ubatch = static_cast<std::uint32_t>(options.ubatch_size);
  params.n_seq_max = static_cast<std::uint32_t>(options.max_parts);
  params.kv_unified = true;
  // llama.cpp looks at a graph with an output for each sequence.
  params.n_outputs_max =
      static_cast<std::uint32_t>(std::max<std::int64_t>(options.max_outputs, options.max_parts));
  params.n_threads = options.n_threads;
  params.n_threads_batch = options.n_threads;
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
  params.type_k = GGML_TYPE_BF16;  // the store's own type: rounded once
  params.type_v = GGML_TYPE_BF16;
  return params;
}

std::string UsableKernelNames() {
  std::string names;
  for (const Kernels* const* k = AllKernels(); *k != nullptr; ++k) {
    if (CanRun(**k)) names += (names.empty() ? "" : ", ") + std::string((*k)->name);
  }
  return names;
}

bool StopRequested(void* step) {
  return static_cast<const ServedStep*>(step)->stop.stop_requested();
}

}  // namespace

ForwardPass::ForwardPass(const LlamaModel& model, const ForwardOptions& options,
                         const Kernels& kernels)
    : model_(model),
      options_(options),
      crowd_(options.n_threads, AffinityCpus()),
      attender_(kernels, options.n_threads),
      linear_(MakeLinear(model, options)) {}

std::int64_t ForwardPass::min_rows() const {
  return linear_ != nullptr ? LinearLayers::kMinRows : 1;
}

std::string_view ForwardPass::linear() const {
  if (linear_ == nullptr) return "ggml";
  return linear_->precision() == LinearLayers::Precision::kBf16 ? "onednn-bf16" : "onednn-f32";
}

ForwardPass::~ForwardPass() {
  if (context_ != nullptr) llama_free(context_);
}

Result<std::unique_ptr<ForwardPass>> ForwardPass::Make(const LlamaModel& model,
                                                       const ForwardOptions& options) {
  const Kernels* kernels = ActiveKernels();
  if (kernels == nullptr) {
    const char* forced = std::getenv("ASTER_ISA");
    return InvalidArgument(std::string("ASTER_ISA=") + (forced != nullptr ? forced : "") +
                           ": no such kernels on this CPU; expected " + UsableKernelNames());
  }
  std::unique_ptr<ForwardPass> pass(new ForwardPass(model, options, *kernels));
  const bool may_be_ggml = options.linear == ModelOptions::Linear::kAuto ||
                           options.linear == ModelOptions::Linear::kGgml;
  if (!may_be_ggml && pass->linear_ == nullptr) {
    return InvalidArgument("linear layers by oneDNN: this build has no oneDNN");
  }
  TakeLlamaError();
  try {
    const DeviceScope scope(nullptr, pass->linear_.get());
    pass->context_ = llama_init_from_model(model.get(), ContextParams(options));
    if (pass->context_ == nullptr && !scope.refusal().empty()) {
      return WorldError(model.path() + ": cannot be served: " + scope.refusal());
    }
  } catch (const std::exception& e) {
    return WorldError(model.path() + ": llama.cpp cannot run it: " + e.what());
  }
  if (pass->context_ == nullptr) {
    return WorldError(model.path() + ": llama.cpp cannot run it: " + TakeLlamaError());
  }
  if (Status status = pass->LookAtGraph(); !status) return status.error();
  return pass;
}

// Decodes one token with the device only recording what it is handed.
Status ForwardPass::LookAtGraph() {
  const ModelInfo info = model_.Info();
  const std::string what = model_.path() + ": architecture '" + info.architecture + "'";
  if (llama_get_memory(context_) == nullptr) {
    return WorldError(what + " cannot be served: it keeps no KV cache");
  }
  const StepPart part = {{0, 1}, nullptr, {}};
  ServedStep step;
  step.records = true;
  step.parts = {&part, 1};
  step.n_tokens = 1;
  const Token token = 0;
  const TokenBatch batch({&token, 1}, {&part, 1}, 1);
  {
    const DeviceScope scope(&step, linear_.get());
    const int result = llama_decode(context_, batch.get());
    if (!scope.refusal().empty()) {
      return WorldError(what + " cannot be served: " + scope.refusal());
    }
    if (result != 0) return WorldError(what + ": llama.cpp cannot run it: " + TakeLlamaError());
  }
  n_nodes_ = static_cast<int>(step.nodes.size());
  if (n_nodes_ != AttentionLayers(model_.get())) {
    return WorldError(what + " cannot be served: " + std::to_string(n_nodes_) + " of its " +
                      std::to_string(AttentionLayers(model_.get())) +
                      " attention layers go through flash attention");
  }
  layers_.resize(static_cast<std::size_t>(info.n_layers));
  windows_.resize(layers_.size());
  for (const AttentionNode& node : step.nodes) {
    if (node.layer >= static_cast<int>(layers_.size())) {
      return WorldError(what + " cannot be served: it has a cache of a layer beyond its last");
    }
    layers_[node.layer] = node.shape;
    windows_[node.layer] = LayerWindow(model_.get(), node.layer);
  }
  n_heads_ = step.nodes.front().n_heads;
  return Ok();
}

namespace {

// How long each part's store was: what a failed step goes back to.
std::vector<std::int64_t> SizesOf(std::span<const StepPart> parts) {
  std::vector<std::int64_t> sizes;
  for (const StepPart& part : parts) sizes.push_back(part.store->size());
  return sizes;
}

void TruncateAll(std::span<const StepPart> parts, const std::vector<std::int64_t>& sizes) {
  for (std::size_t i = parts.size(); i-- > 0;) parts[i].store->Truncate(sizes[i]);
}

// Takes the pages that the places need, and leaves out what lies before and between them.
Status ReservePlaces(std::span<const StepPart> parts) {
  for (const StepPart& part : parts) {
    part.store->Skip(part.place.begin);
    if (Status status = part.store->Reserve(part.place.end); !status) return status;
    part.store->set_size(part.place.end);
  }
  return Ok();
}

}  // namespace

Result<std::span<const float>> ForwardPass::Run(std::span<const Token> tokens,
                                                std::span<const KeyRange> places,
                                                std::span<const KeyRange> visible, KvStore& store,
                                                Outputs outputs, const std::stop_token& stop,
                                                OtherKeys* others) {
  std::vector<KeyRange> seen(visible.begin(), visible.end());
  seen.insert(seen.end(), places.begin(), places.end());
  std::vector<StepPart> parts;
  for (std::size_t i = 0; i < places.size(); ++i) {
    parts.push_back({places[i], &store, std::span(seen).first(visible.size() + i)});
  }
  return Run(tokens, parts, outputs, stop, others);
}

Result<std::span<const float>> ForwardPass::Run(std::span<const Token> tokens,
                                                std::span<const StepPart> parts, Outputs outputs,
                                                const std::stop_token& stop, OtherKeys* others) {
  const auto n = static_cast<std::int64_t>(tokens.size());
  const std::int64_t n_outputs = outputs == Outputs::kAll ? n : outputs == Outputs::kLast ? 1 : 0;
  ASTER_CHECK(n >= 1 && n <= options_.ubatch_size, "%lld tokens", static_cast<long long>(n));
  ASTER_CHECK(n_outputs <= options_.max_outputs, "%lld outputs", static_cast<long long>(n_outputs));
  ASTER_CHECK(std::ssize(parts) <= options_.max_parts, "%zu parts", parts.size());
  for (const StepPart& part : parts) {
    ASTER_CHECK(part.store->size() <= part.place.begin, "store holds %lld, step starts at %lld",
                static_cast<long long>(part.store->size()),
                static_cast<long long>(part.place.begin));
  }
  if (stop.stop_requested()) return Cancelled("cancelled");
  const std::vector<std::int64_t> before = SizesOf(parts);
  if (Status status = ReservePlaces(parts); !status) {
    TruncateAll(parts, before);
    return status.error();
  }
  // A decode has ggml's linear layers however many sessions there are: what one of them says must
  // not depend on that. The peak of memory is the end of a long answer, which has no use for the
  // panel.
  const bool is_decode = n == std::ssize(parts) && n_outputs == n;
  LinearLayers* const linear = is_decode ? nullptr : linear_.get();
  if (linear_ != nullptr && n < min_rows()) linear_->Release();

  ServedStep step;
  step.parts = parts;
  step.attender = &attender_;
  step.crowd = &crowd_;
  step.others = others;
  step.windows = windows_;
  step.n_tokens = n;
  step.n_nodes_expected = n_nodes_;
  step.wants_output = n_outputs > 0;
  step.stop = stop;
  step.appended.assign(layers_.size(), false);

  // A decode meets a barrier every few microseconds; a prefill's parts are long and shared out as
  // threads come free, so there more threads are a larger share of the machine.
  if (is_decode) {
    crowd_.Look();
    step.n_threads = crowd_.n_threads_left();
  }
  const int n_threads = is_decode ? step.n_threads : options_.n_threads;
  llama_set_n_threads(context_, n_threads, n_threads);

  const TokenBatch batch(tokens, parts, n_outputs);
  int result = 0;
  try {
    const DeviceScope scope(&step, linear);
    llama_memory_clear(llama_get_memory(context_), false);
    llama_set_abort_callback(context_, StopRequested, &step);
    result = llama_decode(context_, batch.get());
  } catch (const std::exception& e) {  // no memory, mostly
    result = -1;
    step.error = std::string("the step failed: ") + e.what();
  }
  llama_set_abort_callback(context_, nullptr, nullptr);
  profile_ = step.profile;
  if (result != 0) {
    TruncateAll(parts, before);
    if (stop.stop_requested()) return Cancelled("cancelled");
    if (!step.error.empty()) return WorldError(step.error);
    return WorldError("llama_decode failed (" + std::to_string(result) + "): " + TakeLlamaError());
  }
  ASTER_CHECK(static_cast<int>(step.nodes.size()) == n_nodes_, "%zu attention nodes, not %d",
              step.nodes.size(), n_nodes_);
  if (n_outputs == 0) return std::span<const float>();
  return std::span<const float>(llama_get_logits(context_),
                                static_cast<std::size_t>(n_outputs * model_.n_vocab()));
}

void ForwardPass::Attend(const KvStore& store, int layer, std::span<const KeyRange> ranges,
                         AttendCall call, int store_layer) {
  const std::vector<KvView> views = store.Views(store_layer < 0 ? layer : store_layer);
  call.kv = views;
  call.ranges = ranges;
  call.window = windows_[static_cast<std::size_t>(layer)];
  crowd_.Look();
  if (call.n_tokens < kMinTokensOfAllThreads) call.n_threads = crowd_.n_threads_left();
  attender_.Attend(call);
}

std::int64_t ForwardPass::buffer_bytes() const {
  std::int64_t bytes = 0;
  for (const auto& [type, memory] : llama_get_memory_breakdown(context_)) {
    bytes += static_cast<std::int64_t>(memory.context + memory.compute);
  }
  return bytes;
}

}  // namespace aster
