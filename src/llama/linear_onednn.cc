#include <dnnl.h>
#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <new>
#include <utility>

#include "base/check.h"
#include "ggml-backend.h"
#include "llama/dequantize.h"
#include "llama/linear.h"

namespace aster {
namespace {

// Rows of one product: oneDNN's own buffers grow with rows times panel, and 256 rows were seen to
// be as fast as 512 with 14 MB less.
constexpr std::int64_t kRowsAtOnce = 256;
// Floats of a dequantised panel: small enough to stay in the cache between its two uses.
constexpr std::int64_t kPanelFloats = std::int64_t{1} << 20;

// Floats that go back to the system when they are let go: malloc would keep them.
class Panel {
 public:
  Panel() = default;
  Panel& operator=(Panel&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  Panel(const Panel&) = delete;
  ~Panel() {
    if (data_ != nullptr) munmap(data_, bytes_);
  }

  float* data() const { return data_; }
  // At least n floats; what was held before is lost.
  void Hold(std::size_t n) {
    if (n * sizeof(float) <= bytes_) return;
    *this = Panel();
    void* const mapped = mmap(nullptr, n * sizeof(float), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    data_ = static_cast<float*>(mapped);
    bytes_ = n * sizeof(float);
  }

 private:
  float* data_ = nullptr;
  std::size_t bytes_ = 0;
};

class OneDnnLinear : public LinearLayers {
 public:
  explicit OneDnnLinear(int n_threads) : n_threads_(n_threads) {}

  bool Serves(const ggml_tensor* op) const override {
    const ggml_tensor* weight = op->src[0];
    const ggml_tensor* rows = op->src[1];
    if (rows->type != GGML_TYPE_F32 || rows->ne[1] < kMinRows) return false;
    if (!ggml_is_contiguous(weight) || !ggml_is_contiguous(rows)) return false;
    if (ggml_n_dims(weight) > 2 || ggml_n_dims(rows) > 2) return false;
    if (weight->op != GGML_OP_NONE || weight->view_src != nullptr) return false;
    if (op->op_params[1] == GGML_HINT_SRC0_IS_HADAMARD) return false;
    return weight->type == GGML_TYPE_F32 || RowDequantizer(weight->type) != nullptr;
  }

  void Compute(ggml_tensor* op) override {
    const ggml_tensor* weight = op->src[0];
    const std::int64_t k = weight->ne[0];
    const std::int64_t m = weight->ne[1];
    const std::int64_t n = op->src[1]->ne[1];
    const auto* rows = static_cast<const float*>(op->src[1]->data);
    auto* out = static_cast<float*>(op->data);
    omp_set_num_threads(n_threads_);
    const std::int64_t panel_rows = std::clamp<std::int64_t>(kPanelFloats / k, 1, m);
    for (std::int64_t first = 0; first < m; first += panel_rows) {
      const std::int64_t count = std::min(panel_rows, m - first);
      const float* panel = Dequantise(weight, first, count);
      for (std::int64_t row = 0; row < n; row += kRowsAtOnce) {
        Multiply(rows + row * k, std::min(kRowsAtOnce, n - row), panel, count, k,
                 out + row * m + first, m);
      }
    }
  }

  void ReleasePanel() override { panel_ = Panel(); }

 private:
  // out [n, count], rows m apart = rows [n, k] x panel [count, k]^T.
  static void Multiply(const float* rows, std::int64_t n, const float* panel, std::int64_t count,
                       std::int64_t k, float* out, std::int64_t m) {
    const dnnl_status_t status =
        dnnl_sgemm('N', 'T', n, count, k, 1.0f, rows, k, panel, k, 0.0f, out, m);
    ASTER_CHECK(status == dnnl_success, "dnnl_sgemm(%lld, %lld, %lld) returned %d",
                static_cast<long long>(n), static_cast<long long>(count), static_cast<long long>(k),
                static_cast<int>(status));
  }

  // Rows [first, first + count) of the weight as f32 [count, k].
  const float* Dequantise(const ggml_tensor* weight, std::int64_t first, std::int64_t count) {
    const char* source = static_cast<const char*>(weight->data) + first * weight->nb[1];
    if (weight->type == GGML_TYPE_F32) return reinterpret_cast<const float*>(source);
    const std::int64_t k = weight->ne[0];
    panel_.Hold(static_cast<std::size_t>(count * k));
    const DequantizeRow dequantize = RowDequantizer(weight->type);
#pragma omp parallel for num_threads(n_threads_) schedule(static)
    for (std::int64_t row = 0; row < count; ++row) {
      dequantize(source + row * weight->nb[1], panel_.data() + row * k, k);
    }
    return panel_.data();
  }

  int n_threads_;
  Panel panel_;
};

}  // namespace

std::unique_ptr<LinearLayers> LinearLayers::Make(int n_threads) {
  return std::make_unique<OneDnnLinear>(n_threads);
}

bool LinearLayers::PaysHere() {
#if defined(__x86_64__)
  // ggml's AMX path is far ahead of f32; without AMX f32 at the FMA rate beats its integer dots.
  // GCC 12 has no __builtin_cpu_supports("amx-tile"): CPUID leaf 7, EDX bit 24.
  unsigned eax = 7, ebx = 0, ecx = 0, edx = 0;
  __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  const bool has_amx = (edx >> 24 & 1) != 0;
  return !has_amx && __builtin_cpu_supports("avx2");
#else
  return false;
#endif
}

}  // namespace aster
