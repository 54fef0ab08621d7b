#include "models/compare.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "llama/llama_log.h"

namespace aster {
namespace {

template <class T>
T Must(Result<T> result) {
  if (result.ok()) return std::move(*result);
  std::fprintf(stderr, "%s\n", result.error().message.c_str());
  std::abort();
}

std::vector<double> LogSoftmax(std::span<const float> logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - max);
  std::vector<double> out(logits.size());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = logits[i] - max - std::log(sum);
  return out;
}

// Calls run(chunk, visible, wants logits) for each ubatch, and keeps the wanted rows.
template <class Run>
Logits RunAll(const LlamaModel& model, std::span<const Token> tokens, const RunOptions& options,
              Run run) {
  Logits logits;
  logits.n_vocab = model.n_vocab();
  const auto n = static_cast<std::int64_t>(tokens.size());
  for (std::int64_t first = 0; first < n; first += options.ubatch_size) {
    const std::int64_t end = std::min(n, first + options.ubatch_size);
    const bool wanted = end > n - options.n_last;
    const auto chunk =
        tokens.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(end - first));
    const std::span<const float> rows =
        Must<std::span<const float>>(run(chunk, first, wanted ? Outputs::kAll : Outputs::kNone));
    logits.values.insert(logits.values.end(), rows.begin(), rows.end());
  }
  const std::int64_t extra = logits.n_rows() - std::min(n, options.n_last);
  logits.values.erase(logits.values.begin(), logits.values.begin() + extra * logits.n_vocab);
  return logits;
}

ForwardOptions MakeForwardOptions(const RunOptions& options) {
  ForwardOptions forward;
  forward.n_threads = options.n_threads;
  forward.ubatch_size = options.ubatch_size;
  forward.max_outputs = options.ubatch_size;
  forward.linear = options.linear;
  return forward;
}

}  // namespace

std::unique_ptr<LlamaModel> MustLoad(const std::string& path) {
  SetLlamaLog(false);
  return Must<std::unique_ptr<LlamaModel>>(LlamaModel::Load(path));
}

std::vector<Token> RandomTokens(std::int64_t n, std::int64_t n_vocab, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<Token> tokens;
  while (static_cast<std::int64_t>(tokens.size()) < n) {
    if (tokens.size() > 40 && random() % 3 == 0) {  // say again what was said
      const std::size_t from = random() % (tokens.size() - 20);
      for (std::size_t i = 0; i < 20; ++i) tokens.push_back(tokens[from + i]);
    } else {
      for (int i = 0; i < 12; ++i) {
        tokens.push_back(static_cast<Token>(8 + random() % static_cast<unsigned>(n_vocab - 8)));
      }
    }
  }
  tokens.resize(static_cast<std::size_t>(n));
  return tokens;
}

Logits RunStock(const LlamaModel& model, std::span<const Token> tokens, const RunOptions& options,
                StockCache cache) {
  const auto pass = Must<std::unique_ptr<StockPass>>(StockPass::Make(
      model, MakeForwardOptions(options), static_cast<std::int64_t>(tokens.size()), cache));
  return RunAll(model, tokens, options,
                [&](std::span<const Token> chunk, std::int64_t, Outputs outputs) {
                  return pass->Run(chunk, outputs, {});
                });
}

Logits RunAster(const LlamaModel& model, std::span<const Token> tokens, const RunOptions& options) {
  const auto pass =
      Must<std::unique_ptr<ForwardPass>>(ForwardPass::Make(model, MakeForwardOptions(options)));
  KvStore store({pass->layers().begin(), pass->layers().end()});
  return RunAll(
      model, tokens, options,
      [&](std::span<const Token> chunk, std::int64_t first, Outputs outputs) {
        const KeyRange before{0, first};
        const KeyRange place = {first, first + static_cast<std::int64_t>(chunk.size())};
        return pass->Run(chunk, {&place, 1}, {&before, first > 0 ? 1u : 0u}, store, outputs, {});
      });
}

Divergence Compare(const Logits& p, const Logits& q) {
  Divergence result;
  for (std::int64_t i = 0; i < p.n_rows(); ++i) {
    const std::vector<double> log_p = LogSoftmax(p.row(i));
    const std::vector<double> log_q = LogSoftmax(q.row(i));
    double kl = 0;
    for (std::size_t t = 0; t < log_p.size(); ++t) kl += std::exp(log_p[t]) * (log_p[t] - log_q[t]);
    result.mean_kl += kl / static_cast<double>(p.n_rows());
    result.max_kl = std::max(result.max_kl, kl);
    const auto top = [](const std::vector<double>& x) {
      return std::max_element(x.begin(), x.end()) - x.begin();
    };
    if (top(log_p) == top(log_q)) result.same_top += 1.0 / static_cast<double>(p.n_rows());
  }
  return result;
}

}  // namespace aster
