#include "report.h"

#include <sys/resource.h>

#include <nlohmann/json.hpp>

#include "base/system.h"
#include "expectation.h"
#include "numbers.h"

namespace aster::cli {
namespace {

std::int64_t PeakRssBytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;
}

double PerSecond(std::int64_t n, double seconds) {
  return n > 0 && seconds > 0 ? static_cast<double>(n) / seconds : 0;
}

std::string Manner(const Plan& plan) {
  if (plan.attention != Attention::kStar) {
    // The reason, where there is one, starts with the name.
    return plan.reason.empty() ? std::string(AttentionName(plan.attention)) + " attention"
                               : plan.reason;
  }
  return "star attention: " + FormatCount(plan.n_blocks) + " blocks of " +
         FormatCount(plan.block_size) + ", anchor " + FormatCount(plan.anchor_size) + ", " +
         (plan.window > 0 ? "window " + FormatCount(plan.window) + ", " : "") +
         (plan.overlap > 0 ? "overlap " + FormatCount(plan.overlap) + ", " : "") +
         FormatPercent(plan.work_share) + " of dense's work";
}

// Why an answer is not whole; empty when it is.
std::string Cut(Finish finish) {
  switch (finish) {
    case Finish::kMaxTokens:
      return "; answer cut by -n";
    case Finish::kContextFull:
      return "; answer cut: the trained length is used up";
    case Finish::kCancelled:
      return "; answer stopped";
    default:
      return "";
  }
}

nlohmann::json TopLogprobs(const Report& report) {
  auto list = nlohmann::json::array();
  for (const TokenLogprob& top : report.answer.top_logprobs) {
    list.push_back({report.model.TokenText(top.token), top.logprob});
  }
  return list;
}

}  // namespace

double Report::prefill_tokens_per_s() const {
  const std::int64_t n = answer.n_query + (encode_seconds > 0 ? n_context : 0);
  return PerSecond(n, ttft_seconds());
}

double Report::decode_tokens_per_s() const {
  return PerSecond(static_cast<std::int64_t>(answer.tokens.size()) - 1, answer.decode_seconds);
}

std::string_view FinishName(Finish finish) {
  switch (finish) {
    case Finish::kEndOfText:
      return "end_of_text";
    case Finish::kStopString:
      return "stop_string";
    case Finish::kMaxTokens:
      return "max_tokens";
    case Finish::kContextFull:
      return "context_full";
    case Finish::kCancelled:
      return "cancelled";
  }
  return "";
}

std::string PlanLine(const Plan& plan) {
  const std::string expected = Expectation(plan);
  return FormatCount(plan.n_context) + " tokens of context; " + Manner(plan) +
         (expected.empty() ? "" : "; " + expected);
}

std::string HostsLine(const Plan& plan, const SpreadChoice& choice) {
  const std::string hosts = FormatCount(std::ssize(choice.shares)) + " hosts: ";
  if (choice.shares.front().n_held() == plan.n_context) {
    return hosts + "rank 0 does all of it" +
           (plan.attention == Attention::kStar || plan.attention == Attention::kRing
                ? ""
                : "; only star and ring are spread");
  }
  const bool ring = choice.spread == Spread::kRing;
  std::string text;
  for (const HostShare& share : choice.shares) {
    const std::int64_t n =
        ring ? share.n_held() : (share.n_held() + plan.block_size - 1) / plan.block_size;
    text += (text.empty() ? "" : " + ") + FormatCount(n);
  }
  if (ring) return hosts + text + " tokens";
  text += " blocks";
  if (plan.anchor_size == 0) return hosts + text;
  text += choice.spread == Spread::kBroadcast ? ", anchor by broadcast" : ", anchor recomputed";
  return hosts + text + (choice.reason.empty() ? "" : " (" + choice.reason + ")");
}

std::string MemoryLine(std::int64_t kv_bytes, std::int64_t available_bytes) {
  return "KV memory " + FormatBytes(kv_bytes) +
         (available_bytes > 0 ? " of " + FormatBytes(available_bytes) + " available" : "");
}

std::string SummaryLine(const Report& r) {
  const std::string decode = r.answer.tokens.size() > 1
                                 ? ", decode " + FormatRate(r.decode_tokens_per_s()) + " tokens/s"
                                 : "";
  return "TTFT " + FormatSeconds(r.ttft_seconds()) + ", prefill " +
         FormatRate(r.prefill_tokens_per_s()) + " tokens/s" + decode + ", KV " +
         FormatBytes(r.context.kv_bytes()) + ", " + std::string(r.model.isa()) + ", " +
         FormatCount(r.model.n_threads()) + (r.model.n_threads() == 1 ? " thread" : " threads") +
         Cut(r.answer.finish);
}

std::string JsonLine(const Report& r) {
  const Plan& plan = r.context.plan();
  nlohmann::ordered_json json;
  json["answer"] = r.answer.text;
  json["finish"] = FinishName(r.answer.finish);
  json["attention"] = AttentionName(plan.attention);
  json["n_context"] = r.n_context;
  json["n_query"] = r.answer.n_query;
  json["n_generated"] = r.answer.tokens.size();
  json["block_size"] = plan.block_size;
  json["anchor_size"] = plan.anchor_size;
  json["window"] = plan.window;
  json["overlap"] = plan.overlap;
  json["n_blocks"] = plan.n_blocks;
  json["isa"] = r.model.isa();
  json["linear"] = r.model.linear();
  json["model"] = r.model_name;
  json["threads"] = r.model.n_threads();
  json["ttft_ms"] = 1000 * r.ttft_seconds();
  json["prefill_tokens_per_s"] = r.prefill_tokens_per_s();
  json["decode_tokens_per_s"] = r.decode_tokens_per_s();
  json["kv_bytes"] = r.context.kv_bytes();
  json["peak_rss_bytes"] = PeakRssBytes();
  json["top_logprobs"] = TopLogprobs(r);
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace aster::cli
