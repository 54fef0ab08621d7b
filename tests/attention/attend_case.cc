#include "attend_case.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace aster {
namespace {

constexpr float kHuge = 1e30f;

std::size_t Size(std::int64_t a, std::int64_t b, std::int64_t c = 1) {
  return static_cast<std::size_t>(a * b * c);
}

// Elements of a result that are held to the same error.
struct Part {
  std::size_t begin = 0, end = 0;
  double floor = 0;  // an error that is allowed however small the naive code's is
};

// Largest error over the elements and where it is. Infinities must agree.
struct WorstError {
  double error = 0;
  std::size_t index = 0;
};
WorstError FindWorst(const Part& part, const std::vector<float>& got,
                     const std::vector<double>& want) {
  WorstError worst = {0, part.begin};
  for (std::size_t i = part.begin; i < part.end; ++i) {
    const double error = got[i] == want[i] ? 0.0 : std::abs(got[i] - want[i]);
    if (!(error <= worst.error)) worst = {error, i};  // a NaN is the worst
    if (std::isnan(error)) break;
  }
  return worst;
}

void ExpectError(const char* what, const AttendCase& c, const Kernels& kernels, std::uint32_t seed,
                 const Part& part, const std::vector<float>& got, const std::vector<float>& naive,
                 const std::vector<double>& want) {
  const WorstError worst = FindWorst(part, got, want), allowed = FindWorst(part, naive, want);
  EXPECT_LE(worst.error, 2 * allowed.error + part.floor)
      << "case " << c << ", ISA " << kernels.name << ", " << what << "[" << worst.index << "]: got "
      << got[worst.index] << ", want " << want[worst.index] << ", naive error " << allowed.error
      << ", floor " << part.floor << ", seed " << seed;
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const AttendCase& c) {
  out << '"' << c.name << "\" (heads " << c.n_heads << "/" << c.n_kv_heads << ", dims "
      << c.head_dim << "/" << c.head_dim_v << ", tokens " << c.n_tokens << " at "
      << c.first_position << ", threads " << c.n_threads << ", ranges";
  for (const KeyRange& r : c.ranges) out << " [" << r.begin << "," << r.end << ")";
  return out << ")";
}

AttendData::AttendData(const AttendCase& c, std::uint32_t seed) : case_(c), ranges_(c.ranges) {
  const std::int64_t end = c.first_position + c.n_tokens;
  if (ranges_.empty() && !c.see_nothing) ranges_ = {{0, end}};
  const std::int64_t n_keys = ranges_.empty() ? 0 : ranges_.back().end;

  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  q_.resize(Size(c.n_tokens, c.n_heads, c.head_dim));
  for (float& x : q_) x = normal(random) * c.score_size;
  k_.resize(Size(n_keys, c.n_kv_heads, c.head_dim));
  v_.resize(Size(n_keys, c.n_kv_heads, c.head_dim_v));
  for (float& x : k_) x = FromBf16(ToBf16(normal(random)));
  for (float& x : v_) x = FromBf16(ToBf16(normal(random)));
  sinks_.resize(static_cast<std::size_t>(c.n_heads));
  for (float& x : sinks_) x = 3 * normal(random);

  const std::size_t k_row = Size(c.n_kv_heads, c.head_dim);
  const std::size_t v_row = Size(c.n_kv_heads, c.head_dim_v);
  for (std::size_t j = 0; j < static_cast<std::size_t>(n_keys); ++j) {
    if (c.constant_rows) std::copy_n(k_.begin(), k_row, k_.begin() + static_cast<long>(j * k_row));
    if (IsVisible(static_cast<std::int64_t>(j))) continue;
    std::fill_n(&k_[j * k_row], k_row, std::numeric_limits<float>::quiet_NaN());
    std::fill_n(&v_[j * v_row], v_row, kHuge);
  }
  packed_ =
      std::make_unique<PackedKv>(PlainKv{k_.data(), v_.data()}, static_cast<std::size_t>(n_keys),
                                 c.n_kv_heads, c.head_dim, c.head_dim_v);
}

bool AttendData::IsVisible(std::int64_t key) const {
  if (key < WindowBegin(case_.window, case_.first_position)) return false;
  if (key >= case_.first_position + case_.n_tokens) return false;
  return std::any_of(ranges_.begin(), ranges_.end(),
                     [&](const KeyRange& r) { return r.begin <= key && key < r.end; });
}

AttendCall AttendData::Call() const {
  AttendCall call;
  call.q = q_.data();
  call.q_head_stride = case_.n_tokens * case_.head_dim;  // as ggml has it: [head][token][dim]
  call.q_token_stride = case_.head_dim;
  call.n_tokens = case_.n_tokens;
  call.n_heads = case_.n_heads;
  call.head_dim = case_.head_dim;
  call.head_dim_v = case_.head_dim_v;
  call.kv = packed_->views();
  call.ranges = ranges_;
  call.first_position = case_.first_position;
  call.window = case_.window;
  call.scale = 1.0f / std::sqrt(static_cast<float>(case_.head_dim));
  call.softcap = case_.softcap;
  call.sinks = case_.sinks ? sinks_.data() : nullptr;
  call.out_head_stride = case_.head_dim_v;
  call.out_token_stride = static_cast<std::int64_t>(case_.n_heads) * case_.head_dim_v;
  return call;
}

AttendCall AttendData::CallInto(AttendResult* result) const {
  result->out.assign(Size(case_.n_tokens, case_.n_heads, case_.head_dim_v), kHuge);
  result->lse.assign(Size(case_.n_tokens, case_.n_heads), kHuge);
  AttendCall call = Call();
  call.out = result->out.data();
  call.lse = result->lse.data();
  call.n_threads = case_.n_threads_now;
  return call;
}

AttendResult AttendData::Run(const Kernels& kernels) const {
  AttendResult result;
  Attender(kernels, case_.n_threads).Attend(CallInto(&result));
  return result;
}

std::vector<AttendResult> AttendData::RunTogether(const Kernels& kernels, int n_threads,
                                                  const std::vector<AttendData>& all) {
  std::vector<AttendResult> results(all.size());
  std::vector<AttendCall> calls;
  for (std::size_t i = 0; i < all.size(); ++i) calls.push_back(all[i].CallInto(&results[i]));
  Attender(kernels, n_threads).Attend(calls);
  return results;
}

ReferenceResult AttendData::Reference() const {
  return AttendReference(Call(), {k_.data(), v_.data()});
}

NaiveResult AttendData::Naive(bool rounds_to_bf16) const {
  const AttendCall call = Call();
  const std::size_t dim = static_cast<std::size_t>(call.head_dim);
  const std::size_t dim_v = static_cast<std::size_t>(call.head_dim_v);
  const auto round = [&](float x) { return rounds_to_bf16 ? FromBf16(ToBf16(x)) : x; };
  const float log2_e = 1.44269504f;
  const float factor = call.softcap == 0 ? call.scale * log2_e : call.scale / call.softcap;
  NaiveResult result;
  for (std::int64_t t = 0; t < call.n_tokens; ++t) {
    const std::int64_t position = call.first_position + t;
    for (std::int64_t h = 0; h < call.n_heads; ++h) {
      const float* q = call.q + t * call.q_token_stride + h * call.q_head_stride;
      const std::int64_t kv_head = h / (case_.n_heads / case_.n_kv_heads);
      std::vector<float> out(dim_v), weights;
      std::vector<std::size_t> rows;  // of K and V
      const float sink = call.sinks ? call.sinks[h] * log2_e : -INFINITY;
      float max = sink;
      for (std::int64_t j = WindowBegin(call.window, position); j <= position; ++j) {
        if (!std::any_of(ranges_.begin(), ranges_.end(),
                         [&](const KeyRange& r) { return r.begin <= j && j < r.end; })) {
          continue;
        }
        rows.push_back(Size(j, case_.n_kv_heads) + static_cast<std::size_t>(kv_head));
        float score = 0;
        for (std::size_t d = 0; d < dim; ++d) {
          score += round(q[d] * factor) * k_[rows.back() * dim + d];
        }
        if (call.softcap != 0) score = call.softcap * log2_e * std::tanh(score);
        weights.push_back(score);
        max = std::max(max, score);
      }
      float sum = std::isinf(sink) ? 0 : std::exp2(sink - max);
      double squares = 0;
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const float weight = std::exp2(weights[i] - max);
        sum += weight;
        squares += weight * weight;
        for (std::size_t d = 0; d < dim_v; ++d) out[d] += round(weight) * v_[rows[i] * dim_v + d];
      }
      for (const float x : out) result.out.push_back(sum > 0 ? x / sum : 0);
      result.lse.push_back(sum > 0 ? max / log2_e + std::log(sum) : -INFINITY);
      result.weight_norm.push_back(sum > 0 ? static_cast<float>(std::sqrt(squares)) / sum : 0);
    }
  }
  return result;
}

float AttendData::MaxValue() const {
  float max = 0;
  for (const float x : v_) max = std::max(max, x == FromBf16(ToBf16(kHuge)) ? 0 : std::abs(x));
  return max;
}

void ExpectLawful(const AttendCase& c, const Kernels& kernels, std::uint32_t seed) {
  const AttendData data(c, seed);
  const AttendResult got = data.Run(kernels);
  const NaiveResult naive = data.Naive(kernels.rounds_to_bf16);
  const ReferenceResult want = data.Reference();

  // The naive code may be exact by chance, so a few roundings of the result are always allowed.
  // Where weights are rounded to bf16 the rows of few keys err most, so each row is held to its
  // own; and what so many roundings, each of which goes either way, come to is allowed.
  const double few = std::exp2(-22), max_value = data.MaxValue();
  const auto dim_v = static_cast<std::size_t>(c.head_dim_v);
  std::vector<Part> parts = {{0, want.out.size(), few * max_value}};
  if (kernels.rounds_to_bf16) parts.clear();
  for (std::size_t row = 0; kernels.rounds_to_bf16 && row < naive.weight_norm.size(); ++row) {
    const double floor = (few + std::exp2(-9) * naive.weight_norm[row]) * max_value;
    parts.push_back({row * dim_v, (row + 1) * dim_v, floor});
  }
  for (const Part& part : parts) {
    ExpectError("out", c, kernels, seed, part, got.out, naive.out, want.out);
  }
  double largest_lse = 1;
  for (const double x : want.lse) {
    if (!std::isinf(x)) largest_lse = std::max(largest_lse, std::abs(x));
  }
  const Part all = {0, want.lse.size(), few * largest_lse};
  ExpectError("lse", c, kernels, seed, all, got.lse, naive.lse, want.lse);
}

}  // namespace aster
