// One case of `aster bench` and what was measured of it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "aster/model.h"
#include "aster/plan.h"
#include "aster/profile.h"
#include "command_line.h"

namespace aster::cli {

struct BenchCase {
  PlanOptions plan;           // attention, block and anchor
  std::int64_t n_prompt = 0;  // of a prefill; 0 = a decode
  std::int64_t n_depth = 0;   // of a decode: tokens before the first
  std::int64_t n_generated = 0;
  Attention asked = Attention::kAuto;  // the plan's, before one block made it dense

  bool is_prefill() const { return n_prompt > 0; }
  // Tokens to encode; one more is the query.
  std::int64_t n_context() const {
    return std::max<std::int64_t>(is_prefill() ? n_prompt - 1 : n_depth, 1);
  }
  std::string test() const;  // "pp8192", "tg32@d8192"
};

struct BenchResult {
  BenchCase of;
  Plan plan;                      // of the context
  std::vector<double> seconds;    // a sample each: to the first token, or of all generated ones
  std::vector<Profile> profiles;  // of a prefill, a sample each
  std::int64_t kv_bytes = 0;
  std::int64_t rss_before = 0;  // bytes resident before the case
  std::int64_t peak_rss = 0;    // bytes, while the case ran
  double check_difference = 0;  // see Bench::Difference

  std::int64_t n_tokens() const { return of.is_prefill() ? of.n_prompt : of.n_generated; }
  double rate_mean() const;       // tokens/s
  double rate_deviation() const;  // of the samples, n - 1 in the denominator; 0 for one
  // What the peak was expected to be: what was resident, and the KV store's pages.
  std::int64_t rss_predicted() const { return rss_before + kv_bytes; }
};

// The model and the machine, the same in every row.
struct BenchSetting {
  const Model& model;
  std::string path;
  std::string cpu;
};

// A table that grows row by row: what comes before the first row, each row, what comes after.
class BenchTable {
 public:
  BenchTable(BenchFormat format, bool profile) : format_(format), profile_(profile) {}
  std::string Head() const;
  std::string Row(const BenchSetting& setting, const BenchResult& result);
  std::string Tail() const;

 private:
  BenchFormat format_;
  bool profile_;
  bool has_rows_ = false;
};

}  // namespace aster::cli
