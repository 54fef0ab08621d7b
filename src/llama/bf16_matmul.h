// Products of bf16 by oneDNN, for CPUs that multiply it: AVX512-BF16, AMX.
#pragma once

#include <cstdint>
#include <memory>

namespace aster {

class Bf16Matmul {
 public:
  // Whether oneDNN multiplies bf16 by such instructions on this CPU.
  static bool CpuHasIt();

  Bf16Matmul();
  ~Bf16Matmul();

  // n, up to a whole number of the rows that are multiplied at once.
  static std::int64_t PaddedRows(std::int64_t n);

  // out [n, count], its rows out_stride apart = rows [n, k] x panel [count, k]^T, in f32. `rows`
  // has PaddedRows(n) of them, of which those behind n are read and go nowhere. On the OpenMP
  // threads of the caller, whose AMX tiles are left as they were. Throws dnnl::error.
  void Multiply(const std::uint16_t* rows, std::int64_t n, const std::uint16_t* panel,
                std::int64_t count, std::int64_t k, float* out, std::int64_t out_stride);
  // Gives the memory of packed panels back.
  void Release();

 private:
  struct Product;  // of one shape
  struct Impl;

  std::unique_ptr<Impl> impl_;
};

}  // namespace aster
