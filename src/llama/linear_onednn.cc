#include <dnnl.h>
#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "base/bf16.h"
#include "base/check.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "llama/bf16_matmul.h"
#include "llama/dequantize.h"
#include "llama/linear.h"
#include "llama/weight_file.h"

namespace aster {
namespace {

// Rows of one product in f32: oneDNN's own buffers grow with rows times panel, and 256 rows were
// seen to be as fast as 512 with 14 MB less.
constexpr std::int64_t kRowsAtOnce = 256;
// Values of a dequantised panel: small enough to stay in the cache between its two uses.
constexpr std::int64_t kPanelValues = std::int64_t{1} << 20;
// Rows of a panel are a multiple of what oneDNN packs together: an odd number of them was packed at
// a third of the speed.
constexpr std::int64_t kPanelStep = 64;
// Packed bytes that a thread reads from the file at once: they pass through its cache.
constexpr std::int64_t kBytesAtOnce = 128 << 10;

// Memory that goes back to the system when it is let go: malloc would keep it.
class Buffer {
 public:
  Buffer() = default;
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  ~Buffer() {
    if (data_ != nullptr) munmap(data_, bytes_);
  }

  // At least n values; what was held before is lost.
  template <class T>
  T* Hold(std::int64_t n) {
    const std::size_t bytes = static_cast<std::size_t>(n) * sizeof(T);
    if (bytes > bytes_) {
      *this = Buffer();
      void* const mapped =
          mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (mapped == MAP_FAILED) throw std::bad_alloc();
      data_ = mapped;
      bytes_ = bytes;
    }
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// Each value as the nearest bf16, still a float.
void RoundToBf16(float* values, std::int64_t n) {
  ggml_bf16_t rounded[256];
  for (std::int64_t i = 0; i < n; i += 256) {
    const std::int64_t some = std::min<std::int64_t>(256, n - i);
    ggml_cpu_fp32_to_bf16(values + i, rounded, some);
    ggml_cpu_bf16_to_fp32(rounded, values + i, some);
  }
}

void ToBf16(const float* values, std::uint16_t* to, std::int64_t n) {
  ggml_cpu_fp32_to_bf16(values, reinterpret_cast<ggml_bf16_t*>(to), n);
}

class OneDnnLinear : public LinearLayers {
 public:
  explicit OneDnnLinear(const Options& options)
      : options_(options), threads_(static_cast<std::size_t>(options.n_threads)) {
    if (rounds() && Bf16Matmul::CpuHasIt()) bf16_ = std::make_unique<Bf16Matmul>();
  }

  Precision precision() const override { return options_.precision; }

  bool Serves(const ggml_tensor* op) override {
    const ggml_tensor* weight = op->src[0];
    const ggml_tensor* rows = op->src[1];
    if (rows->type != GGML_TYPE_F32 || rows->ne[1] < kMinRows) return false;
    if (!ggml_is_contiguous(weight) || !ggml_is_contiguous(rows)) return false;
    if (ggml_n_dims(weight) > 2 || ggml_n_dims(rows) > 2) return false;
    if (weight->op != GGML_OP_NONE || weight->view_src != nullptr) return false;
    if (op->op_params[1] == GGML_HINT_SRC0_IS_HADAMARD) return false;
    if (weight->type != GGML_TYPE_F32 && RowDequantizer(weight->type) == nullptr) return false;
    return IsPlain(weight) || File().Has(weight);
  }

  std::string Compute(ggml_tensor* op) override {
    try {
      return bf16_ != nullptr ? ComputeInBf16(op) : ComputeInF32(op);
    } catch (const std::exception& e) {
      return std::string("linear layers by oneDNN: ") + e.what();
    }
  }

  void Release() override {
    panel_ = Buffer();
    rows_ = Buffer();
    if (bf16_ != nullptr) bf16_->Release();
  }

 private:
  // What one thread needs to make a panel.
  struct Thread {
    std::vector<float> row;
    std::vector<char> packed;
  };

  bool rounds() const { return options_.precision == Precision::kBf16; }
  static bool IsPlain(const ggml_tensor* weight) {
    return weight->buffer == nullptr || ggml_backend_buffer_is_host(weight->buffer);
  }
  // Opened for the first weight that isn't plain.
  const WeightFile& File() {
    if (file_ == nullptr) file_ = std::make_unique<WeightFile>(options_.model_path);
    return *file_;
  }

  std::string ComputeInF32(ggml_tensor* op) {
    const std::int64_t k = op->src[0]->ne[0], m = op->src[0]->ne[1], n = op->src[1]->ne[1];
    const auto* rows = static_cast<const float*>(op->src[1]->data);
    auto* const out = static_cast<float*>(op->data);
    if (rounds()) {
      auto* const rounded = rows_.Hold<float>(n * k);
      std::copy(rows, rows + n * k, rounded);
      RoundToBf16(rounded, n * k);
      rows = rounded;
    }
    return ForEachPanel<float>(op->src[0],
                               [&](const float* panel, std::int64_t first, std::int64_t count) {
                                 for (std::int64_t row = 0; row < n; row += kRowsAtOnce) {
                                   Multiply(rows + row * k, std::min(kRowsAtOnce, n - row), panel,
                                            count, k, out + row * m + first, m);
                                 }
                               });
  }

  std::string ComputeInBf16(ggml_tensor* op) {
    const std::int64_t k = op->src[0]->ne[0], m = op->src[0]->ne[1], n = op->src[1]->ne[1];
    const auto* given = static_cast<const float*>(op->src[1]->data);
    const std::int64_t padded = Bf16Matmul::PaddedRows(n);
    auto* const rows = rows_.Hold<std::uint16_t>(padded * k);
    std::fill(rows + n * k, rows + padded * k, std::uint16_t{0});
#pragma omp parallel for num_threads(options_.n_threads) schedule(static)
    for (std::int64_t row = 0; row < n; ++row) ToBf16(given + row * k, rows + row * k, k);
    auto* const out = static_cast<float*>(op->data);
    return ForEachPanel<std::uint16_t>(
        op->src[0], [&](const std::uint16_t* panel, std::int64_t first, std::int64_t count) {
          bf16_->Multiply(rows, n, panel, count, k, out + first, m);
        });
  }

  // Calls multiply(panel [count, k], first, count) for all rows of the weight.
  template <class Value, class Multiply>
  std::string ForEachPanel(const ggml_tensor* weight, Multiply multiply) {
    omp_set_num_threads(options_.n_threads);
    const std::int64_t k = weight->ne[0], m = weight->ne[1];
    const std::int64_t some = kPanelValues / k / kPanelStep * kPanelStep;
    const std::int64_t panel_rows = std::clamp<std::int64_t>(some, std::min(kPanelStep, m), m);
    for (std::int64_t first = 0; first < m; first += panel_rows) {
      const std::int64_t count = std::min(panel_rows, m - first);
      const Value* const panel = Panel<Value>(weight, first, count);
      if (panel == nullptr) {
        return std::string("cannot read ") + weight->name + " from " + options_.model_path +
               " again: the file was changed since it was loaded";
      }
      multiply(panel, first, count);
    }
    return {};
  }

  // out [n, count], rows m apart = rows [n, k] x panel [count, k]^T.
  static void Multiply(const float* rows, std::int64_t n, const float* panel, std::int64_t count,
                       std::int64_t k, float* out, std::int64_t m) {
    const dnnl_status_t status =
        dnnl_sgemm('N', 'T', n, count, k, 1.0f, rows, k, panel, k, 0.0f, out, m);
    if (status == dnnl_success) return;
    throw std::runtime_error("dnnl_sgemm(" + std::to_string(n) + ", " + std::to_string(count) +
                             ", " + std::to_string(k) + ") returned " + std::to_string(status));
  }

  // Rows [first, first + count) of the weight, [count, k]; null when they can't be read.
  template <class Value>
  const Value* Panel(const ggml_tensor* weight, std::int64_t first, std::int64_t count) {
    constexpr ggml_type kAsItIs = sizeof(Value) == 4 ? GGML_TYPE_F32 : GGML_TYPE_BF16;
    const bool plain = IsPlain(weight), round = rounds() && sizeof(Value) == 4;
    const char* const data = static_cast<const char*>(weight->data) + first * weight->nb[1];
    if (plain && weight->type == kAsItIs && !round) return reinterpret_cast<const Value*>(data);

    const std::int64_t k = weight->ne[0];
    const auto row_bytes = static_cast<std::int64_t>(ggml_row_size(weight->type, k));
    const std::int64_t chunk = std::max<std::int64_t>(1, kBytesAtOnce / row_bytes);
    const DequantizeRow dequantize = RowDequantizer(weight->type);  // null: f32
    Value* const panel = panel_.Hold<Value>(count * k);
    for (Thread& thread : threads_) {
      thread.row.resize(static_cast<std::size_t>(k));
      if (!plain) thread.packed.resize(static_cast<std::size_t>(chunk * row_bytes));
    }
    std::atomic<bool> failed = false;
#pragma omp parallel for num_threads(options_.n_threads) schedule(static)
    for (std::int64_t begin = 0; begin < count; begin += chunk) {
      Thread& thread = threads_[static_cast<std::size_t>(omp_get_thread_num())];
      const std::int64_t end = std::min(begin + chunk, count);
      const char* source = data + begin * row_bytes;
      if (!plain) {
        source = thread.packed.data();
        if (!file_->ReadRows(weight, first + begin, end - begin, thread.packed.data())) {
          failed = true;
          continue;
        }
      }
      for (std::int64_t row = begin; row < end; ++row, source += row_bytes) {
        Value* const to = panel + row * k;
        float* values = thread.row.data();
        if constexpr (sizeof(Value) == 4) values = to;
        if (dequantize != nullptr) {
          dequantize(source, values, k);
        } else {
          std::memcpy(values, source, static_cast<std::size_t>(row_bytes));
        }
        if constexpr (sizeof(Value) != 4) ToBf16(values, to, k);
        if (round) RoundToBf16(values, k);
      }
    }
    return failed ? nullptr : panel;
  }

  const Options options_;
  std::unique_ptr<Bf16Matmul> bf16_;  // null: f32 products
  std::unique_ptr<WeightFile> file_;
  std::vector<Thread> threads_;
  Buffer panel_, rows_;
};

}  // namespace

std::unique_ptr<LinearLayers> LinearLayers::Make(const Options& options) {
  return std::make_unique<OneDnnLinear>(options);
}

// From AVX2 on f32 at the rate of multiply-adds beats ggml's dots of integers; where bf16 is faster
// than f32 it beats both.
bool LinearLayers::PaysHere() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2");
#else
  return false;
#endif
}

LinearLayers::Precision LinearLayers::BestPrecision() {
  return Bf16IsFaster() && Bf16Matmul::CpuHasIt() ? Precision::kBf16 : Precision::kF32;
}

}  // namespace aster
