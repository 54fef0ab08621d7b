// Linear layers of a prefill by a matrix library: dequantise a panel of the weight, multiply all
// rows with it, go on to the next. Decode (few rows) stays ggml's, whose packed weights stream
// faster and stay where they are: weights that ggml has repacked are read from the model's file.
// One of linear_onednn.cc and linear_none.cc is built.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

struct ggml_tensor;

namespace aster {

class LinearLayers {
 public:
  // Fewer rows than this are bound by reading the weight, which ggml reads packed.
  static constexpr std::int64_t kMinRows = 48;

  // What both sides of a product are rounded to; sums are f32. A CPU that does not multiply bf16
  // multiplies the rounded values in f32: as right, slower, for comparison.
  enum class Precision { kF32, kBf16 };

  struct Options {
    int n_threads = 1;
    Precision precision = Precision::kF32;
    std::string model_path;  // where weights that lie repacked in memory are read from
  };

  // Null in a build without oneDNN.
  static std::unique_ptr<LinearLayers> Make(const Options& options);
  // Whether oneDNN was seen to beat ggml on a CPU like this one, and in which precision.
  static bool PaysHere();
  static Precision BestPrecision();
  virtual ~LinearLayers() = default;

  virtual Precision precision() const = 0;
  // A MUL_MAT node of a plain weight [k, m] and f32 rows [k, n], at least kMinRows.
  virtual bool Serves(const ggml_tensor* op) = 0;
  // Computes dst [m, n] = weight^T x rows; empty, or why it could not be done: the model's file was
  // cut or replaced since it was loaded. REQUIRES: Serves(op).
  virtual std::string Compute(ggml_tensor* op) = 0;
  // Gives the memory of panels back; the next Compute takes it again.
  virtual void Release() = 0;
};

}  // namespace aster
