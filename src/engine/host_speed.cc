#include "engine/host_speed.h"

#include <algorithm>
#include <mutex>
#include <vector>

#include "base/clock.h"
#include "engine/model_state.h"

namespace aster::internal {
namespace {

// Two passes of as many tokens, the first of which wakes everything up.
double SecondsPerToken(ModelState& model) {
  const std::int64_t n = std::min<std::int64_t>(model.options.ubatch_size, 512);
  const std::vector<Token> tokens(static_cast<std::size_t>(n), 1);
  const KeyRange place = {0, n};
  double seconds = 0;
  for (int round = 0; round < 2; ++round) {
    KvStore store({model.pass->layers().begin(), model.pass->layers().end()});
    const auto start = Clock::now();
    const auto ran = model.pass->Run(tokens, {&place, 1}, {}, store, Outputs::kNone, {});
    if (!ran) return 0;  // the encoding will say why
    seconds = SecondsSince(start) - model.pass->profile().attention;
  }
  return seconds / static_cast<double>(n);
}

// One layer, over keys whose values do not matter.
double SecondsPerPair(ModelState& model) {
  constexpr std::int64_t kKeys = 4096, kQueries = 256;
  const auto layers = model.pass->layers();
  // A layer whose window hides most of the keys tells nothing of those that see them all.
  const auto windows = model.pass->windows();
  const auto has_keys = [](const LayerShape& shape) { return shape.n_kv_heads > 0; };
  const auto sees_all = [&](const LayerShape& shape) {
    return has_keys(shape) && windows[static_cast<std::size_t>(&shape - layers.data())].size == 0;
  };
  const bool all_slide = std::ranges::none_of(layers, sees_all);
  const auto counts = [&](const LayerShape& shape) {
    return all_slide ? has_keys(shape) : sees_all(shape);
  };
  const auto at = std::find_if(layers.begin(), layers.end(), counts);
  if (at == layers.end()) return 0;
  KvStore store({*at});
  if (!store.Reserve(kKeys)) return 0;
  const auto dim = static_cast<std::size_t>(std::max(at->head_dim, at->head_dim_v));
  const std::size_t dims = static_cast<std::size_t>(at->n_kv_heads) * dim;
  const std::vector<std::uint16_t> zeros(dims);
  const Bf16Rows rows{zeros.data(), 0, dim};
  store.Append(0, 0, kKeys, rows, rows);
  store.set_size(kKeys);

  const auto n_heads = static_cast<std::size_t>(model.pass->n_heads());
  std::vector<float> q(kQueries * n_heads * static_cast<std::size_t>(at->head_dim), 0.1f);
  std::vector<float> out, lse;
  AttendCall call;
  call.q = q.data();
  call.q_token_stride = static_cast<std::int64_t>(n_heads) * at->head_dim;
  call.q_head_stride = at->head_dim;
  call.n_tokens = kQueries;
  call.n_heads = static_cast<int>(n_heads);
  call.head_dim = at->head_dim;
  call.head_dim_v = at->head_dim_v;
  call.first_position = kKeys;
  call.scale = 1;
  SetRowMajorOut(call, out, lse);
  const KeyRange range = {0, kKeys};
  double seconds = 0;
  for (int round = 0; round < 2; ++round) {
    const auto start = Clock::now();
    model.pass->Attend(store, static_cast<int>(at - layers.begin()), {&range, 1}, call, 0);
    seconds = SecondsSince(start);
  }
  const auto n_layers = static_cast<double>(std::count_if(layers.begin(), layers.end(), counts));
  return seconds / (kQueries * kKeys) * n_layers;
}

}  // namespace

HostSpeed MeasureSpeed(ModelState& model) {
  const std::lock_guard turn(model.turn);
  HostSpeed speed;
  speed.seconds_per_token = SecondsPerToken(model);
  speed.seconds_per_pair = SecondsPerPair(model);
  speed.n_layers = static_cast<int>(model.info.n_layers);
  speed.kv_bytes_per_token = static_cast<double>(model.info.kv_bytes_per_token);
  return speed;
}

std::int64_t LargePassBytes(const ModelState& model, std::int64_t n_tokens) {
  constexpr std::int64_t kMaskBytes = 2;
  // What the model's own pass takes a token, the cache of all layers included; its mask is small.
  const std::int64_t per_token = model.pass->buffer_bytes() / model.pass->ubatch_size() + 1;
  return n_tokens * (per_token + kMaskBytes * n_tokens);
}

}  // namespace aster::internal
