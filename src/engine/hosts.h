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
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "aster/hosts.h"
#include "aster/model.h"
#include "aster/plan.h"
#include "aster/profile.h"
#include "aster/spread.h"
#include "cluster/group.h"
#include "engine/key_route.h"
#include "kvstore/kv_store.h"
#include "llama/device.h"

namespace aster::internal {

class ModelState;

// The hosts of one query host's contexts.
struct HostTeam {
  Group* group = nullptr;
  Patience patience{30};  // of a host that has work, where the group does not tell life
  HostOptions options;    // timeout aside
  std::uint64_t next_context = 1;
  // Held for as long as what is said belongs together: an encoding, a pass of the model, a
  // farewell.
  std::mutex talk;
  std::optional<HostSpeed> speed;  // once it was measured
  std::vector<int> asked;          // ranks whose part of an answer is still to be heard

  int size() const { return group != nullptr ? group->size() : 1; }
  // Lets the model's contexts be spread over the group from now on.
  static void Join(Model& model, std::shared_ptr<HostTeam> hosts);
  // As Hosts::Choose. REQUIRES: `talk` is held.
  Result<SpreadChoice> Choose(ModelState& model, const Plan& plan);
  // The next message of a host that is at work.
  Result<Bytes> Hear(int rank) const;
  // Hears what a step that failed between asking and hearing has left: it would be taken for the
  // next one's. REQUIRES: `talk` is held.
  Status HearTheRest();
  // Tells the other hosts that there is no more work: their ServeHost returns.
  Status End();
};

// The work of a context host: until End, or until the query host is gone. Errors: kWorld, told to
// the query host too where it can still be reached.
// patience: how long a neighbour may send no keys.
Status ServeHost(Model& model, Group& group, Patience patience);
// Tells the query host why this host cannot work.
void RefuseToServe(Group& group, const std::string& why);

// The part of one context that the other hosts hold, seen from the query host.
class RemoteContext : public OtherKeys {
 public:
  RemoteContext(std::shared_ptr<HostTeam> hosts, std::shared_ptr<ModelState> model);
  ~RemoteContext() override;  // the hosts forget it

  // Tells every other host to start on its share, then does the query host's own, into `store`, and
  // waits until all are done. on_own and on_others tell how far that is: of a pass of the own
  // share, and the others' tokens. A raised `stop` stops all: kCancelled.
  struct Progress {
    std::function<void(std::size_t pass, double done)> on_own;
    std::function<void(std::int64_t n_tokens)> on_others;
  };
  Status Encode(std::span<const Token> tokens, const Plan& plan, const SpreadChoice& choice,
                KvStore& store, Profile* profile, const Progress& progress,
                const std::stop_token& stop);
  // Keys from this position on are no longer part of the context.
  void Truncate(std::int64_t n);

  Status Ask(int layer, std::span<const AttendCall> calls) override;
  Status Join(int layer, std::span<const AttendCall> calls) override;

 private:
  Status Begin(std::span<const Token> tokens, const Plan& plan, const SpreadChoice& choice);
  Status EncodeOwn(std::span<const Token> tokens, const Plan& plan, const SpreadChoice& choice,
                   KvStore& store, Profile* profile, const Progress& progress,
                   const std::stop_token& stop, KeyRoute* route);
  Error FirstReason(const Error& seen);
  Status TellToStop();
  Status Hear(int rank, const Progress& progress);
  Status HearAll(const Progress& progress);
  Status Wait(const Progress& progress, const std::stop_token& stop);

  std::shared_ptr<HostTeam> hosts_;
  std::shared_ptr<ModelState> model_;
  std::uint64_t id_;
  std::int64_t end_ = 0;  // keys before it are visible
  // Of each rank: the tokens that it holds, and how many it has encoded up to now.
  struct Other {
    std::vector<KeyRange> held;
    std::int64_t n_done = 0;
    bool is_done = false;  // has encoded all, or stopped
    int previous = -1;     // rank that its keys come from, if any does
  };
  std::vector<Other> others_;  // by rank; of the query host itself, nothing
  bool told_to_stop_ = false;
  bool broken_ = false;  // a host failed: no more is to be heard from it
  Bytes message_;
};

}  // namespace aster::internal
