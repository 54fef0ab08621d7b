// A suite that runs once per instruction set, and says which this CPU lacks.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "attention/kernels.h"

namespace aster {

#if defined(__x86_64__)
// simde/*_emulated.cc
extern const Kernels kAvx512EmulatedKernels, kAvx512Bf16EmulatedKernels, kAmxEmulatedKernels;
#endif

inline const Kernels* FindKernels(std::string_view name) {
  for (const Kernels* const* k = AllKernels(); *k != nullptr; ++k) {
    if (name == (*k)->name) return *k;
  }
#if defined(__x86_64__)
  for (const Kernels* k :
       {&kAvx512EmulatedKernels, &kAvx512Bf16EmulatedKernels, &kAmxEmulatedKernels}) {
    if (name == k->name) return k;
  }
#endif
  return nullptr;
}

class IsaTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    kernels_ = FindKernels(GetParam());
    if (kernels_ == nullptr) GTEST_SKIP() << GetParam() << " is not part of this build";
    if (!CanRun(*kernels_)) GTEST_SKIP() << "this CPU lacks " << GetParam();
  }
  const Kernels& kernels() const { return *kernels_; }

 private:
  const Kernels* kernels_ = nullptr;
};

#define ASTER_FOR_EACH_ISA(Suite)                                                  \
  INSTANTIATE_TEST_SUITE_P(                                                        \
      Isa, Suite,                                                                  \
      testing::Values("scalar", "avx2", "avx512", "avx512_emulated", "avx512bf16", \
                      "avx512bf16_emulated", "amx", "amx_emulated"),               \
      [](const auto& isa) { return std::string(isa.param); })

}  // namespace aster
