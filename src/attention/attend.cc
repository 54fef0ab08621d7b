#include "attention/attend.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <new>
#include <vector>

#include "attention/merge.h"
#include "base/check.h"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace aster {
namespace {

constexpr std::int64_t kTasksPerThread = 16;       // so that the last task to end is a small share
constexpr std::int64_t kMinRowsPerTask = 96;       // fewer rows cost more per key than they balance
constexpr std::int64_t kEnoughTasksPerThread = 4;  // with fewer, the keys are split too
constexpr std::int64_t kMinKeysPerSplit = 512;     // a merge of a row costs about 4 keys
constexpr std::int64_t kMinWorkToShare = 500'000;  // multiply-adds: 20 us, a few wake-ups

struct Task {
  std::size_t call = 0;
  std::int64_t kv_head = 0;
  std::int64_t row = 0;  // of the KV head: (token, head of the group)
  std::int64_t n_rows = 0;
  std::int64_t split = 0;
  std::int64_t cost = 0;  // rows times keys that the last row sees
};

// How the rows of each KV head of a call, and its keys, are cut into tasks; and where the partial
// results of the splits lie.
struct Cut {
  std::int64_t rows_per_kv_head = 0;
  std::int64_t rows_per_task = 0;
  std::vector<std::int64_t> splits;  // [n_splits + 1] key positions, multiples of kKeysPerStep
  float* partial_out = nullptr;      // [n_splits][n_heads * n_tokens][head_dim_v]
  float* partial_lse = nullptr;      // [n_splits][n_heads * n_tokens]
  std::int64_t n_splits() const { return std::ssize(splits) - 1; }
  bool is_split() const { return n_splits() > 1; }
};

constexpr std::int64_t DivideUp(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Keys of `ranges` in [begin, end).
std::int64_t CountKeys(std::span<const KeyRange> ranges, std::int64_t begin, std::int64_t end) {
  std::int64_t n = 0;
  for (const KeyRange& range : ranges) {
    n += std::max<std::int64_t>(0, std::min(range.end, end) - std::max(range.begin, begin));
  }
  return n;
}

// The position before which `n` keys of the ranges from `begin` on lie, rounded to a step.
std::int64_t PositionOfKey(std::span<const KeyRange> ranges, std::int64_t begin, std::int64_t n) {
  std::int64_t position = begin;
  for (const KeyRange& range : ranges) {
    if (range.end <= begin) continue;
    const std::int64_t first = std::max(range.begin, begin);
    position = std::min(range.end, first + n);
    n -= position - first;
    if (n <= 0) break;
  }
  return position / kKeysPerStep * kKeysPerStep;
}

int ThreadIndex() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

struct FreeDeleter {
  void operator()(void* p) const { std::free(p); }
};
using Scratch = std::unique_ptr<void, FreeDeleter>;

Scratch AllocateScratch(std::size_t bytes) {
  void* p = std::aligned_alloc(64, DivideUp(static_cast<std::int64_t>(bytes), 64) * 64);
  if (p == nullptr) throw std::bad_alloc();
  return Scratch(p);
}

}  // namespace

struct Attender::Impl {
  const Kernels* kernels = nullptr;
  int n_threads = 1;
  std::vector<Scratch> scratch;  // [n_threads]
  std::vector<Cut> cuts;         // [calls]
  std::vector<Task> tasks;
  std::vector<float> partials;  // of all calls whose keys are split

  Cut ChooseCut(const AttendCall& call) const;
  void MakeTasks(std::span<const AttendCall> calls);
  void PlacePartials(std::span<const AttendCall> calls);
  void RunTask(const AttendCall& call, const Task& task, void* task_scratch);
};

namespace {

// One row of a call: its token, its head and where its output lies.
struct Row {
  std::int64_t token, head;
  Row(const AttendCall& call, std::int64_t kv_head, std::int64_t row) {
    const std::int64_t group_size = call.n_heads / std::ssize(call.kv);
    token = row / group_size;
    head = kv_head * group_size + row % group_size;
  }
  float* Out(const AttendCall& call) const {
    return call.out + token * call.out_token_stride + head * call.out_head_stride;
  }
};

// Adds the sink, once the row has seen all its keys, and hands out the LSE.
void FinishRow(const AttendCall& call, const Row& row, float lse) {
  const auto dim_v = static_cast<std::size_t>(call.head_dim_v);
  if (call.sinks != nullptr) {
    static constexpr float kNothing[kMaxHeadDim] = {};
    Merge({{row.Out(call), dim_v}, {&lse, 1}}, {{kNothing, dim_v}, {call.sinks + row.head, 1}},
          dim_v);
  }
  if (call.lse != nullptr) call.lse[row.token * call.n_heads + row.head] = lse;
}

// Joins the splits of row `row` of all [KV head, row] of a call.
void MergeSplits(const AttendCall& call, const Cut& cut, std::int64_t row) {
  const auto dim_v = static_cast<std::size_t>(call.head_dim_v);
  const auto partial = [&](std::int64_t split) {
    const std::int64_t at = split * std::ssize(call.kv) * cut.rows_per_kv_head + row;
    return AttentionState{{cut.partial_out + at * call.head_dim_v, dim_v},
                          {cut.partial_lse + at, 1}};
  };
  const AttentionState all = partial(0);
  for (std::int64_t split = 1; split < cut.n_splits(); ++split) {
    const AttentionState more = partial(split);
    Merge(all, {more.out, more.lse}, dim_v);
  }
  const Row to(call, row / cut.rows_per_kv_head, row % cut.rows_per_kv_head);
  std::copy(all.out.begin(), all.out.end(), to.Out(call));
  FinishRow(call, to, all.lse[0]);
}

std::size_t PartialFloats(const AttendCall& call, const Cut& cut) {
  return static_cast<std::size_t>(cut.n_splits() * call.n_tokens * call.n_heads *
                                  (call.head_dim_v + 1));
}

void CheckCall(const AttendCall& call) {
  const std::int64_t n_kv_heads = std::ssize(call.kv);
  ASTER_CHECK(n_kv_heads > 0 && call.n_heads > 0 && call.n_heads % n_kv_heads == 0,
              "n_heads %d, n_kv_heads %lld", call.n_heads, static_cast<long long>(n_kv_heads));
  ASTER_CHECK(call.head_dim >= 1 && call.head_dim <= kMaxHeadDim && call.head_dim_v >= 1 &&
                  call.head_dim_v <= kMaxHeadDim,
              "head_dim %d, head_dim_v %d", call.head_dim, call.head_dim_v);
}

}  // namespace

Cut Attender::Impl::ChooseCut(const AttendCall& call) const {
  const std::int64_t n_kv_heads = std::ssize(call.kv), block = kernels->rows_per_block;
  const std::int64_t wanted = n_threads == 1 ? 1 : kTasksPerThread * n_threads;

  Cut result;
  const std::int64_t rows_per_kv_head = call.n_tokens * (call.n_heads / n_kv_heads);
  result.rows_per_kv_head = rows_per_kv_head;
  result.splits = {0};
  if (rows_per_kv_head == 0) return result;
  const std::int64_t most = kMaxRows / block * block;
  std::int64_t n_chunks = DivideUp(wanted, n_kv_heads);
  n_chunks = std::min(n_chunks, rows_per_kv_head / kMinRowsPerTask);
  n_chunks = std::max(n_chunks, DivideUp(rows_per_kv_head, most));
  const std::int64_t rows_per_chunk = DivideUp(rows_per_kv_head, n_chunks);
  result.rows_per_task = std::min(most, DivideUp(rows_per_chunk, block) * block);

  const std::int64_t begin = WindowBegin(call.window, call.first_position);
  const std::int64_t end = call.first_position + call.n_tokens;
  const std::int64_t n_keys = CountKeys(call.ranges, begin, end);
  const std::int64_t n_tasks = n_kv_heads * n_chunks;
  const std::int64_t most_splits =
      n_threads == 1 ? 1 : DivideUp(kEnoughTasksPerThread * n_threads, n_tasks);
  const std::int64_t n_splits = std::clamp<std::int64_t>(n_keys / kMinKeysPerSplit, 1, most_splits);
  for (std::int64_t i = 1; i < n_splits; ++i) {
    result.splits.push_back(PositionOfKey(call.ranges, begin, n_keys * i / n_splits));
  }
  result.splits.push_back(std::numeric_limits<std::int64_t>::max());
  return result;
}

void Attender::Impl::MakeTasks(std::span<const AttendCall> calls) {
  tasks.clear();
  for (std::size_t c = 0; c < calls.size(); ++c) {
    const AttendCall& call = calls[c];
    const Cut& cut = cuts[c];
    for (std::int64_t kv_head = 0; kv_head < std::ssize(call.kv); ++kv_head) {
      for (std::int64_t row = 0; row < cut.rows_per_kv_head; row += cut.rows_per_task) {
        const std::int64_t n_rows = std::min(cut.rows_per_task, cut.rows_per_kv_head - row);
        const std::int64_t first = call.first_position + Row(call, kv_head, row).token;
        const std::int64_t last = call.first_position + Row(call, kv_head, row + n_rows - 1).token;
        for (std::int64_t split = 0; split < cut.n_splits(); ++split) {
          const auto at = static_cast<std::size_t>(split);
          const std::int64_t begin = std::max(WindowBegin(call.window, first), cut.splits[at]);
          const std::int64_t end = std::min(last + 1, cut.splits[at + 1]);
          tasks.push_back(
              {c, kv_head, row, n_rows, split, n_rows * CountKeys(call.ranges, begin, end)});
        }
      }
    }
  }
  // Under a causal mask later rows see more. The big ones first, so that small ones fill the end.
  std::stable_sort(tasks.begin(), tasks.end(),
                   [](const Task& a, const Task& b) { return a.cost > b.cost; });
}

void Attender::Impl::PlacePartials(std::span<const AttendCall> calls) {
  std::size_t n_floats = 0;
  for (std::size_t c = 0; c < calls.size(); ++c) {
    if (cuts[c].is_split()) n_floats += PartialFloats(calls[c], cuts[c]);
  }
  partials.resize(n_floats);
  float* next = partials.data();
  for (std::size_t c = 0; c < calls.size(); ++c) {
    if (!cuts[c].is_split()) continue;
    cuts[c].partial_lse = next;
    cuts[c].partial_out = next + cuts[c].n_splits() * calls[c].n_tokens * calls[c].n_heads;
    next += PartialFloats(calls[c], cuts[c]);
  }
}

void Attender::Impl::RunTask(const AttendCall& call, const Task& task, void* task_scratch) {
  const Cut& cut = cuts[task.call];
  const float* q[kMaxRows];
  float* out[kMaxRows];
  float task_lse[kMaxRows];
  std::int64_t row_begin[kMaxRows], row_end[kMaxRows];
  const bool whole = !cut.is_split();
  const auto split = static_cast<std::size_t>(task.split);
  const std::int64_t first_partial =
      (task.split * std::ssize(call.kv) + task.kv_head) * cut.rows_per_kv_head + task.row;

  for (std::int64_t i = 0; i < task.n_rows; ++i) {
    const Row row(call, task.kv_head, task.row + i);
    const std::int64_t position = call.first_position + row.token;
    q[i] = call.q + row.token * call.q_token_stride + row.head * call.q_head_stride;
    out[i] = whole ? row.Out(call) : cut.partial_out + (first_partial + i) * call.head_dim_v;
    row_begin[i] = std::max(WindowBegin(call.window, position), cut.splits[split]);
    row_end[i] = std::min(position + 1, cut.splits[split + 1]);
  }
  kernels->attend({
      .n_rows = static_cast<int>(task.n_rows),
      .q = q,
      .out = out,
      .lse = whole ? task_lse : cut.partial_lse + first_partial,
      .row_begin = row_begin,
      .row_end = row_end,
      .kv = call.kv[static_cast<std::size_t>(task.kv_head)],
      .ranges = call.ranges.data(),
      .n_ranges = call.ranges.size(),
      .head_dim = call.head_dim,
      .head_dim_v = call.head_dim_v,
      .scale = call.scale,
      .softcap = call.softcap,
      .scratch = task_scratch,
  });
  for (std::int64_t i = 0; whole && i < task.n_rows; ++i) {
    FinishRow(call, Row(call, task.kv_head, task.row + i), task_lse[i]);
  }
}

Attender::Attender(const Kernels& kernels, int n_threads) : impl_(std::make_unique<Impl>()) {
  ASTER_CHECK(n_threads >= 1, "n_threads is %d", n_threads);
  ASTER_CHECK(CanRun(kernels), "this CPU can't run the %s kernels", kernels.name);
  impl_->kernels = &kernels;
  impl_->n_threads = n_threads;
  const std::size_t bytes = KernelScratchBytes(kMaxRows, kMaxHeadDim, kMaxHeadDim);
  for (int i = 0; i < n_threads; ++i) impl_->scratch.push_back(AllocateScratch(bytes));
}
Attender::~Attender() = default;
Attender::Attender(Attender&&) noexcept = default;
Attender& Attender::operator=(Attender&&) noexcept = default;

const Kernels& Attender::kernels() const { return *impl_->kernels; }

void Attender::Attend(std::span<const AttendCall> calls) {
  Impl& self = *impl_;
  self.cuts.clear();
  for (const AttendCall& call : calls) {
    CheckCall(call);
    self.cuts.push_back(self.ChooseCut(call));
  }
  self.MakeTasks(calls);
  self.PlacePartials(calls);
  if (self.tasks.empty()) return;

  std::int64_t work = 0;
  for (const Task& task : self.tasks) {
    work += task.cost * (calls[task.call].head_dim + calls[task.call].head_dim_v);
  }
  const bool share = self.tasks.size() > 1 && work >= kMinWorkToShare;
  const int asked = calls.front().n_threads;
  const int team = asked > 0 ? std::min(asked, self.n_threads) : self.n_threads;
#pragma omp parallel num_threads(team) if (share)
  {
    void* const scratch = self.scratch[static_cast<std::size_t>(ThreadIndex())].get();
#pragma omp for schedule(dynamic, 1) nowait
    for (std::size_t i = 0; i < self.tasks.size(); ++i) {
      self.RunTask(calls[self.tasks[i].call], self.tasks[i], scratch);
    }
    if (!self.partials.empty()) {
#pragma omp barrier
      for (std::size_t c = 0; c < calls.size(); ++c) {
        const Cut& cut = self.cuts[c];
        if (!cut.is_split()) continue;
#pragma omp for schedule(static) nowait
        for (std::int64_t i = 0; i < calls[c].n_tokens * calls[c].n_heads; ++i) {
          MergeSplits(calls[c], cut, i);
        }
      }
    }
  }
}

void SetRowMajorOut(AttendCall& call, std::vector<float>& out, std::vector<float>& lse) {
  const auto n_rows = static_cast<std::size_t>(call.n_tokens * call.n_heads);
  out.resize(n_rows * static_cast<std::size_t>(call.head_dim_v));
  lse.resize(n_rows);
  call.out = out.data();
  call.out_token_stride = std::int64_t{call.n_heads} * call.head_dim_v;
  call.out_head_stride = call.head_dim_v;
  call.lse = lse.data();
}

void MergeInto(const AttendCall& call, std::span<const float> out, std::span<const float> lse,
               int n_threads) {
  const auto dim_v = static_cast<std::size_t>(call.head_dim_v);
  const std::int64_t n_rows = call.n_tokens * call.n_heads;
  const int team = n_rows * call.head_dim_v >= kMinWorkToShare ? n_threads : 1;
#pragma omp parallel for schedule(static) num_threads(team)
  for (std::int64_t row = 0; row < n_rows; ++row) {
    const auto at = static_cast<std::size_t>(row);
    float* const into = call.out + row / call.n_heads * call.out_token_stride +
                        row % call.n_heads * call.out_head_stride;
    Merge({{into, dim_v}, {call.lse + row, 1}}, {{&out[at * dim_v], dim_v}, {&lse[at], 1}}, dim_v);
  }
}

}  // namespace aster
