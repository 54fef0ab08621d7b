// Products of bf16 by oneDNN, for CPUs that multiply it: AVX512-BF16, AMX.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

namespace aster {

class Bf16Matmul {
 public:
  // Whether oneDNN multiplies bf16 by such instructions on this CPU.
  static bool CpuHasIt();

  Bf16Matmul();
  ~Bf16Matmul();

  // out [n, count], its rows out_stride apart = rows [n, k] x panel [count, k]^T, in f32. On the
  // OpenMP threads of the caller, whose AMX tiles are left as they were. Throws dnnl::error.
  void Multiply(const std::uint16_t* rows, std::int64_t n, const std::uint16_t* panel,
                std::int64_t count, std::int64_t k, float* out, std::int64_t out_stride);
  // Gives the memory of packed panels back.
  void Release();

 private:
  struct Product;  // of one shape
  struct Impl;
  const Product& Find(std::int64_t n, std::int64_t count, std::int64_t k, std::int64_t out_stride);

  std::unique_ptr<Impl> impl_;
};

}  // namespace aster
