// aster bench hosts: an encoding over hosts, rehearsed on this machine.
#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "aster/rehearsal.h"
#include "base/system.h"
#include "commands.h"
#include "numbers.h"
#include "output.h"
#include "progress_view.h"
#include "session.h"
#include "signals.h"

namespace aster::cli {
namespace {

struct HostsCase {
  std::int64_t n_context = 0;
  int n_hosts = 1;
  HostsWay way = HostsWay::kRecompute;

  bool is_ring() const { return way == HostsWay::kRing || way == HostsWay::kContiguous; }
  Spread spread() const {
    if (is_ring()) return Spread::kRing;
    return way == HostsWay::kBroadcast ? Spread::kBroadcast : Spread::kRecompute;
  }
  std::string name() const {
    if (n_hosts == 1) return is_ring() ? "dense, alone" : "star, alone";
    if (way == HostsWay::kContiguous) return "ring, contiguous";
    return is_ring() ? "ring" : "star, " + std::string(SpreadName(spread()));
  }
};

struct HostsResult {
  HostsCase of;
  Plan plan;
  std::vector<HostTrace> traces;  // of the hosts that were run
  std::vector<double> done;       // seconds, by link
  std::vector<double> predicted;  // by the cost model
};

class BenchHosts {
 public:
  BenchHosts(const Options& options, const LoadedModel& loaded)
      : options_(options), bench_(options.bench_hosts), loaded_(loaded) {}

  Result<int> Run() {
    std::vector<std::pair<HostsCase, Plan>> cases;
    if (Status status = MakeCases(cases); !status) return status.error();
    view_.Say("measuring this machine");
    speed_ = MeasureHostSpeed(loaded_.model);
    view_.Clear();
    output_.Write(Head());
    for (const auto& [one, plan] : cases) {
      const Result<HostsResult> result = Measure(one, plan);
      if (!result && result.error().kind == ErrorKind::kCancelled) break;
      if (!result) return result.error();
      output_.Write(Row(*result));
      if (output_.Closed()) break;
    }
    if (Status written = output_.status(); !written) return written.error();
    return work_.signal() != 0 ? ExitCodeOf(work_.signal()) : 0;
  }

 private:
  Result<Plan> PlanOf(const HostsCase& one) const {
    PlanOptions plan = options_.plan;
    plan.ubatch_size = loaded_.model.ubatch_size();
    plan.attention = one.is_ring() ? Attention::kRing : Attention::kStar;
    plan.block_size =
        bench_.block_size > 0 ? bench_.block_size : (one.n_context + one.n_hosts - 1) / one.n_hosts;
    if (one.is_ring()) {
      plan.block_size = 0;
      plan.anchor_size = -1;
    }
    Result<Plan> made = MakePlan(one.n_context, plan);
    if (!made || one.n_hosts == 1 || one.is_ring()) return made;
    if (Status shareable = CheckSpread(*made); !shareable) return shareable.error();
    return made;
  }

  // Of one host there is one way for star and one that is exact.
  Status MakeCases(std::vector<std::pair<HostsCase, Plan>>& cases) const {
    for (const std::int64_t n_context : bench_.n_contexts) {
      const Status fits = loaded_.model.CheckLength(n_context, options_.allow_long);
      if (!fits) return fits;
      for (const std::int64_t n_hosts : bench_.n_hosts) {
        bool has_star = false, has_ring = false;
        for (const HostsWay way : bench_.ways) {
          const HostsCase one{n_context, static_cast<int>(n_hosts), way};
          bool& has = one.is_ring() ? has_ring : has_star;
          if (n_hosts == 1 && std::exchange(has, true)) continue;
          const Result<Plan> plan = PlanOf(one);
          if (!plan) return plan.error();
          cases.emplace_back(one, *plan);
        }
      }
    }
    return Ok();
  }

  // The first, and of the others the one with the most work; or all.
  std::vector<std::size_t> HostsToRun(const HostsCase& one,
                                      const std::vector<HostShare>& shares) const {
    std::vector<std::size_t> hosts;
    if (bench_.all_hosts) {
      for (std::size_t i = 0; i < shares.size(); ++i) hosts.push_back(i);
      return hosts;
    }
    const auto work = [&](std::size_t i) {
      return static_cast<double>(shares[i].n_encoded()) * speed_.seconds_per_token +
             CausalPairs(shares[i], one.is_ring()) * speed_.seconds_per_pair;
    };
    // The last of a chain sends nothing on, so it cannot stand for those before it; its work is
    // never the most, as its blocks are the last dealt.
    const bool is_chain = one.spread() == Spread::kBroadcast && shares.size() > 2;
    std::size_t most = is_chain ? 1 : shares.size() - 1;
    for (std::size_t i = 1; i + (is_chain ? 1 : 0) < shares.size(); ++i) {
      if (work(i) > work(most)) most = i;
    }
    // In a ring nobody is ahead of the slowest.
    if (!one.is_ring() && shares.size() > 1) hosts.push_back(0);
    hosts.push_back(most);
    return hosts;
  }

  Result<HostsResult> Measure(const HostsCase& one, const Plan& plan) {
    HostsResult result{one, plan, {}, {}, {}};
    std::vector<HostShare> shares = one.way == HostsWay::kContiguous && one.n_hosts > 1
                                        ? DealContiguousRing(one.n_context, one.n_hosts)
                                        : DealShares(plan, one.spread(), one.n_hosts, {});
    std::erase_if(shares, [](const HostShare& share) { return share.passes.empty(); });
    std::vector<HostTrace> traces(shares.size());
    const std::vector<std::size_t> hosts = HostsToRun(one, shares);
    for (const std::size_t host : hosts) {
      view_.Say(FormatCount(one.n_context) + " tokens, " + one.name() + ", host " +
                std::to_string(host + 1) + " of " + std::to_string(shares.size()));
      Result<HostTrace> trace =
          RehearseHost(loaded_.model, plan, one.spread(), shares, host, work_.token());
      view_.Clear();
      if (!trace) return trace.error();
      traces[host] = *trace;
      result.traces.push_back(std::move(*trace));
    }
    for (std::size_t i = 0; i < traces.size() && !bench_.all_hosts; ++i) {
      if (std::find(hosts.begin(), hosts.end(), i) == hosts.end()) traces[i] = traces[hosts.back()];
    }
    for (const double gbit : bench_.links) {
      HostSpeed speed = speed_;
      speed.link_bytes_per_second = gbit * 1e9 / 8;
      speed.link_seconds = bench_.round_trip_ms / 2000;
      result.done.push_back(
          ReplaySeconds(traces, one.is_ring(), speed.link_bytes_per_second, speed.link_seconds));
      result.predicted.push_back(EncodeSeconds(shares, one.spread(), plan.anchor_size, speed));
    }
    return result;
  }

  std::string Head() const {
    if (options_.bench.format != BenchFormat::kMarkdown) return "";
    std::string head =
        "| context | block, anchor | hosts | way | slowest host's work, s | sent a host |";
    std::string rule = "|--:|---|--:|---|--:|--:|";
    for (const char* const what : {" done at ", " predicted at "}) {
      for (const double gbit : bench_.links) {
        head += what + FormatRate(gbit) + " Gbit/s, s |";
        rule += "--:|";
      }
    }
    return head + "\n" + rule + "\n";
  }

  // The most of something over the hosts that were run.
  template <class F>
  static auto Most(const HostsResult& result, F of) {
    auto most = of(result.traces.front());
    for (const HostTrace& trace : result.traces) most = std::max(most, of(trace));
    return most;
  }

  std::string Row(const HostsResult& result) const {
    const HostsCase& one = result.of;
    const Plan& plan = result.plan;
    const std::int64_t n_bytes = Most(result, std::mem_fn(&HostTrace::bytes_sent));
    if (options_.bench.format == BenchFormat::kMarkdown) {
      std::string row = "| " + FormatCount(one.n_context) + " | ";
      row +=
          one.is_ring() ? "" : FormatCount(plan.block_size) + ", " + FormatCount(plan.anchor_size);
      row += " | " + FormatCount(one.n_hosts) + " | " + one.name() + " | " +
             FormatRate(Most(result, std::mem_fn(&HostTrace::work))) + " | " +
             FormatBytes(n_bytes) + " |";
      for (const auto* const seconds : {&result.done, &result.predicted}) {
        for (const double s : *seconds) row += " " + FormatRate(s) + " |";
      }
      return row + "\n";
    }
    const Model& model = loaded_.model;
    nlohmann::ordered_json json;
    json["model"] = loaded_.path;
    json["isa"] = model.isa();
    json["linear"] = model.linear();
    json["threads"] = model.n_threads();
    json["n_context"] = one.n_context;
    json["hosts"] = one.n_hosts;
    json["way"] = one.name();
    json["block_size"] = plan.block_size;
    json["anchor_size"] = plan.anchor_size;
    auto work = nlohmann::json::array();
    for (const HostTrace& trace : result.traces) work.push_back(trace.work());
    json["work_s"] = work;
    json["kv_bytes"] = Most(result, [](const HostTrace& trace) { return trace.kv_bytes; });
    json["bytes_sent"] = n_bytes;
    json["messages_sent"] = Most(result, std::mem_fn(&HostTrace::messages_sent));
    json["link_gbit"] = bench_.links;
    json["round_trip_ms"] = bench_.round_trip_ms;
    json["done_s"] = result.done;
    json["predicted_s"] = result.predicted;
    json["s_per_token"] = speed_.seconds_per_token;
    json["s_per_pair"] = speed_.seconds_per_pair;
    return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  }

  const Options& options_;
  const BenchHostsOptions& bench_;
  const LoadedModel& loaded_;
  HostSpeed speed_;
  Output output_;
  Interruptible work_;
  ProgressView view_{options_.progress && StderrIsTerminal()};
};

}  // namespace

Result<int> RunBenchHosts(const Options& options) {
  const Result<LoadedModel> loaded = LoadModel(options);
  if (!loaded) return loaded.error();
  return BenchHosts(options, *loaded).Run();
}

}  // namespace aster::cli
