#include "attention/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace aster {
namespace {

double Score(const AttendCall& call, const float* q, const float* k) {
  double dot = 0;
  for (int d = 0; d < call.head_dim; ++d) dot += static_cast<double>(q[d]) * k[d];
  const double score = call.scale * dot;
  return call.softcap == 0 ? score : call.softcap * std::tanh(score / call.softcap);
}

std::vector<std::int64_t> VisibleKeys(const AttendCall& call, std::int64_t position) {
  std::vector<std::int64_t> keys;
  for (const KeyRange& range : call.ranges) {
    for (std::int64_t j = range.begin; j < range.end; ++j) {
      if (j <= position && j >= WindowBegin(call.window, position)) keys.push_back(j);
    }
  }
  return keys;
}

}  // namespace

ReferenceResult AttendReference(const AttendCall& call, const PlainKv& kv) {
  const std::int64_t n_heads = call.n_heads, n_kv_heads = std::ssize(call.kv);
  const std::int64_t dim = call.head_dim, dim_v = call.head_dim_v;
  ReferenceResult result;
  result.out.assign(static_cast<std::size_t>(call.n_tokens * n_heads * dim_v), 0.0);
  result.lse.assign(static_cast<std::size_t>(call.n_tokens * n_heads), 0.0);

  for (std::int64_t t = 0; t < call.n_tokens; ++t) {
    const std::vector<std::int64_t> keys = VisibleKeys(call, call.first_position + t);
    for (std::int64_t h = 0; h < n_heads; ++h) {
      const std::int64_t kv_head = h / (n_heads / n_kv_heads);
      const float* q = call.q + t * call.q_token_stride + h * call.q_head_stride;

      double max = call.sinks ? call.sinks[h] : -std::numeric_limits<double>::infinity();
      std::vector<double> weights;
      for (const std::int64_t j : keys) {
        weights.push_back(Score(call, q, kv.k + (j * n_kv_heads + kv_head) * dim));
        max = std::max(max, weights.back());
      }
      double sum = call.sinks ? std::exp(call.sinks[h] - max) : 0.0;
      for (double& weight : weights) sum += weight = std::exp(weight - max);

      double* out = &result.out[static_cast<std::size_t>((t * n_heads + h) * dim_v)];
      for (std::size_t i = 0; i < keys.size(); ++i) {
        const float* v = kv.v + (keys[i] * n_kv_heads + kv_head) * dim_v;
        for (std::int64_t d = 0; d < dim_v; ++d) out[d] += weights[i] / sum * v[d];
      }
      result.lse[static_cast<std::size_t>(t * n_heads + h)] = max + std::log(sum);
    }
  }
  return result;
}

}  // namespace aster
