// A context over several hosts, by MPI: each encodes and holds its share of the blocks, and every
// query sees them all.
//
//   auto hosts = aster::Hosts::FromEnvironment({});       // a group of one outside mpirun
//   auto model = aster::Model::Load("model.gguf", {});
//   if (hosts->rank() > 0) return hosts->Serve(*model);   // a context host, until rank 0 is done
//   hosts->Share(*model);                                 // star contexts are spread from now on
//
// MPI knows no secrets and no strangers: run it in networks that you trust.
#pragma once

#include <memory>
#include <vector>

#include "aster/model.h"
#include "aster/status.h"

namespace aster {

struct HostOptions {
  double timeout = 30;          // seconds that a host with work may be silent
  std::vector<double> weights;  // speed of each host against the others; missing ones are 1
};

class Hosts {
 public:
  // The processes that mpirun (or srun) started together with this one; one host where it started
  // none. Call it once. Errors: kWorld when there are several and this build has no MPI, or when
  // MPI fails; kInvalidArgument when there are more weights than hosts.
  static Result<Hosts> FromEnvironment(const HostOptions& options);

  int rank() const;  // 0 is the query host
  int size() const;

  // On rank 0: star contexts of this model that are encoded from now on are spread over the hosts.
  void Share(Model& model);
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
