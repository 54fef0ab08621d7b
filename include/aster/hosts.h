// A context over several hosts, by MPI: each encodes and holds its share of the blocks, and every
// query sees them all.
//
//   auto hosts = aster::Hosts::FromEnvironment({});       // a group of one outside mpirun
//   auto model = aster::Model::Load("model.gguf", {});
//   if (hosts->rank() > 0) return hosts->Serve(*model);   // a context host, until rank 0 is done
//   hosts->Share(*model);                                 // contexts are spread from now on
//
// MPI knows no secrets and no strangers: run it in networks that you trust.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "aster/model.h"
#include "aster/plan.h"
#include "aster/spread.h"
#include "aster/status.h"

namespace aster {

// Where the hosts get star's anchor from; see aster/spread.h.
enum class AnchorFrom {
  kAuto,  // what the cost model finds faster, from a measurement of this machine and its links
  kRecompute,
  kBroadcast,
};

struct HostOptions {
  double timeout = 30;          // seconds that a host may give no sign of life
  std::vector<double> weights;  // speed of each host against the others; missing ones are 1
  AnchorFrom anchor = AnchorFrom::kAuto;
  bool bf16_partials = false;  // partial results travel in bf16: half the bytes, 3 digits
};

// How a plan will be spread.
struct SpreadChoice {
  Spread spread = Spread::kRecompute;
  std::vector<HostShare> shares;  // of each host
  std::string reason;             // why auto chose as it did; empty when the caller chose
};

class Hosts {
 public:
  // The processes that mpirun (or srun) started together with this one; one host where it started
  // none. Call it once. Errors: kWorld when there are several and this build has no MPI, or when
  // MPI fails; kInvalidArgument when there are more weights than hosts.
  static Result<Hosts> FromEnvironment(const HostOptions& options);

  int rank() const;  // 0 is the query host
  int size() const;

  // On rank 0: star and ring contexts of this model that are encoded from now on are spread.
  void Share(Model& model);
  // On rank 0: how a context of this plan will be spread; all of it is rank 0's where nothing is.
  // The first time it may take a second to measure. Errors: kWorld when a host does not answer;
  // kInvalidArgument for weights with a ring, whose shares are equal.
  Result<SpreadChoice> Choose(const Model& model, const Plan& plan);
  // On other ranks: works for rank 0 until it is done. Errors: kWorld with the reason, which rank 0
  // is told as well.
  Status Serve(Model& model);
  // On other ranks, instead of Serve: tells rank 0 why there is nothing to serve with.
  void Refuse(const Error& why);

  // On rank 0 tells the others that it is done. Contexts that are spread go first. After a failure
  // between hosts all are ended.
  ~Hosts();
  Hosts(Hosts&&) noexcept;
  Hosts& operator=(Hosts&&) noexcept;

 private:
  struct State;
  explicit Hosts(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace aster
