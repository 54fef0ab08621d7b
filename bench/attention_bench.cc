// Attention's speed: prefill of 512 tokens and decode of one, at several depths.
//
//   attention_bench                         all threads that OMP_NUM_THREADS allows, else 2
//   ASTER_ISA=scalar attention_bench        a forced instruction set
//   OMP_WAIT_POLICY=passive ...             beside other load: libgomp's spinning makes a decode of
//                                           0.06 ms one of 19 ms when threads outnumber the CPUs
//
// GFLOPS counts 2 multiply-adds of each visible (query, key) pair and dim; GB/s the packed K and V
// that a token's heads read once. `of matmul` is a prefill's share of the rate that oneDNN's matmul
// reaches, in this run and on these threads, on the two products that attention consists of, in the
// kernels' own precision (bf16 where they round to it, else f32). `of reading` is a decode's share
// of the rate at which these threads only sum as many bytes up, in this run. Each shape's answer is
// compared with the float64 law before it is timed; a wrong one ends the run.
#include <benchmark/benchmark.h>
#include <omp.h>

#ifdef ASTER_BENCH_ONEDNN
#include <dnnl.hpp>
#endif

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <unordered_map>
#include <utility>
#include <vector>

#include "attention/attend.h"
#include "pack.h"

namespace aster {
namespace {

struct Shape {
  const char* name;
  std::int64_t n_tokens, depth;
  int n_heads, n_kv_heads, head_dim;
  std::int64_t n_sessions = 1;  // each with a KV of its own, in one pass
};

constexpr Shape kShapes[] = {
    {"prefill/smollm/dim64/depth0", 512, 0, 9, 3, 64},
    {"prefill/smollm/dim64/depth4k", 512, 4096, 9, 3, 64},
    {"prefill/smollm/dim64/depth8k", 512, 8192, 9, 3, 64},
    {"prefill/qwen/dim64/depth8k", 512, 8192, 14, 2, 64},
    {"prefill/llama/dim128/depth0", 512, 0, 8, 2, 128},
    {"prefill/llama/dim128/depth4k", 512, 4096, 8, 2, 128},
    {"prefill/llama/dim128/depth8k", 512, 8192, 8, 2, 128},
    {"prefill/phi/dim80/depth4k", 512, 4096, 8, 8, 80},
    {"prefill/gemma/dim256/depth4k", 512, 4096, 4, 1, 256},
    {"decode/smollm/dim64/depth1k", 1, 1024, 9, 3, 64},
    {"decode/smollm/dim64/depth8k", 1, 8192, 9, 3, 64},
    {"decode/smollm/dim64/depth64k", 1, 65536, 9, 3, 64},
    {"decode/mha/dim64/depth32k", 1, 32768, 8, 8, 64},
    {"decode/llama/dim128/depth8k", 1, 8192, 8, 2, 128},
    {"decode/llama/dim128/depth64k", 1, 65536, 8, 2, 128},
    {"decode/qwen/dim64/depth32k", 1, 32768, 14, 2, 64},
    {"decode/smollm/dim64/depth1k/sessions8", 1, 1024, 9, 3, 64, 8},
    {"decode/smollm/dim64/depth8k/sessions8", 1, 8192, 9, 3, 64, 8},
};

std::vector<float> Random(std::uint32_t seed, std::int64_t n, bool as_bf16) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(n));
  for (float& x : values) x = as_bf16 ? FromBf16(ToBf16(normal(random))) : normal(random);
  return values;
}

struct Inputs {
  std::vector<float> q, k, v, out;
  std::vector<KeyRange> ranges;
  PackedKv packed;
  AttendCall call;

  explicit Inputs(const Shape& s)
      : q(Random(1, s.n_tokens * s.n_heads * s.head_dim, false)),
        k(Random(2, (s.depth + s.n_tokens) * s.n_kv_heads * s.head_dim, true)),
        v(Random(3, (s.depth + s.n_tokens) * s.n_kv_heads * s.head_dim, true)),
        out(q.size()),
        ranges{{0, s.depth + s.n_tokens}},
        packed({k.data(), v.data()}, static_cast<std::size_t>(s.depth + s.n_tokens),
               static_cast<std::size_t>(s.n_kv_heads), static_cast<std::size_t>(s.head_dim),
               static_cast<std::size_t>(s.head_dim)) {
    call.q = q.data();
    call.q_token_stride = call.out_token_stride = s.n_heads * s.head_dim;
    call.q_head_stride = call.out_head_stride = s.head_dim;
    call.n_tokens = s.n_tokens;
    call.n_heads = s.n_heads;
    call.head_dim = call.head_dim_v = s.head_dim;
    call.kv = packed.views();
    call.ranges = ranges;
    call.first_position = s.depth;
    call.scale = 1 / std::sqrt(static_cast<float>(s.head_dim));
    call.out = out.data();
  }
};

// The last token's rows: the law is slow.
void CheckLastToken(const Shape& s, const Inputs& inputs, const Kernels& kernels) {
  AttendCall last = inputs.call;
  last.q += (s.n_tokens - 1) * last.q_token_stride;
  last.n_tokens = 1;
  last.first_position += s.n_tokens - 1;
  const ReferenceResult want = AttendReference(last, {inputs.k.data(), inputs.v.data()});
  const float* got = inputs.out.data() + (s.n_tokens - 1) * last.out_token_stride;
  const double allowed = kernels.rounds_to_bf16 ? 4e-3 : 4e-6;
  for (std::size_t i = 0; i < want.out.size(); ++i) {
    if (std::abs(got[i] - want.out[i]) <= allowed) continue;
    std::fprintf(stderr, "%s, %s: out[%zu] is %g, should be %g\n", s.name, kernels.name, i, got[i],
                 want.out[i]);
    std::exit(1);
  }
}

#ifdef ASTER_BENCH_ONEDNN
// Seconds of one oneDNN product [m, k] x [k, n], the best of several.
double MatmulSeconds(std::int64_t m, std::int64_t n, std::int64_t k, bool bf16) {
  using namespace dnnl;
  const auto type = bf16 ? memory::data_type::bf16 : memory::data_type::f32;
  const engine cpu(engine::kind::cpu, 0);
  const memory::desc a({m, k}, type, memory::format_tag::ab);
  const memory::desc b({k, n}, type, memory::format_tag::ba);
  const memory::desc c({m, n}, memory::data_type::f32, memory::format_tag::ab);
#if DNNL_VERSION_MAJOR >= 3
  const matmul product(matmul::primitive_desc(cpu, a, b, c));
#else
  const matmul product(matmul::primitive_desc({a, b, c}, cpu));
#endif
  stream work(cpu);
  std::unordered_map<int, memory> arguments;
  for (const auto& [name, desc] :
       {std::pair{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}}) {
    const memory data(desc, cpu);
    std::memset(data.get_data_handle(), 0, desc.get_size());
    arguments.emplace(name, data);
  }
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    product.execute(work, arguments);
    work.wait();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    best = std::min(best, took.count());
  }
  return best;
}

// GFLOPS of oneDNN on one KV head's scores and output: all rows against as many keys as a row sees.
double MatmulGflops(const Shape& s, bool bf16) {
  const std::int64_t rows = s.n_tokens * s.n_heads / s.n_kv_heads;
  const std::int64_t keys = s.depth + s.n_tokens / 2;
  const double seconds =
      MatmulSeconds(rows, keys, s.head_dim, bf16) + MatmulSeconds(rows, s.head_dim, keys, bf16);
  return 4.0 * static_cast<double>(rows * keys * s.head_dim) / seconds / 1e9;
}
#endif

// Bytes per second that the threads read when they do nothing else, the best of several.
double ReadRate(double n_bytes, int n_threads) {
  const std::vector<std::uint64_t> words(static_cast<std::size_t>(n_bytes / 8), 1);
  double best = 0;
  for (int i = 0; i < 7; ++i) {
    const auto start = std::chrono::steady_clock::now();
    std::uint64_t sum = 0;
#pragma omp parallel for num_threads(n_threads) reduction(+ : sum)
    for (std::size_t w = 0; w < words.size(); ++w) sum += words[w];
    benchmark::DoNotOptimize(sum);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    best = std::max(best, n_bytes / took.count());
  }
  return best;
}

void RunShape(benchmark::State& state, const Shape& s, const Kernels& kernels, int n_threads) {
  std::vector<std::unique_ptr<Inputs>> sessions;
  std::vector<AttendCall> calls;
  for (std::int64_t i = 0; i < s.n_sessions; ++i) {
    sessions.push_back(std::make_unique<Inputs>(s));
    calls.push_back(sessions.back()->call);
  }
  Attender attender(kernels, n_threads);
  attender.Attend(calls);
  for (const auto& session : sessions) CheckLastToken(s, *session, kernels);
  for (auto _ : state) attender.Attend(calls);

  const double n = static_cast<double>(s.n_tokens), depth = static_cast<double>(s.depth);
  const double pairs = n * depth + n * (n + 1) / 2;
  const double flops = pairs * s.n_heads * s.head_dim * 4 * static_cast<double>(s.n_sessions);
#ifdef ASTER_BENCH_ONEDNN
  if (s.n_tokens > 1) {
    const double matmul = MatmulGflops(s, kernels.rounds_to_bf16);
    state.counters["of matmul"] =
        benchmark::Counter(flops / 1e9 / matmul, benchmark::Counter::kIsIterationInvariantRate);
  }
#endif
  const double bytes = (depth + n) * s.n_kv_heads * s.head_dim * 2 * sizeof(std::uint16_t) *
                       static_cast<double>(s.n_sessions);
  using benchmark::Counter;
  const auto rate = Counter::kIsIterationInvariantRate;
  if (s.n_tokens == 1) {
    state.counters["of reading"] = Counter(bytes / ReadRate(bytes, n_threads), rate);
  }
  state.counters["GFLOPS"] = Counter(flops / 1e9, rate);
  state.counters["GB/s"] = Counter(bytes / 1e9, rate);
}

}  // namespace
}  // namespace aster

int main(int argc, char** argv) {
  const aster::Kernels* const kernels = aster::ActiveKernels();
  if (kernels == nullptr) {
    std::fprintf(stderr, "ASTER_ISA=%s: unknown, or not for this CPU\n", std::getenv("ASTER_ISA"));
    return 2;
  }
  const char* const threads = std::getenv("OMP_NUM_THREADS");
  const int n_threads = threads != nullptr ? std::max(1, std::atoi(threads)) : 2;
  omp_set_num_threads(n_threads);  // oneDNN has no argument for it
  benchmark::AddCustomContext("isa", kernels->name);
  benchmark::AddCustomContext("threads", std::to_string(n_threads));
  for (const aster::Shape& shape : aster::kShapes) {
    benchmark::RegisterBenchmark(
        shape.name,
        [=](benchmark::State& state) { aster::RunShape(state, shape, *kernels, n_threads); })
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
