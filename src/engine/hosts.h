// One context over several hosts. The query host (rank 0) tells the others what to encode, runs the
// model for query and answer, and has them attend over the KV that they hold: per layer q goes out
// and (out, lse) comes back, merged by log-sum-exp. A context host runs ServeHost and nothing else.
//
// Every message starts with its kind. What comes from a peer is checked before it is used: the
// message's length, the model, layers, shapes and positions.
// Source: Star Attention, arXiv 2411.17116, sections 2.2 and 2.3.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "aster/model.h"
#include "aster/plan.h"
#include "cluster/group.h"
#include "llama/device.h"

namespace aster::internal {

class ModelState;

// The hosts of one query host's contexts.
struct HostTeam {
  Group* group = nullptr;
  Patience patience{30};        // longest silence of a host that has work
  std::vector<double> weights;  // speed of each host against the others; empty: all alike
  std::uint64_t next_context = 1;
  // Held for as long as what is said belongs together: an encoding, a pass of the model, a
  // farewell.
  std::mutex talk;

  // Lets the model's contexts be spread over the group from now on.
  static void Join(Model& model, std::shared_ptr<HostTeam> hosts);
  // The blocks of each host.
  std::vector<KeyRange> Deal(const Plan& plan) const;
  // Tokens of a plan that the query host holds.
  std::int64_t OwnTokens(const Plan& plan) const;
  // Tells the other hosts that there is no more work: their ServeHost returns.
  Status End();
};

// The work of a context host: until End, or until the query host is gone. Errors: kWorld, told to
// the query host too where it can still be reached.
Status ServeHost(Model& model, Group& group);
// Tells the query host why this host cannot work.
void RefuseToServe(Group& group, const std::string& why);

// The part of one context that the other hosts hold, seen from the query host.
class RemoteContext : public OtherKeys {
 public:
  RemoteContext(std::shared_ptr<HostTeam> hosts, std::shared_ptr<ModelState> model);
  ~RemoteContext() override;  // the hosts forget it

  // Blocks of the query host itself.
  KeyRange own_blocks() const { return runs_.front(); }
  // Deals the blocks out and tells every other host to start on its own.
  Status Begin(std::span<const Token> tokens, const Plan& plan);
  // Waits until all are done; on_progress(tokens that they have encoded) as they tell. Raised,
  // `stop` stops them: kCancelled.
  Status Wait(const std::function<void(std::int64_t)>& on_progress, const std::stop_token& stop);
  // Stops them and waits until they have: the context comes to nothing.
  void Stop();
  // Keys from this position on are no longer part of the context.
  void Truncate(std::int64_t n);

  Status Ask(int layer, const AttendCall& call) override;
  Status Join(const AttendCall& call) override;

 private:
  Status TellToStop();
  Result<std::int64_t> WaitFor(int rank, const std::function<void(std::int64_t)>& on_progress,
                               const std::stop_token& stop);

  std::shared_ptr<HostTeam> hosts_;
  std::shared_ptr<ModelState> model_;
  std::uint64_t id_;
  std::int64_t end_ = 0;        // keys before it are visible
  std::vector<KeyRange> runs_;  // blocks of each rank
  std::vector<KeyRange> held_;  // their tokens
  std::vector<int> asked_;      // ranks whose answer is on its way
  bool told_to_stop_ = false;
  Bytes message_;
};

}  // namespace aster::internal
