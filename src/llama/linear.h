// Linear layers of a prefill by a matrix library: dequantise a panel of the weight to f32, multiply
// all rows with it, go on to the next. Decode (few rows) stays ggml's, whose packed weights stream
// faster. One of linear_onednn.cc and linear_none.cc is built.
#pragma once

#include <cstdint>
#include <memory>

struct ggml_tensor;

namespace aster {

class LinearLayers {
 public:
  // Fewer rows than this are bound by reading the weight, which ggml reads packed.
  static constexpr std::int64_t kMinRows = 48;

  // Null in a build without oneDNN. n_threads >= 1.
  static std::unique_ptr<LinearLayers> Make(int n_threads);
  // Whether oneDNN was seen to beat ggml on a CPU like this one.
  static bool PaysHere();
  virtual ~LinearLayers() = default;

  // A MUL_MAT node of a plain host weight [k, m] and enough f32 rows [k, n].
  virtual bool Serves(const ggml_tensor* op) const = 0;
  // Computes dst [m, n] = weight^T x rows. REQUIRES: Serves(op).
  virtual void Compute(ggml_tensor* op) = 0;
  // Gives the panel's memory back; the next Compute takes it again.
  virtual void ReleasePanel() = 0;
};

}  // namespace aster
