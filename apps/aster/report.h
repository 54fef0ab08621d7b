// What is said about the work: the plan before it, a summary or a JSON object after it.
#pragma once

#include <cstdint>
#include <string>

#include "aster/context.h"
#include "aster/hosts.h"
#include "aster/model.h"
#include "aster/plan.h"

namespace aster::cli {

// One answer with its circumstances.
struct Report {
  const Model& model;
  std::string model_name;  // what -m said, or the file
  const Context& context;
  const Answer& answer;
  std::int64_t n_context = 0;  // tokens the query saw
  double encode_seconds = 0;   // of this answer's wait: 0 when the context was there already

  double ttft_seconds() const { return encode_seconds + answer.query_seconds; }
  // Tokens that had to be run before the first one of the answer, per second of TTFT.
  double prefill_tokens_per_s() const;
  // 0 for an answer of fewer than two tokens.
  double decode_tokens_per_s() const;
};

// "6,498 tokens of context; star attention: 4 blocks of 1,792, anchor 1,792, 68 % of dense's work;
// expect 98 % (92 to 104) of dense's RULER score, as seen on 2 small models at 4K to 8K".
std::string PlanLine(const Plan& plan);
// "3 hosts: 2 + 1 + 1 blocks", or that one host does it all.
std::string HostsLine(const Plan& plan, const SpreadChoice& choice);
// "KV memory 147.5 MB of 24.3 GB available".
std::string MemoryLine(std::int64_t kv_bytes, std::int64_t available_bytes);
// "TTFT 3.72 s, prefill 1,757 tokens/s, decode 52.3 tokens/s, KV 150.0 MB, avx512, 2 threads".
std::string SummaryLine(const Report& report);
// The object of --json, on one line. Bytes that are no UTF-8 (tokens that end within a character)
// become U+FFFD.
std::string JsonLine(const Report& report);

std::string_view FinishName(Finish finish);

}  // namespace aster::cli
