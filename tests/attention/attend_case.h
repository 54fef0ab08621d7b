// One named case of attention: its random inputs, what the law says, how a kernel is held to it.
#pragma once

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "attention/attend.h"
#include "attention/reference.h"
#include "pack.h"

namespace aster {

struct AttendCase {
  std::string name;
  int n_heads = 4;
  int n_kv_heads = 2;
  int head_dim = 64;
  int head_dim_v = 64;
  std::int64_t n_tokens = 7;
  std::int64_t first_position = 100;
  std::vector<KeyRange> ranges = {};  // none given: everything up to the last token
  bool see_nothing = false;           // no ranges at all
  Window window = {};
  float softcap = 0;
  bool sinks = false;
  float score_size = 1;        // standard deviation of the scores
  bool constant_rows = false;  // all keys of a head alike, so all weights of a row
  int n_threads = 1;           // threads that wait for each other cost a busy machine much time
  int n_threads_now = 0;       // of the call; 0 = n_threads
};
std::ostream& operator<<(std::ostream& out, const AttendCase& c);

struct AttendResult {
  std::vector<float> out;  // [n_tokens, n_heads, head_dim_v]
  std::vector<float> lse;  // [n_tokens, n_heads]
};

struct NaiveResult : AttendResult {
  // [n_tokens, n_heads]: root of the sum of the squares of a row's weights, which add up to 1.
  std::vector<float> weight_norm;
};

// The inputs of a case. Keys that no row sees hold NaN, their values a huge number, so that one
// that leaks is seen.
class AttendData {
 public:
  AttendData(const AttendCase& c, std::uint32_t seed);

  AttendResult Run(const Kernels& kernels) const;
  // Several cases in one pass.
  static std::vector<AttendResult> RunTogether(const Kernels& kernels, int n_threads,
                                               const std::vector<AttendData>& all);
  ReferenceResult Reference() const;
  // The plain two-pass code in float, with Q and the weights rounded as the kernels round them.
  NaiveResult Naive(bool rounds_to_bf16) const;
  float MaxValue() const;  // largest |v| that a row sees

 private:
  AttendCall Call() const;
  AttendCall CallInto(AttendResult* result) const;
  bool IsVisible(std::int64_t key) const;

  AttendCase case_;
  std::vector<KeyRange> ranges_;
  std::vector<float> q_, k_, v_, sinks_;
  std::unique_ptr<PackedKv> packed_;
};

// Holds `kernels` to the law: finite where it is, and an error at most twice that of the naive code
// in the same precision, in bf16 row by row. Failures name case, ISA, index, got, want and seed.
void ExpectLawful(const AttendCase& c, const Kernels& kernels, std::uint32_t seed);

}  // namespace aster
